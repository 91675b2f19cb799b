"""Taylor: weights matter as much as the error would change, were they gone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.criteria import CRITERIA
from pruning.observe import Gradients, gradients
from pruning.registry import knob
from pruning.scores import SiteScores
from pruning.subject import Subject
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.units.site import WEIGHTS
from pruning.work import Looked


@CRITERIA.add("taylor")
@dataclass(frozen=True)
class Taylor:
    """How much the denoiser's error changes without a weight, to first order; of a larger unit, the mean.

    It is the size of weight times mean gradient over all samples. Of a larger unit, every weight counts on its own, as
    in Diff-Pruning: what one would add and another take away does not cancel.
    """

    paper: ClassVar = "arXiv:1906.10771"
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "gradients"
    buckets: int = knob(4, "timestep buckets that the chart shows; scores do not depend on them", low=1, high=16,
                        step=1)

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | SiteScores]:
        """Look at gradients, then score site by site."""
        slopes = yield from gradients(subject, calibration, square=False)
        yield from weighed(subject, catalog, slopes, lambda weight, slope: (weight * slope).abs(), self.buckets)


def weighed(subject: Subject, catalog: Catalog, taken: Gradients, effect: Callable[[Tensor, Tensor], Tensor],
            buckets: int) -> Iterator[SiteScores]:
    """Scores of all sites: ``effect`` makes them of weights, float32, and of what was taken of their gradients."""

    def whole(name: str) -> Tensor:
        return effect(subject.net.get_parameter(name).detach().float().cpu(), taken.mean[name])

    for site in catalog:
        profile = taken.profile(site, buckets)
        if site.kind not in WEIGHTS:
            yield SiteScores(site, site.mean(whole), profile=profile)
            continue
        weight = subject.net.get_parameter(site.tensor).detach()
        for (start, piece), (_, mean) in zip(site.pieces(weight), site.pieces(taken.mean[site.tensor]), strict=True):
            yield SiteScores(site, effect(piece.float(), mean.to(piece.device)), start, None if start else profile)
