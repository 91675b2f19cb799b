"""A way to divide a ratio over layers."""

from collections.abc import Generator, Iterable, Sequence
from typing import Any, ClassVar

from pruning.errors import Refused
from pruning.network.subject import Subject
from pruning.progress import Looked
from pruning.scores.scores import Scores
from pruning.spreads import SPREADS
from pruning.spreads.granularity import Room
from pruning.types import Recipe


class Spread:
    """What a way to divide is made of; a plain one at most says which sites are ranked together."""

    order: ClassVar[int]  # its place in lists
    label: ClassVar[str]
    explained: ClassVar[str]
    sees: ClassVar[str] = "weights"  # or what it looks at first, as a criterion does
    alone: ClassVar[bool] = False  # each layer is asked for a share of its own, so that roundings have a say
    alike: ClassVar[bool] = False  # and the share is that of the recipe
    by_row: ClassVar[bool] = False  # each row of a layer loses the same share
    nests: ClassVar[bool] = True  # a higher ratio removes a superset, of single weights

    def refuses(self, units: str) -> Refused | None:
        """Why such units cannot be divided so."""
        return None

    def groups(self, rooms: Sequence[Room]) -> Iterable[list[Room]]:
        """Sites that are ranked together: each by itself, where a way says nothing else."""
        return ([room] for room in rooms)

    def looks(self, recipe: Recipe) -> Recipe | None:
        """The part of a recipe that what it looks at depends on; None of one that looks at nothing."""
        return None

    def measuring(self, looked_at: Subject, recipe: Recipe, scores: Scores) -> Generator[Looked, None, Any]:
        """Look at a component: something with ``divided(recipe, scores)``, a recipe that says what was found."""
        raise NotImplementedError


def spread_of(recipe: Recipe) -> Spread:
    """The spread that a recipe asks for."""
    return SPREADS[recipe.spread]()
