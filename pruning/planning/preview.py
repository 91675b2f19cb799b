"""What a ratio would take, before anything is decided: from sketches and shapes alone, with no pass over the weights.

Totals of units and parameters are those of the plan, to the unit. How a ranking over several layers divides single
weights among them is known up to the bin that the cut falls in; one bin is 1/256 of a power of two wide, so a layer is
off by at most the weights that it has between a score and 1.004 times that score.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from pruning.decisions.kind import gone
from pruning.errors import Refused
from pruning.scores.scores import Scores
from pruning.spreads.amount import shares
from pruning.spreads.deciding import bundles_of_each, decide, ranking
from pruning.spreads.granularity import step_of
from pruning.spreads.protect import protected
from pruning.spreads.spread import spread_of
from pruning.types import Recipe
from pruning.units.site import Site
from pruning.units.unit import single

RATIOS = tuple(i / 20 for i in range(20))  # 0, 5, ... 95 %
QUANTILES = 21


@dataclass(frozen=True)
class Totals:
    """Shares of a component. ``zeros`` and ``zero_macs`` stay in place as zeros; the others really go."""

    units: float
    params: float
    macs: float | None
    zeros: float = 0.0
    zero_macs: float | None = None


def counts(scores: Scores, recipe: Recipe) -> dict[str, int]:
    """How many units of each site would go.

    Raises:
        Refused: nothing can go, or not so much; as ``decide`` says it.
    """
    out = dict.fromkeys(scores.catalog.sites, 0)
    if not single(recipe.units):
        return out | {name: count * step_of(scores.catalog.sites[name], recipe.multiple)
                      for name, count in bundles_of_each(scores, recipe).items()}
    if recipe.pattern or spread_of(recipe).by_row:
        decision = decide(scores, recipe)
        return {site.name: gone(decision, site) for site in scores.catalog}
    for part in shares(scores.catalog, recipe):
        found = [part.alone] if part.alone is not None else ranking(scores, part).about().tolist()
        out |= {room.site.name: count for room, count in zip(part.rooms, found, strict=True)}
    return out


def unsure(scores: Scores, recipe: Recipe) -> float:
    """By how much the share of a site can be off at most; 0 where counts are exact."""
    if not single(recipe.units) or recipe.pattern or spread_of(recipe).by_row:
        return 0.0
    several = (part for part in shares(scores.catalog, recipe) if part.alone is None)
    return max((float(count) / room.site.units for part in several
                for room, count in zip(part.rooms, ranking(scores, part).unsure(), strict=True)), default=0.0)


def totals(scores: Scores, recipe: Recipe, going: dict[str, int]) -> Totals:
    """What some counts are of the whole component."""
    catalog = scores.catalog
    free = [site for site in catalog if not protected(site, recipe)]
    units = sum(going[site.name] for site in free) / max(1, sum(site.units for site in free))
    params, macs = catalog.costs.count()
    if single(recipe.units):
        idle = sum(going[site.name] * catalog.costs.uses.get(site.tensor, 0) for site in catalog)
        return Totals(units, 0.0, 0.0 if macs else None, sum(going.values()) / params, idle / macs if macs else None)
    after = catalog.count({name: site.units - going[name] for name, site in catalog.sites.items() if going[name]})
    return Totals(units, 1 - after[0] / params, 1 - after[1] / macs if macs else None)


@dataclass(frozen=True)
class Table:
    """For each of ``RATIOS``: the totals, and the share of every site's units that goes, in the catalog's order.

    None where nothing can go at that ratio.
    """

    totals: tuple[Totals | None, ...]
    shares: tuple[tuple[float, ...] | None, ...]


def table(scores: Scores, recipe: Recipe, settled: Callable[[Recipe], Recipe] = lambda recipe: recipe) -> Table:
    """What the ratio's line answers while one drags it, before anything is asked again.

    ``settled`` gives the layers their ratios where the spread leaves them open.
    """
    rows: list[tuple[Totals | None, tuple[float, ...] | None]] = []
    for ratio in RATIOS:
        try:
            wanted = settled(replace(recipe, ratio=ratio))
            going = counts(scores, wanted)
        except Refused:
            rows.append((None, None))
        else:
            rows.append((totals(scores, wanted, going),
                         tuple(going[site.name] / site.units for site in scores.catalog)))
    return Table(*zip(*rows, strict=True))


def quantiles(scores: Scores, site: Site, count: int = QUANTILES) -> tuple[float, ...]:
    """A site's scores from the lowest to the highest, at ``count`` evenly spaced ranks; all of them where it has less.

    Scores of single weights are known up to their bin.
    """
    if site.name in scores.values:
        ranked = scores.values[site.name].flatten().sort().values
        if len(ranked) <= count:
            return tuple(ranked.tolist())
        return tuple(ranked[torch.linspace(0, len(ranked) - 1, count).round().long()].tolist())
    sketch = scores.sketches[site.name]
    ranks = torch.linspace(1, site.units, count, dtype=torch.float64).round().long()
    return tuple(sketch.edges()[torch.searchsorted(sketch.sums[1:], ranks)].tolist())
