"""What a tab has drawn: finished pairs as small values, newest first, and where in them one stands."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any, Self

from pruning.recovery import Recovery
from pruning.types import Recipe, Shot
from ui.values import Moment, Side

MOST, BYTES = 12, 4 << 20  # pairs that a tab remembers: how many, and bytes of them


@dataclass(frozen=True)
class Pair:
    """One finished pair: what was asked, both sides, and what was counted, compared and (once asked) measured."""

    recipe: Recipe
    shot: Shot
    dense: Side
    pruned: Side
    differences: tuple[str, ...]
    film: tuple[Moment, ...]
    report: Mapping[str, Any]
    quality: Mapping[str, Any]
    machine: str  # that drew it
    note: str = ""  # of a prepared pair: where it comes from
    recovery: Recovery | None = None  # how the pruned side was trained before it drew
    notes: tuple[str, ...] = ()  # what to say with the pictures, such as that the prompt was cut short
    exact: Recipe | None = None  # with the ratios of single layers that the spread came to, where it left them open
    thumb: str = ""  # the pruned side's first picture, small

    @property
    def nbytes(self) -> int:
        """Bytes of all its pictures, which are nearly all of it."""
        shown = (*self.dense.pictures, *self.pruned.pictures, *self.differences, self.thumb,
                 *(side for moment in self.film for side in (moment.dense, moment.pruned)))
        return sum(map(len, shown))

    @property
    def measured(self) -> Mapping[str, Any] | None:
        """What the clock said of this pair's models, if it was asked."""
        return self.report["speed"]["measured"]

    def with_report(self, report: Mapping[str, Any]) -> Self:
        """The same pair after a measurement."""
        return replace(self, report=report)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The pair that ``to_dict`` wrote."""
        sides = {name: Side(**{**value[name], "pictures": tuple(value[name]["pictures"])})
                 for name in ("dense", "pruned")}
        return cls(Recipe.from_dict(value["recipe"]), Shot(**value["shot"]), sides["dense"], sides["pruned"],
                   tuple(value["differences"]), tuple(Moment(**moment) for moment in value["film"]), value["report"],
                   value["quality"], value["machine"], value["note"],
                   Recovery(**value["recovery"]) if value.get("recovery") else None, tuple(value.get("notes", ())),
                   Recipe.from_dict(value["exact"]) if value.get("exact") else None, value.get("thumb", ""))


@dataclass(frozen=True)
class History:
    """The pairs of a tab, newest first; the one at ``at`` is shown."""

    pairs: tuple[Pair, ...]
    at: int = 0

    @property
    def shown(self) -> Pair:
        """The pair on the page."""
        return self.pairs[self.at]

    def trained(self, recipe: Recipe) -> Recovery | None:
        """How the model of a recipe was trained last in this tab; None where it was not."""
        return next((pair.recovery for pair in self.pairs if pair.recipe == recipe and pair.recovery), None)

    def added(self, pair: Pair) -> Self:
        """With a new pair, which is shown; the oldest go when there are too many, or their pictures too large."""
        pairs = (pair, *self.pairs)[:MOST]
        sizes = accumulate(one.nbytes for one in pairs)
        return type(self)(pairs[: max(1, sum(size <= BYTES for size in sizes))])

    def changed(self, old: Pair, new: Pair) -> Self:
        """With one pair in another's place, wherever that has moved to; not at all when it is gone."""
        return replace(self, pairs=tuple(new if pair == old else pair for pair in self.pairs))

    def showing(self, at: int) -> Self:
        """With another pair shown."""
        return replace(self, at=min(max(at, 0), len(self.pairs) - 1))
