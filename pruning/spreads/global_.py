"""All layers are ranked together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pruning.spreads import SPREADS
from pruning.spreads.granularity import Room
from pruning.spreads.spread import Spread


@SPREADS.add("global")
@dataclass(frozen=True)
class Global(Spread):
    """All layers are ranked together."""

    order: ClassVar = 2
    label: ClassVar = "All layers together"
    explained: ClassVar = "the lowest scores go, wherever they are"

    def groups(self, rooms: Sequence[Room]) -> Iterable[list[Room]]:
        """All of them."""
        return [list(rooms)] if rooms else []
