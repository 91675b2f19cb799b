"""Gauss-Newton: what the output changes without a weight, by the curvature that the error really has."""

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


@METHODS.add("gauss-newton")
@dataclass(frozen=True)
class GaussNewton:
    """How far the output moves without a weight, as the mean squared error that it adds; of a larger unit, the mean.

    It is half of squared weight times the diagonal of the Gauss-Newton matrix of the mean squared error: Optimal Brain
    Damage (LeCun, Denker and Solla, 1990) without its second derivatives of the network. The diagonal is estimated
    without bias from products of the Jacobian with random signs (Hutchinson, 1990; of a diagonal: Bekas, Kokiopoulou
    and Saad, 2007), one backward pass a sample. No target is needed, so text encoders and decoders have it, too. Each
    weight counts on its own: what several do together is not in it.
    """

    paper: ClassVar = "https://proceedings.neurips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html"
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "inputs"  # it differentiates the output, not a loss
    buckets: int = knob(4, "timestep buckets that the chart shows; scores do not depend on them", low=1, high=16,
                        step=1)

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | SiteScores]:
        """Look at gradients of the output, then score site by site."""
        diagonal = yield from gradients(subject, calibration, "square", of="output")
        yield from weighed(subject, catalog, diagonal, lambda weight, own: weight.square() * own, self.buckets, 0.5)
