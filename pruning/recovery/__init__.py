"""Training the damage away: student, teacher and losses give a better student, as a stream of events.

``recovering`` is the one loop; what it makes small is a table of ``losses``.
"""

from pruning.recovery.keeper import keeping
from pruning.recovery.loop import Event, Held, Trained, recovering
from pruning.recovery.losses import LOSSES, Batch
from pruning.recovery.options import Recovery
from pruning.recovery.training import Training

__all__ = ["LOSSES", "Batch", "Event", "Held", "Recovery", "Trained", "Training", "keeping", "recovering"]
