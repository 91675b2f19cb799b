"""Layers of one kind are ranked together, as Isomorphic Pruning does (arXiv:2407.04616)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pruning.spreads import SPREADS
from pruning.spreads.granularity import Room
from pruning.spreads.spread import Spread
from pruning.units.site import Site


@SPREADS.add("isomorphic")
@dataclass(frozen=True)
class Isomorphic(Spread):
    """Layers of one kind are ranked together, as Isomorphic Pruning does (arXiv:2407.04616)."""

    order: ClassVar = 3
    label: ClassVar = "Layers of one kind together"
    explained: ClassVar = "ranked among their like in other blocks"

    def groups(self, rooms: Sequence[Room]) -> Iterable[list[Room]]:
        """Those of one kind, wherever they stand."""
        found: dict[str, list[Room]] = {}
        for room in rooms:
            found.setdefault(kind_of(room.site), []).append(room)
        return found.values()


def kind_of(site: Site) -> str:
    """What sort of layer a site is, the same in every block: its last two names that mean something, as attn1.to_q.

    The feed-forward parts of diffusers keep their layers in a list called ``net``, which says nothing.
    """
    parts = site.name.replace("#", ".#").split(".")
    return ".".join([part for part in parts if not part.isdigit() and part != "net"][-2:])
