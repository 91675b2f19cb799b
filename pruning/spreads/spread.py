"""How a ratio is divided over sites: each alike, each row alike, or units ranked together.

Knows scores and counts; no network, no tensors of weights. Of equal scores the earliest go, so that a higher ratio
removes a superset (of an N:M group or a row, the earliest stay). With ``of`` other than units, single layers are off by
a unit, so that the whole is not: there nesting holds but for that unit.

What layers or rows are asked one by one (the layer and row spreads of units, a layer's own ratio, what the spread by
sensitivity writes down) each meets within half a unit, so the total may be off by the sum of these roundings. All other
totals are met within one unit, those of the isomorphic spread within one of each kind; a unit of rows is one of each.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import ceil, floor

from pruning.decisions.pattern import parse_pattern
from pruning.errors import Refused
from pruning.scores.scores import Scores
from pruning.spreads.bundles import Bundles, bundles, bundles_gone
from pruning.spreads.granularity import Room, step_of
from pruning.spreads.ranking import Ranked, Ranking, inside
from pruning.spreads.solve import NEAR, nearest
from pruning.types import Decision, Recipe
from pruning.units.catalog import Catalog
from pruning.units.site import WEIGHTS, Site, ranges

SPREADS = ("layer", "row", "global", "isomorphic", "sensitivity")
OF = {"units": "units", "params": "parameters", "macs": "MACs"}


def protected(site: Site, recipe: Recipe) -> str | None:
    """Why a site is left alone by request, or None."""
    if any(fnmatchcase(module, glob) for glob in recipe.protect for module in (site.module, *site.along)):
        return "protected"
    if recipe.only and not any(fnmatchcase(site.module, glob) for glob in recipe.only):
        return "outside the layers asked for"
    return None


def left_alone(site: Site, recipe: Recipe) -> str | None:
    """Why nothing of a site goes, or None: by request, or because its inputs do not divide into groups of M."""
    m = parse_pattern(recipe.pattern)[1] if recipe.pattern else 1
    return protected(site, recipe) or (f"{site.inputs} inputs are not a multiple of {m}" if site.inputs % m else None)


def ratio_of(site: Site, recipe: Recipe) -> float | None:
    """The override that applies to a site: the longest glob wins; of equally long ones, the one that removes less."""
    fitting = [(len(glob), -ratio) for glob, ratio in recipe.overrides if fnmatchcase(site.module, glob)]
    return -max(fitting)[1] if fitting else None


def share(count: int, ratio: float) -> int:
    """The nearest whole number of units; halves are rounded up, so that it never falls as the ratio rises."""
    return floor(count * ratio + 0.5)


def kind_of(site: Site) -> str:
    """What sort of layer a site is, the same in every block: its last two names that mean something, as attn1.to_q.

    The feed-forward parts of diffusers keep their layers in a list called ``net``, which says nothing.
    """
    parts = site.name.replace("#", ".#").split(".")
    return ".".join([part for part in parts if not part.isdigit() and part != "net"][-2:])


@dataclass(frozen=True)
class Share:
    """Sites that are ranked together, and the amount that is to go of them, in what ``of`` counts."""

    rooms: Sequence[Room]
    amount: float

    @property
    def alone(self) -> int | None:
        """The steps that a lone site takes; None for several."""
        return self.rooms[0].steps(self.amount) if len(self.rooms) == 1 else None

    @property
    def taken(self) -> int:
        """What the steps of a lone site come to."""
        return (self.alone or 0) * self.rooms[0].size


@dataclass(frozen=True)
class Asked:
    """A request: layers with a ratio of their own, the room of the others, and the amount that is to come of these."""

    recipe: Recipe
    fixed: Sequence[Share]
    rooms: Sequence[Room]
    total: int  # what the ratio is a share of

    @classmethod
    def of(cls, catalog: Catalog, recipe: Recipe) -> "Asked":
        """Read a request.

        Raises:
            Refused: every layer is protected, or MACs are asked for and not known.
        """
        if recipe.of == "macs" and not catalog.costs.known:
            raise Refused(catalog.costs.why, "Ask for a share of params or units.")
        rooms = [room for site in free_sites(catalog, recipe) if (room := Room.of(site, recipe, catalog)).worth]
        own = [ratio_of(room.site, recipe) for room in rooms]
        fixed = [Share([room], room.site.units * room.worth * ratio) for room, ratio in zip(rooms, own, strict=True)
                 if ratio is not None]
        rest = [room for room, ratio in zip(rooms, own, strict=True) if ratio is None]
        whole = catalog.costs.count()
        total = {"units": sum(room.site.units for room in rest), "params": whole[0], "macs": whole[1]}[recipe.of]
        return cls(recipe, fixed, rest, total)

    @property
    def amount(self) -> float:
        """What the sites without a ratio of their own are to give."""
        taken = 0 if self.recipe.of == "units" else sum(one.taken for one in self.fixed)
        return self.recipe.ratio * self.total - taken

    def filled(self, whole: Sequence[float], most: Sequence[float]) -> list[float]:
        """The amount over groups, each the same share of its whole; what a full one cannot give, the others do.

        Raises:
            Refused: they cannot give so much, or there are none and the layers' own ratios come to something else.
        """
        amount = self.amount
        if self.fixed and not self.rooms:
            self.check_own()
            return []
        self.check(most)
        out, left = [0.0] * len(whole), set(range(len(whole)))
        while left:
            ratio = amount / max(1e-9, sum(whole[i] for i in left))
            full = {i for i in left if whole[i] * ratio > most[i]}
            for i in full or left:
                out[i] = float(most[i]) if full else whole[i] * ratio
            amount -= sum(most[i] for i in full)
            left = left - full if full else set()
        return out

    def check(self, most: Sequence[float]) -> None:
        """Refuse an amount that groups which can give so much do not have."""
        if not 0 <= self.amount <= sum(most):
            raise self.too_much(self.recipe.ratio + (sum(most) - self.amount) / self.total if self.amount > 0 else 0)

    def too_much(self, most: float) -> Refused:
        """The refusal that names the share that would be possible."""
        what, ratio = OF[self.recipe.of], self.recipe.ratio
        if most <= 0 and self.fixed:
            return Refused(f"The ratios of single layers take more than {ratio:.1%} of the {what} already.",
                           "Raise the ratio, or lower theirs.")
        remedy = "let single ones lose more with most." if self.recipe.most < 1 else "release layers with protect=()."
        return Refused(f"{ratio:.1%} of the {what} cannot go: the layers that may be pruned have at most "
                       f"{floor(most * 1000 + 1e-6) / 10:.1f}%.", f"Ask for less, or {remedy}")

    def check_own(self, counted: int | None = None) -> None:
        """Refuse a ratio that layers with ratios of their own do not come to, since no other is left to meet it.

        They come to it when it is what they take, or what they ask for before each is rounded: within a unit, and
        within the tenth of a percent that the refusal names. With ``of`` units it is for other layers. Where what they
        take has to be counted, it is given.
        """
        if self.recipe.of == "units":
            return
        taken = sum(one.taken for one in self.fixed) if counted is None else counted
        meant = sum(min(one.amount, one.rooms[0].amount) for one in self.fixed) if counted is None else counted
        off = min(abs(amount - self.recipe.ratio * self.total) for amount in (taken, meant))
        if off > max(self.total / 2000, *(one.rooms[0].size for one in self.fixed)):
            raise Refused(f"Every layer has a ratio of its own: together they take {taken / self.total:.1%} of the "
                          f"{OF[self.recipe.of]}, not {self.recipe.ratio:.1%}.",
                          "Ask for that, or leave one layer free.")


def shares(catalog: Catalog, recipe: Recipe) -> list[Share]:
    """The request, divided over the sites that are ranked together.

    Raises:
        Refused: nothing may go, the layers that may be pruned cannot give so much, or each has another ratio.
    """
    asked = Asked.of(catalog, recipe)
    groups = list(_ranked_together(asked.rooms, recipe.spread))
    whole = [sum(room.site.units * room.worth for room in group) for group in groups]
    most = [sum(room.amount for room in group) for group in groups]
    if recipe.of != "units":
        return [*asked.fixed, *_settled([*map(Share, groups, asked.filled(whole, most))])]
    exact = [(all_, able) for all_, able, group in zip(whole, most, groups, strict=True)
             if len(group) > 1 and recipe.units == "weight"]
    if (groups and recipe.ratio > recipe.most + 1e-9) or any(share(all_, recipe.ratio) > able for all_, able in exact):
        raise asked.too_much(min([recipe.most, *(able / all_ for all_, able in exact)]))
    return [*asked.fixed, *(Share(group, all_ * recipe.ratio) for group, all_ in zip(groups, whole, strict=True))]


def _ranked_together(rooms: Sequence[Room], spread: str) -> Iterable[list[Room]]:
    if spread == "global":
        return [list(rooms)] if rooms else []
    groups: dict[str, list[Room]] = {}
    for room in rooms:
        groups.setdefault(kind_of(room.site) if spread == "isomorphic" else room.site.name, []).append(room)
    return groups.values()


def _settled(given: Sequence[Share]) -> list[Share]:
    """Lone sites go in whole steps; some take one more or less, the largest first, so that the sum is right."""
    left = sum(one.amount - one.taken for one in given if one.alone is not None)
    out = list(given)
    lone = [(one.rooms[0].size, i) for i, one in enumerate(given) if one.alone is not None]
    for size, i in sorted(lone, key=lambda pair: -pair[0]):
        moved = Share(given[i].rooms, given[i].taken + (size if left > 0 else -size))
        if abs(left) >= size / 2 and moved.taken == moved.amount:
            left -= moved.taken - given[i].taken
            out[i] = moved
    return out


# Single weights: a threshold per site, or so many of each row.


# The decision.


def decide(scores: Scores, recipe: Recipe) -> Decision:
    """What goes.

    Raises:
        Refused: nothing can go, or not so much; the nearest that would is named.
    """
    if recipe.units == "nm":
        fitting = {site.name: recipe.pattern for site in free_sites(scores.catalog, recipe)
                   if not left_alone(site, recipe)}
        if not fitting:
            raise Refused(f"No layer's inputs are a multiple of {parse_pattern(recipe.pattern or '')[1]}, so "
                          f"{recipe.pattern} removes nothing.", "Choose another pattern, such as 2:4.")
        return Decision("pattern", fitting)
    if recipe.units != "weight":
        return Decision("keep", {name: ranges(bundles(scores, scores.catalog.sites[name], recipe).kept(count))
                                 for name, count in bundles_of_each(scores, recipe).items()})
    divided = shares(scores.catalog, recipe)
    if recipe.spread == "row":
        return Decision("pattern", {room.site.name: f"{room.site.inputs - steps}:{room.site.inputs}"
                                    for part in divided for room in part.rooms if (steps := part.alone)})
    rankings = [ranking(scores, part) for part in divided]
    places = {name: place for one in rankings for name, place in one.own.items()}
    found = inside(scores, places)
    return Decision("threshold", {name: entry for one in rankings for name, entry in one.entries(found).items()})


def free_sites(catalog: Catalog, recipe: Recipe) -> list[Site]:
    """The sites that may be pruned.

    Raises:
        Refused: there are none.
    """
    free = [site for site in catalog if not protected(site, recipe)]
    if not free:
        raise Refused("Every layer is protected or outside `only`, so nothing can go.",
                      "Release some with protect=() or a wider `only`.")
    return free


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
            firsts.append((count, f"{ratio:.1%} of {count} " + (
                f"{room.site.noun}s a layer" if part.alone is not None else "units in all layers together")))
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
        n, m = map(int, entry.split(":"))
        return site.units // m * (m - n)
    return entry[-1]


def reason(site: Site, count: int, recipe: Recipe) -> str | None:
    """Why a site loses another share than was asked of it; None when it does not."""
    return left_alone(site, recipe) or _snapped(site, count, recipe)


def _snapped(site: Site, count: int, recipe: Recipe) -> str | None:
    own = ratio_of(site, recipe)
    if own is None and (recipe.spread not in ("layer", "row") or recipe.of != "units"):
        return None  # no share was asked of this layer
    asked = recipe.ratio if own is None else own
    if abs(count / site.units - asked) <= 0.005:
        return None
    if site.kind in WEIGHTS:
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
