"""Taylor: weights matter as much as the error would change, were they gone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from pruning.criteria import METHODS
from pruning.network.inputs import LAYERS
from pruning.network.subject import Subject
from pruning.observe.gradients import Gradients, gradients, unit_effects
from pruning.progress import Looked
from pruning.registry import knob
from pruning.scores.repeats import places
from pruning.scores.scores import SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.units.site import Site
from pruning.units.unit import single

HOWS = {"mean": "mean", "molchanov-2019": "square", "molchanov-2017": "size"}
VARIANTS = tuple(HOWS)
EFFECTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda weight, slope: (weight * slope).abs(), "size": lambda weight, size: weight.abs() * size,
    "square": lambda weight, square: weight.square() * square}


@METHODS.add("taylor")
@dataclass(frozen=True)
class Taylor:
    """How much the denoiser's error changes without a weight, to first order; of a larger unit, the mean.

    It is the size of weight times mean gradient over all samples. Of a larger unit, every weight counts on its own, as
    in Diff-Pruning: what one would add and another take away does not cancel. It may, in the baseline that
    Diff-Pruning is compared with.

    The papers that the estimate comes from take the mean over samples last, so that what one sample asks for and
    another forbids does not cancel: of squares (arXiv:1906.10771), or of sizes (arXiv:1611.06440, by feature maps: what
    a map times its gradient comes to over all places is what the weights that make it come to). With ``cancel`` a
    unit's effects are added up with their signs first, the one paper's score of a filter as a group and the other's of
    a feature map; without, each weight counts on its own, which the first paper has as well. A unit's effects are of
    all that it owns here, in the layers that read it, too, and no layer is normalised by its own norm, as the second
    paper does to rank layers together.
    """

    paper: ClassVar = "arXiv:1906.10771"
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "gradients"
    buckets: int = knob(4, "timestep buckets that the chart shows; scores do not depend on them", low=1, high=16,
                        step=1)
    cancel: bool = knob(False, "of a larger unit: what its weights in a layer add and take away cancels, as in the "
                        "Taylor baseline of Diff-Pruning")
    variant: str = knob("mean", "how samples become one: their mean gradient, as in Diff-Pruning; or the mean "
                        "over samples of squared effects (Molchanov, 2019), or of their sizes (Molchanov, 2017)",
                        choices=VARIANTS)

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | SiteScores]:
        """Look at gradients, then score site by site."""
        how = HOWS[self.variant]
        together = self.cancel and not single(catalog.units)
        if together and how != "mean":
            yield from self.by_sample(subject, catalog, calibration, how)
            return
        taken = yield from gradients(subject, calibration, how)
        if together:
            yield from grouped(subject, catalog, taken, cancelled, self.buckets)
            return
        yield from weighed(subject, catalog, taken, EFFECTS[how], self.buckets)

    def by_sample(self, subject: Subject, catalog: Catalog, calibration: Calibration | None, how: str
                  ) -> Iterator[Looked | SiteScores]:
        """Scores of larger units whose effects are added up in each sample, before they are squared."""
        found = yield from unit_effects(subject, catalog, calibration)
        for site in catalog:
            each = found.sums[site.name].square() if how == "square" else found.sums[site.name].abs()
            yield SiteScores(site, each.mean(0), profile=found.profile(each, self.buckets),
                             halves=partial(found.halved, each) if found.half else None)


def cancelled(subject: Subject, site: Site, taken: Gradients) -> Tensor:
    """What a unit's weights come to in each layer, added up with their signs; the mean over layers, relative."""
    return relative(layerwise(subject, site, taken, lambda effect: effect.sum(1).abs()))


def grouped(subject: Subject, catalog: Catalog, taken: Gradients, score: Callable[[Subject, Site, Gradients], Tensor],
            buckets: int) -> Iterator[SiteScores]:
    """Scores of larger units, (units,) each, by all samples and by either half."""
    for site in catalog:
        yield SiteScores(site, score(subject, site, taken), profile=taken.profile(site, buckets),
                         halves=halved(taken, partial(score, subject, site)))


def halved(taken: Gradients, score: Callable[[Gradients], Tensor]) -> Callable[[], tuple[Tensor, Tensor]] | None:
    """Scores by either half of the samples, worked out where they are asked for; None where halves were not taken."""
    return (halves := taken.halves) and (lambda: (score(halves[0]), score(halves[1])))


def weighed(subject: Subject, catalog: Catalog, taken: Gradients, effect: Callable[[Tensor, Tensor], Tensor],
            buckets: int, times: float = 1.0) -> Iterator[SiteScores]:
    """Scores of all sites: ``times`` what ``effect`` makes of weights, float32, and what was taken of gradients."""

    def larger(site: Site, taken: Gradients) -> Tensor:
        return site.mean(lambda name: times * effect(subject.net.get_parameter(name).detach().float().cpu(),
                                                     taken.mean[name]))

    def some(site: Site, taken: Gradients) -> Tensor:
        weight = subject.net.get_parameter(site.tensor).detach()
        where = places(weight.shape)
        return effect(weight[where].float().cpu(), taken.mean[site.tensor][where])

    for site in catalog:
        profile = times * taken.profile(site, buckets)
        if not site.single:
            yield SiteScores(site, larger(site, taken), profile=profile, halves=halved(taken, partial(larger, site)))
            continue
        weight = subject.net.get_parameter(site.tensor).detach()
        for (start, piece), (_, mean) in zip(site.pieces(weight), site.pieces(taken.mean[site.tensor]), strict=True):
            first = not start
            yield SiteScores(site, times * effect(piece.float(), mean.to(piece.device)), start,
                             profile if first else None, halved(taken, partial(some, site)) if first else None)


def effects(subject: Subject, taken: Gradients) -> Callable[[str], Tensor]:
    """Weight times gradient of a tensor, by its name: what the loss loses with it, to first order."""
    return lambda name: subject.net.get_parameter(name).detach().float().cpu() * taken.mean[name]


def layerwise(subject: Subject, site: Site, taken: Gradients, over: Callable[[Tensor], Tensor]) -> Tensor:
    """For every layer and convolution that a larger unit has a slice of, what its effects come to, (slices, units).

    ``over`` makes one number a unit of the effects of its weights, (units, weights). Norms and biases are left out.
    """
    return torch.stack([over(part) for member, part in site.slices(effects(subject, taken))
                        if member.tensor.endswith(".weight")
                        and isinstance(subject.net.get_submodule(member.tensor.removesuffix(".weight")), LAYERS)])


def relative(slices: Tensor) -> Tensor:
    """The mean over layers, (slices, units), as a multiple of the mean over units."""
    mean = slices.mean(0)
    return mean / mean.mean().clamp_min(torch.finfo(torch.float32).tiny)
