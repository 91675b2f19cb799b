"""How a ratio is divided over sites: each site alike, or all units ranked together.

Knows scores and counts; no network, no tensors of weights. Ties go in storage order, the earliest first, so that a
higher ratio always removes a superset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil, floor

import torch
from torch import Tensor

from pruning.errors import Refused
from pruning.scores import LOW, Scores, cut, keys, pooled
from pruning.types import Decision, Recipe
from pruning.units.site import WEIGHTS, Site, ranges

SPREADS = ("layer", "global")


def protected(site: Site, recipe: Recipe) -> str | None:
    """Why a site is left alone by request, or None."""
    if any(fnmatchcase(site.module, glob) for glob in recipe.protect):
        return "protected"
    if recipe.only and not any(fnmatchcase(site.module, glob) for glob in recipe.only):
        return "outside the layers asked for"
    return None


def left_alone(site: Site, recipe: Recipe) -> str | None:
    """Why nothing of a site goes, or None: by request, or because its inputs do not divide into groups of M."""
    m = parse_pattern(recipe.pattern)[1] if recipe.pattern else 1
    return protected(site, recipe) or (f"{site.inputs} inputs are not a multiple of {m}" if site.inputs % m else None)


def ratio_of(site: Site, recipe: Recipe) -> float | None:
    """The override that applies to a site; the longest glob wins."""
    fitting = [(len(glob), ratio) for glob, ratio in recipe.overrides if fnmatchcase(site.module, glob)]
    return max(fitting)[1] if fitting else None


def share(count: int, ratio: float) -> int:
    """The nearest whole number of units; halves are rounded up, so that it never falls as the ratio rises."""
    return floor(count * ratio + 0.5)


def by_ratio(sites: Sequence[Site], recipe: Recipe) -> list[tuple[list[Site], float]]:
    """Groups of sites that are ranked together, each with its ratio."""
    fixed = {site.name: ratio_of(site, recipe) for site in sites}
    groups = [([site], r) for site in sites if (r := fixed[site.name]) is not None]
    rest = [site for site in sites if fixed[site.name] is None]
    if recipe.spread == "layer":
        return groups + [([site], recipe.ratio) for site in rest]
    return groups + ([(rest, recipe.ratio)] if rest else [])


# Single weights: a threshold per site.


def lowest(scores: Scores, sites: Sequence[Site], count: int) -> dict[str, list[int]]:
    """The ``count`` lowest of all weights of some sites: per site [key, how many exactly at it stay, how many go].

    One look at the sketches finds the bin that the cut falls in; one pass over the values finds the key within it.
    """
    sketches = [scores.sketches[site.name] for site in sites]
    place, missing = cut(pooled(sketches), count)
    inside = [_inside(scores, site, place) for site in sites]
    merged = sum(inside, torch.zeros(1 << LOW, dtype=torch.long))
    low = int(torch.searchsorted(merged.cumsum(0), torch.tensor(missing))) if missing else 0
    at_key = missing - int(merged[:low].sum())
    result = {}
    for site, sketch, counts in zip(sites, sketches, inside, strict=True):
        level = min(at_key, int(counts[low]))
        at_key -= level
        gone = sketch.below(place) + int(counts[:low].sum()) + level
        result[site.name] = [(place << LOW) + low, int(counts[low]) - level, gone]
    return result


def _inside(scores: Scores, site: Site, place: int) -> Tensor:
    """How many of a site's keys have each lower half, within one bin, (2**LOW,)."""
    sketch = scores.sketches[site.name]
    at = place - sketch.first
    if not 0 <= at < len(sketch.counts) or sketch.counts[at] == 0:
        return torch.zeros(1 << LOW, dtype=torch.long)
    (scored,) = scores.stream([site.name])
    found = keys(scored.values).flatten()
    found = found[(found >> LOW) == place] & ((1 << LOW) - 1)
    return torch.bincount(found, minlength=1 << LOW).cpu()


def kept_weights(values: Tensor, key: int, at_key: int) -> Tensor:
    """Which weights of a site stay, (rows, inputs) bool: above the key, and the last ``at_key`` exactly at it."""
    found = keys(values)
    keep = found > key
    level = (found == key).flatten().nonzero().flatten()
    keep.view(-1)[level[len(level) - at_key :] if at_key else level[:0]] = True
    return keep


def kept_pattern(values: Tensor, pattern: str) -> Tensor:
    """Which weights of a site stay, (rows, inputs) bool: the N highest of each M neighbours; ties keep the first."""
    n, m = parse_pattern(pattern)
    groups = values.unflatten(-1, (-1, m)).unbind(-1)
    keep = [sum((other >= mine).to(torch.int8) if j < i else (other > mine).to(torch.int8)
                for j, other in enumerate(groups) if j != i) < n for i, mine in enumerate(groups)]
    return torch.stack(keep, -1).flatten(-2)  # type: ignore[arg-type]


def parse_pattern(pattern: str) -> tuple[int, int]:
    """(2, 4) of "2:4".

    Raises:
        Refused: not of that form.
    """
    left, _, right = str(pattern).partition(":")
    if not (left.isdigit() and right.isdigit() and 0 < int(left) < int(right) <= 64):
        raise Refused(f"{pattern!r} is not an N:M pattern.", 'It reads "N:M", N kept of each M: 2:4, 1:4 or 4:8.')
    return int(left), int(right)


# Larger units: bundles, the smallest sets that may go together.


@dataclass(frozen=True)
class Bundles:
    """A site's units in the order in which they may go: each bundle takes one unit from every norm group."""

    site: Site
    order: Tensor  # (bundles, quota) unit indices
    score: Tensor  # (bundles,) ascending

    @classmethod
    def of(cls, site: Site, values: Tensor) -> "Bundles":
        """Rank a site's units inside each norm group."""
        groups = values.view(site.quota, -1)
        ranked = groups.argsort(dim=1, stable=True)
        order = ranked + torch.arange(site.quota)[:, None] * groups.shape[1]
        return cls(site, order.T, groups.gather(1, ranked).mean(0))

    def kept(self, gone: int) -> list[int]:
        """The units that stay when so many bundles go, ascending."""
        return sorted(self.order[gone:].flatten().tolist())


def bundles_gone(ranked: Sequence[Bundles], ratio: float) -> list[int]:
    """How many bundles of each site go when all are ranked together; every site keeps its best one."""
    if len(ranked) == 1:
        return [min(share(len(ranked[0].score), ratio), len(ranked[0].score) - 1)]
    scores = torch.cat([b.score[:-1] for b in ranked])
    owner = torch.cat([torch.full((len(b.score) - 1,), i) for i, b in enumerate(ranked)])
    size = torch.tensor([b.site.quota for b in ranked])[owner]
    order = scores.argsort(stable=True)
    target = ratio * sum(b.site.units for b in ranked)
    reached = size[order].cumsum(0)
    count = int((reached <= target + 1e-9).sum())
    return torch.bincount(owner[order[:count]], minlength=len(ranked)).tolist()


def decide(scores: Scores, recipe: Recipe) -> Decision:
    """What goes.

    Raises:
        Refused: the ratio removes nothing, because units are too coarse; the nearest that would is named.
    """
    free = [site for site in scores.catalog if not protected(site, recipe)]
    if not free:
        raise Refused("Every layer is protected or outside `only`, so nothing can go.",
                      "Release some with protect=() or a wider `only`.")
    if recipe.units == "nm":
        fitting = {site.name: recipe.pattern for site in free if not left_alone(site, recipe)}
        if not fitting:
            raise Refused(f"No layer's inputs are a multiple of {parse_pattern(recipe.pattern or '')[1]}, so "
                          f"{recipe.pattern} removes nothing.", "Choose another pattern, such as 2:4.")
        return Decision("pattern", fitting)
    if recipe.units == "weight":
        thresholds: dict[str, list[int]] = {}
        for sites, ratio in by_ratio(free, recipe):
            count = share(sum(site.units for site in sites), ratio)
            found = lowest(scores, sites, count) if count else {}
            thresholds |= {name: entry for name, entry in found.items() if entry[2]}
        return Decision("threshold", thresholds)
    return _keep(scores, free, recipe)


def _keep(scores: Scores, free: Sequence[Site], recipe: Recipe) -> Decision:
    kept: dict[str, list[list[int]]] = {}
    total, asked = 0, []
    for sites, ratio in by_ratio(free, recipe):
        ranked = [Bundles.of(site, scores.values[site.name]) for site in sites]
        asked += [(ranked, ratio)] if ratio > 0 else []
        for bundles, count in zip(ranked, bundles_gone(ranked, ratio), strict=True):
            total += count
            if count:
                kept[bundles.site.name] = ranges(bundles.kept(count))
    if asked and not total:
        raise _too_coarse(asked)
    return Decision("keep", kept)


def _too_coarse(asked: Sequence[tuple[Sequence[Bundles], float]]) -> Refused:
    """Name the share of the smallest thing that can go, rounded up so that it does."""
    firsts = []
    for ranked, ratio in asked:
        if several := [b for b in ranked if len(b.score) > 1]:
            site = min(several, key=lambda b: float(b.score[0])).site
            count = sum(b.site.units for b in ranked) // site.quota
            firsts.append((count, f"{ratio:.1%} of {count} " + (
                f"{site.kind}s a layer" if len(ranked) == 1 else "units in all layers together")))
    if not firsts:
        return Refused("Nothing can go: each layer has a single unit and keeps it.", "Choose another kind of unit.")
    count, text = max(firsts)
    return Refused(f"{text} is less than one.",
                   f"One of {count} is {ceil(1000 / count - 1e-9) / 1000:.1%}.")


def gone(decision: Decision, site: Site) -> int:
    """How many units of a site go. Exact."""
    entry = decision.sites.get(site.name)
    if entry is None:
        return 0
    if decision.kind == "keep":
        return site.units - sum(stop - start for start, stop in entry)
    if decision.kind == "pattern":
        n, m = parse_pattern(entry)
        return site.units // m * (m - n)
    return entry[2]


def reason(site: Site, count: int, recipe: Recipe) -> str | None:
    """Why a site loses another share than was asked of it; None when it does not."""
    return left_alone(site, recipe) or _snapped(site, count, recipe)


def _snapped(site: Site, count: int, recipe: Recipe) -> str | None:
    own = ratio_of(site, recipe)
    if site.kind in WEIGHTS or (recipe.spread != "layer" and own is None):  # of a ranking, no share was asked for
        return None
    asked = recipe.ratio if own is None else own
    if abs(count / site.units - asked) <= 0.005:
        return None
    if share(site.units // site.quota, asked) == site.units // site.quota:
        return "keeps its best, so that something is left"
    if site.quota > 1:
        return f"snapped to whole channels of {site.quota} norm groups"
    return f"snapped to whole {site.kind}s: steps of {1 / site.units:.1%}"
