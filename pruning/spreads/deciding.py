"""What goes: a ratio divided over sites, and in each the units with the lowest scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil, floor

from pruning.decisions.pattern import parse_pattern
from pruning.errors import Refused
from pruning.scores.scores import Scores
from pruning.spreads.amount import OF, Asked, Share, share, shares
from pruning.spreads.bundles import Bundles, bundles, bundles_gone
from pruning.spreads.granularity import step_of
from pruning.spreads.protect import free_sites, left_alone, ratio_of
from pruning.spreads.ranking import Ranked, Ranking, inside
from pruning.spreads.solve import NEAR, nearest
from pruning.spreads.spread import spread_of
from pruning.types import Decision, Recipe
from pruning.units.catalog import Catalog
from pruning.units.site import Site, ranges
from pruning.units.unit import single


def decide(scores: Scores, recipe: Recipe) -> Decision:
    """What goes.

    Raises:
        Refused: nothing can go, or not so much; the nearest that would is named.
    """
    if recipe.pattern:
        fitting = {site.name: recipe.pattern for site in free_sites(scores.catalog, recipe)
                   if not left_alone(site, recipe)}
        if not fitting:
            raise Refused(f"No layer's inputs are a multiple of {parse_pattern(recipe.pattern)[1]}, so "
                          f"{recipe.pattern} removes nothing.", "Choose another pattern, such as 2:4.")
        return Decision("pattern", fitting)
    if not single(recipe.units):
        return Decision("keep", {name: ranges(bundles(scores, scores.catalog.sites[name], recipe).kept(count))
                                 for name, count in bundles_of_each(scores, recipe).items()})
    divided = shares(scores.catalog, recipe)
    if spread_of(recipe).by_row:
        return Decision("pattern", {room.site.name: f"{room.site.inputs - steps}:{room.site.inputs}"
                                    for part in divided for room in part.rooms if (steps := part.alone)})
    rankings = [ranking(scores, part) for part in divided]
    places = {name: place for one in rankings for name, place in one.own.items()}
    found = inside(scores, places)
    return Decision("threshold", {name: entry for one in rankings for name, entry in one.entries(found).items()})


def ranking(scores: Scores, part: Share) -> Ranking:
    """The ranking of single weights that a share asks for."""
    amount = floor(part.amount + 0.5) if part.alone is None else part.taken
    return Ranking(scores.pool([room.site.name for room in part.rooms]),
                   [Ranked(room.site.name, room.worth, room.most) for room in part.rooms], amount)


def bundles_of_each(scores: Scores, recipe: Recipe) -> dict[str, int]:
    """How many bundles of larger units go of each site that loses something.

    With ``of`` other than units, what whole bundles leave over of one ranking goes to the next, the finest last. (Of
    units each kind is a request of its own, so that nesting holds.)

    Raises:
        Refused: nothing can go; the nearest share that would is named.
    """
    if crossing(recipe, scores.catalog):
        return _counted(scores, recipe)
    found, asked = _ranked(scores, recipe)
    if asked and not found:
        raise _too_coarse(asked, recipe)
    return found


def _ranked(scores: Scores, recipe: Recipe) -> tuple[dict[str, int], list[tuple[Share, list[Bundles]]]]:
    """(how many bundles go of each site that loses something, the shares that ask for any)."""
    found: dict[str, int] = {}
    asked, over = [], 0.0
    for part in sorted(shares(scores.catalog, recipe), key=lambda part: -max(room.size for room in part.rooms)):
        ranked = [bundles(scores, room.site, recipe) for room in part.rooms]
        if part.alone is not None:
            counts = [part.alone]
        else:
            sizes = [room.size for room in part.rooms]
            counts = bundles_gone(ranked, [room.most for room in part.rooms], sizes, part.amount + over)
            if recipe.of != "units":
                over += part.amount - sum(count * size for count, size in zip(counts, sizes, strict=True))
        asked += [(part, ranked)] if part.amount > 0 else []
        found |= {one.site.name: count for one, count in zip(ranked, counts, strict=True) if count}
    return found, asked


def crossing(recipe: Recipe, catalog: Catalog) -> bool:
    """Whether what a unit counts depends on what else goes, as where streams cross."""
    return recipe.of != "units" and any(site.kind == "stream" for site in catalog)


def _counted(scores: Scores, recipe: Recipe) -> dict[str, int]:
    """What goes where streams cross: of the layers' own ratios, or of one for all the others."""
    asked = Asked.of(scores.catalog, recipe)

    def at(ratio: float) -> dict[str, int]:
        return _ranked(scores, replace(recipe, of="units", ratio=min(ratio, recipe.most)))[0]

    if asked.fixed and not asked.rooms:
        found = at(0.0)
        asked.check_own(saving(scores.catalog, recipe, found))
        return found
    return counted(scores, asked, at)


def saving(catalog: Catalog, recipe: Recipe, found: Mapping[str, int]) -> int:
    """What some steps of sites come to, counted on the network."""
    part = recipe.of == "macs"
    kept = {name: (site := catalog.sites[name]).units - count * step_of(site, recipe.multiple)
            for name, count in found.items()}
    return catalog.costs.count()[part] - catalog.count(kept)[part]


def counted(scores: Scores, asked: Asked, at: Callable[[float], dict[str, int]]) -> dict[str, int]:
    """The steps that come to what is asked, as the count says; ``at`` gives those of a share from 0 to 1.

    Raises:
        Refused: no share does.
    """
    recipe, catalog = asked.recipe, scores.catalog
    found = nearest(at, lambda found: saving(catalog, recipe, found), recipe.ratio * asked.total)
    if found is None:
        over = saving(catalog, recipe, at(0.0)) > recipe.ratio * asked.total
        raise asked.too_much(0 if over else saving(catalog, recipe, at(1 - NEAR)) / asked.total)
    if recipe.ratio and not found:
        least = min(room.size for room in asked.rooms if room.most) / asked.total
        raise Refused(f"{recipe.ratio:.1%} of the {OF[recipe.of]} is less than the smallest step.",
                      f"The smallest takes {ceil(least * 1000) / 10:.1f}%.")
    return found


def _too_coarse(asked: Sequence[tuple[Share, Sequence[Bundles]]], recipe: Recipe) -> Refused:
    """Name the share of the smallest thing that can go, rounded up so that it does."""
    firsts = []
    for part, ranked in asked:
        if able := [(one, room) for one, room in zip(ranked, part.rooms, strict=True) if room.most]:
            room = min(able, key=lambda pair: float(pair[0].score[0]))[1]
            count = sum(room.site.units * room.worth for room in part.rooms) // room.size
            ratio = part.amount / (count * room.size)
            alone = part.alone is not None
            noun, where = (room.site.noun, "per layer") if alone else ("unit", "in all layers together")
            firsts.append((count, f"{ratio:.1%} of {count} {noun}s {where} is less than one {noun}."))
    if not firsts:
        return Refused("Nothing can go: each layer has a single unit and keeps it.", "Choose another kind of unit.")
    count, text = max(firsts)
    return Refused(text, f"Ask for at least {ceil(1000 / count - 1e-9) / 1000:.1%}.")


def reason(site: Site, count: int, recipe: Recipe) -> str | None:
    """Why a site loses another share than was asked of it; None when it does not."""
    return left_alone(site, recipe) or _snapped(site, count, recipe)


def _snapped(site: Site, count: int, recipe: Recipe) -> str | None:
    own = ratio_of(site, recipe)
    if own is None and not (spread_of(recipe).alike and recipe.of == "units"):
        return None  # no share was asked of this layer
    asked = recipe.ratio if own is None else own
    if abs(count / site.units - asked) <= 0.005:
        return None
    if site.single:
        return None if count / site.units > asked else (
            "keeps its best, so that something is left" if recipe.most >= 1 else f"loses at most {recipe.most:.0%}")
    step = step_of(site, recipe.multiple)
    steps = site.units // step
    if share(steps, asked) > min(floor(steps * recipe.most + 1e-9), steps - 1):
        return "keeps its best, so that something is left" if recipe.most >= 1 else f"loses at most {recipe.most:.0%}"
    if step > site.quota:
        return f"snapped to multiples of {recipe.multiple}: steps of {step / site.units:.1%}"
    if site.quota > 1:
        return f"snapped to whole channels of {site.quota} norm groups"
    return f"snapped to whole {site.noun}s: steps of {1 / site.units:.1%}"
