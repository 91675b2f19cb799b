"""Magnitude: small weights matter least."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pruning.criteria import METHODS
from pruning.network.subject import Subject
from pruning.registry import knob
from pruning.scores.scores import SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.units.unit import single


@METHODS.add("magnitude")
@dataclass(frozen=True)
class Magnitude:
    """The size of each weight; of a larger unit, the mean over the weights that it owns."""

    paper: ClassVar = "arXiv:1506.02626"
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "weights"
    reads: ClassVar = "weights"  # a score is NaN where its weight is, so that nobody has to look at weights before
    norm: str = knob("l1", "mean of absolute values, or of squares (for single weights both rank alike)",
                     choices=("l1", "l2"))

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None) -> Iterator[SiteScores]:
        """Score site by site."""
        squares = self.norm == "l2" and not single(catalog.units)  # of single weights, squares rank alike
        for site in catalog:
            for start, values in site.scored(subject.net, lambda weight: weight.float().square() if squares else (
                    weight.float().abs())):
                yield SiteScores(site, values, start)
