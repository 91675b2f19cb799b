"""Whether two methods want the same to go: the overlap of what they remove, layer by layer."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.decisions.kind import kind_of
from pruning.progress import Looked
from pruning.scores.scores import Scores
from pruning.spreads.deciding import decide
from pruning.types import Decision, Recipe
from pruning.units.site import Site, indices


@dataclass(frozen=True)
class Overlap:
    """Of a layer's units: how many the one removes, the other, and both."""

    units: int
    one: int
    other: int
    both: int

    @property
    def agreement(self) -> float | None:
        """Of what either removes, the share that both do (the Jaccard index); None where neither removes anything."""
        either = self.one + self.other - self.both
        return self.both / either if either else None

    @property
    def chance(self) -> float | None:
        """The agreement of two random choices as large as these."""
        both = self.one * self.other / self.units
        either = self.one + self.other - both
        return both / either if either else None

    def __add__(self, more: "Overlap") -> "Overlap":
        return Overlap(self.units + more.units, self.one + more.one, self.other + more.other, self.both + more.both)


def overlapping(one: Scores, recipe: Recipe, other: Scores, rival: Recipe
                ) -> Generator[Looked, None, dict[str, Overlap]]:
    """The overlap of two requests on one model, by site. Their kinds of unit must be the same.

    Raises:
        Refused: one of the requests removes nothing.
    """
    found: dict[str, Overlap] = {}
    sides = [removed(scores, decide(scores, asked)) for scores, asked in ((one, recipe), (other, rival))]
    for (site, mine), (_, theirs) in zip(*sides, strict=True):
        found[site.name] = Overlap(site.units, int(mine.sum()), int(theirs.sum()), int((mine & theirs).sum()))
        yield Looked(len(found), len(one.catalog.sites), "comparing masks")
    return found


def removed(scores: Scores, decision: Decision) -> Iterator[tuple[Site, Tensor]]:
    """Every site of a catalog with what goes of it, bool: in the weight's shape, or (units,)."""
    catalog, shapes = scores.catalog, scores.catalog.costs.shapes
    touched = [site.name for site in catalog if site.name in decision.sites and site.single]
    kept: Iterator[tuple[Site, Tensor]] = iter(())
    if touched:
        kept = kind_of(decision).resolved(decision, scores.stream(touched), lambda site: shapes[site.tensor])
    for site in catalog:
        if site.name not in decision.sites:
            yield site, torch.zeros(shapes[site.tensor] if site.single else site.units, dtype=torch.bool)
        elif site.single:
            yield site, ~next(kept)[1]
        else:
            yield site, torch.ones(site.units, dtype=torch.bool).index_fill_(
                0, torch.tensor(indices(decision.sites[site.name])), False)
