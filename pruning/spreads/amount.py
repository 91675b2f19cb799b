"""How much is to go: the request's amount, divided over sites that are ranked together."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from pruning.errors import Refused
from pruning.spreads.granularity import Room
from pruning.spreads.protect import free_sites, ratio_of
from pruning.spreads.spread import spread_of
from pruning.types import Recipe
from pruning.units.catalog import Catalog

OF = {"units": "units", "params": "parameters", "macs": "MACs"}


def share(count: int, ratio: float) -> int:
    """The nearest whole number of units; halves are rounded up, so that it never falls as the ratio rises."""
    return floor(count * ratio + 0.5)


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
    groups = list(spread_of(recipe).groups(asked.rooms))
    whole = [sum(room.site.units * room.worth for room in group) for group in groups]
    most = [sum(room.amount for room in group) for group in groups]
    if recipe.of != "units":
        return [*asked.fixed, *_settled([*map(Share, groups, asked.filled(whole, most))])]
    exact = [(all_, able) for all_, able, group in zip(whole, most, groups, strict=True)
             if len(group) > 1 and recipe.units == "weight"]
    if (groups and recipe.ratio > recipe.most + 1e-9) or any(share(all_, recipe.ratio) > able for all_, able in exact):
        raise asked.too_much(min([recipe.most, *(able / all_ for all_, able in exact)]))
    return [*asked.fixed, *(Share(group, all_ * recipe.ratio) for group, all_ in zip(groups, whole, strict=True))]


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
