"""Fisher: squared gradients of the loss, which rank weights and say nothing of how much the error rises."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pruning.criteria import METHODS
from pruning.criteria.taylor import weighed
from pruning.network.subject import Subject
from pruning.observe.gradients import gradients
from pruning.progress import Looked
from pruning.registry import knob
from pruning.scores.scores import SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog


@METHODS.add("fisher")
@dataclass(frozen=True)
class Fisher:
    """Squared weight times mean squared gradient of the denoiser's error, halved; of a larger unit, the mean.

    That is the empirical Fisher information in the place of Optimal Brain Damage's curvature (LeCun, Denker and Solla,
    1990). Of a log-likelihood, with outputs drawn from the model, it would be a curvature; of a mean squared error at
    the targets it is none: it grows with the square of the error that is there already, and comes to about 1e-4 of the
    rise when a layer is pruned. It ranks weights. ``gauss-newton`` has a curvature.
    """

    paper: ClassVar = "arXiv:1801.05787"
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "gradients"
    buckets: int = knob(4, "timestep buckets that the chart shows; scores do not depend on them", low=1, high=16,
                        step=1)

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | SiteScores]:
        """Look at gradients, then score site by site."""
        squares = yield from gradients(subject, calibration, "square")
        yield from weighed(subject, catalog, squares, lambda weight, square: weight.square() * square,
                           self.buckets, 0.5)
