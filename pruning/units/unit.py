"""A kind of unit: what it is called, what a page says of it, where its units stand, and how they leave."""

from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from pruning.units import UNITS
from pruning.units.site import Found, Site, by_itself, noun, standings

LATER = ("modulation", "layer", "block")  # kinds that a request may name one day
FAMILIES = {"weight": "Weights", "nm": "N:M", "width": "Width"}  # what a page asks for first


class Unit:
    """What a kind of unit is made of. ``looked`` is all that it has to find out about a network."""

    single: ClassVar[bool] = False  # single weights become zeros; else whole slices of tensors are cut out
    decisions: ClassVar[tuple[str, ...]] = ()  # the kinds of decisions that a plan for it may end in
    family: ClassVar[str] = "width"
    order: ClassVar[int]  # its place in lists
    counted: ClassVar[bool] = True  # whether an overview of a model counts them
    plural: ClassVar[str]  # in tables and figures
    named: ClassVar[str]  # in sentences
    label: ClassVar[str]  # on a button
    explained: ClassVar[str]

    def looked(self, net: nn.Module) -> Found:
        """Every layer that may have such units: its site, or why it has none. By shapes alone."""
        raise NotImplementedError

    def why_not(self, net: nn.Module) -> str | None:
        """Why a network of this class can have none; None where that is not known."""
        return None

    def sites(self, net: nn.Module) -> Iterator[Site]:
        """The sites of a network, but for those that share a tensor with other layers."""
        counts = {} if self.single else standings(net)
        for name, found in self.looked(net):
            if isinstance(found, Site) and by_itself(found, counts):
                if not found.members:
                    raise TypeError(f"the site of {name} owns no part of any tensor, so nothing of it can go")
                yield found


def single(units: str) -> bool:
    """Whether units of a kind are single weights, which become zeros where they stand."""
    return UNITS[units].single


def plural(kind: str) -> str:
    """What several units of a kind, or of a kind of site, are called."""
    return UNITS[noun(kind)].plural
