"""Fisher: Taylor's second-order sibling, with squared gradients in place of curvature."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pruning.criteria import METHODS
from pruning.criteria.taylor import weighed
from pruning.observe import gradients
from pruning.registry import knob
from pruning.scores import SiteScores
from pruning.subject import Subject
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.work import Looked


@METHODS.add("fisher")
@dataclass(frozen=True)
class Fisher:
    """How much the denoiser's error rises without a weight, to second order; of a larger unit, the mean.

    It is half of squared weight times mean squared gradient: Optimal Brain Damage (LeCun, Denker and Solla, 1989) with
    the empirical Fisher information for the curvature.
    """

    paper: ClassVar = "arXiv:1801.05787"
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "gradients"
    buckets: int = knob(4, "timestep buckets that the chart shows; scores do not depend on them", low=1, high=16,
                        step=1)

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | SiteScores]:
        """Look at gradients, then score site by site."""
        squares = yield from gradients(subject, calibration, square=True)
        yield from weighed(subject, catalog, squares, lambda weight, square: 0.5 * weight.square() * square,
                           self.buckets)
