"""How a recovery goes: its options, each checked where it enters."""

from dataclasses import asdict, dataclass
from typing import Any

from pruning.errors import Refused
from pruning.recovery.losses import LOSSES
from pruning.registry import checked, knob, knobs
from pruning.types import Calibration, pairs
from pruning.values import number

HEAVIEST = 1e6  # weight of a loss
MANY, DRAWN = 1024, 64  # samples when nobody says how many: all pictures there are; of what a model draws, fewer


@dataclass(frozen=True)
class Recovery:
    """Fine-tuning as in Diff-Pruning (arXiv:2305.10924): Adam at a constant rate, gradients clipped, weights averaged.

    The paper averages at 0.9999 over 100,000 steps. A short run would hand over little but its start, so the average
    here is over less, and over less still at first. Layers' dropout is off unless asked for, as when drawing.
    """

    steps: int = knob(100, "how many steps to train", low=1, high=1_000_000, step=1)
    batch: int = knob(32, "samples in each step", low=1, high=1024, step=1)
    rate: float = knob(2e-4, "the learning rate", low=1e-7, high=0.1)
    average: float = knob(0.999, "how much of the averaged weights stays in each step; 0 keeps the last ones",
                          low=0.0, high=0.99999)
    unprompted: float = knob(0.1, "the share of samples shown without their prompt, which guidance needs",
                             low=0.0, high=1.0)
    dropout: bool = knob(False, "with the dropout that the model's config asks for")
    half: bool = knob(False, "multiply in bfloat16; weights stay float32")
    seed: int = knob(0, "of samples, noise and timesteps", low=0, high=(1 << 31) - 1, step=1)
    losses: tuple[tuple[str, float], ...] = (("task", 1.0),)  # a mapping is taken, too
    calibration: Calibration | None = None  # the samples; None is the dense model's own pictures, or what it draws

    def __post_init__(self) -> None:
        for option in knobs(Recovery):
            object.__setattr__(self, option.name, checked(option, getattr(self, option.name)))
        object.__setattr__(self, "losses", tuple(sorted((name, _weight(name, value)) for name, value in pairs(
            "losses", self.losses, 'It maps losses to weights, such as {"task": 1}.'))))
        object.__setattr__(self, "calibration", Calibration.of(self.calibration))
        if not any(weight for _, weight in self.losses):
            raise Refused("There is no loss to make small.", 'Give one a weight, such as {"task": 1}.')

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON gives them back."""
        shown = self.calibration
        looks = asdict(shown) | {"prompts": [*shown.prompts], "timesteps": [*shown.timesteps]} if shown else None
        return asdict(self) | {"losses": dict(self.losses), "calibration": looks}


def _weight(name: str, value: Any) -> float:
    """The weight of a loss.

    Raises:
        Refused: there is no such loss, or it is no number from 0 up.
    """
    if name not in LOSSES:
        raise Refused(f"No loss is called {name!r}.", f"There are {', '.join(sorted(LOSSES))}.")
    return number(f"The weight of the loss {name}", value, 0, HEAVIEST, "It is a number from 0 up, such as 1.")


def many(source: str) -> int:
    """How many samples of a source a recovery is shown at most when nobody says."""
    return DRAWN if source == "generated" else MANY
