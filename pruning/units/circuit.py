"""Which channels of a network go together: wires that layers write and read, joined where they are added.

Knows layers by their names and shapes; which layer follows which is told by the walks in ``blocks``. Nothing is traced.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import lcm
from typing import Any

from torch import nn

from pruning.network.inputs import LAYERS
from pruning.units.site import Member, Site

Wire = tuple["Strand", ...]  # what runs between two layers: strands side by side, several after a concatenation
ENDS = ("conv_in", "conv_out")  # they follow their stream, whoever protects them: their other axis is not for pruning


class Unknown(Exception):
    """A network that cannot be followed; the message says which part of it is not known."""


@dataclass(eq=False)
class Strand:
    """Channels that are the same wherever they run: the slices that they own, and the norms that they meet."""

    width: int
    kind: str
    name: str = ""
    members: list[Member] = field(default_factory=list)
    groups: int = 1  # that all must lose equally many channels
    whole: bool = False  # whether it must stay as it is
    same: "Strand | None" = None  # the strand that it was joined with

    @property
    def root(self) -> "Strand":
        """The strand that stands for all that were joined."""
        strand = self
        while strand.same is not None:
            strand = strand.same
        return strand


class Circuit:
    """The wires of one network, as they are drawn."""

    def __init__(self, net: nn.Module) -> None:
        self.parts: dict[str, Any] = dict(net.named_modules())
        self.strands: list[Strand] = []

    def written(self, *layers: str, inside: str = "") -> Wire:
        """What layers give, all of them the same channels; ``inside`` is the module that these do not leave."""
        name = f"{inside}#channels" if inside else f"{layers[0]}#stream"
        strand = Strand(0, "channel" if inside else "stream", name)
        for layer in layers:
            part = self._layer(layer)
            axis = 1 if isinstance(part, nn.Embedding) else 0
            strand.width = part.weight.shape[axis]
            strand.members.append(Member(f"{layer}.weight", axis))
            if getattr(part, "bias", None) is not None:
                strand.members.append(Member(f"{layer}.bias", 0))
        self.strands.append(strand)
        return (strand,)

    def read(self, wire: Wire, *layers: str) -> None:
        """Layers are given a wire."""
        for layer in layers:
            self._layer(layer)
            self._along(wire, f"{layer}.weight", 1)

    def _layer(self, name: str) -> Any:
        """A layer whose channels run along the axes of its weight.

        Raises:
            Unknown: it is none.
        """
        part = self.parts.get(name)
        if not isinstance(part, (*LAYERS, nn.Embedding)) or getattr(part, "groups", 1) > 1:
            raise Unknown(f"its {name.rpartition('.')[2]}, a {type(part).__name__}" if part is not None else
                          f"its {name.rpartition('.')[0]} without {name.rpartition('.')[2]}")
        return part

    def normed(self, wire: Wire, name: str) -> None:
        """A norm is over a wire; each of its groups must lose equally many channels of every strand."""
        norm = self.parts.get(name)
        if not isinstance(norm, nn.GroupNorm | nn.LayerNorm) or norm.weight is None:
            raise Unknown(f"its {type(norm).__name__}")
        for tensor in (f"{name}.weight", *([f"{name}.bias"] if norm.bias is not None else [])):
            self._along(wire, tensor, 0)
        for strand in wire:
            strand.root.groups = lcm(strand.root.groups, getattr(norm, "num_groups", 1))

    def added(self, one: Wire, other: Wire) -> Wire:
        """Two wires are added, so that their channels are the same."""
        if [strand.root.width for strand in one] != [strand.root.width for strand in other]:
            for strand in (*one, *other):  # a concatenation and a plain wire: their channels do not pair up
                strand.root.whole = True
            return one
        for mine, theirs in zip(one, other, strict=True):
            _join(mine.root, theirs.root)
        return one

    def _along(self, wire: Wire, tensor: str, axis: int) -> None:
        offset = 0
        for strand in wire:
            root = strand.root
            root.members.append(Member(tensor, axis, offset=offset))
            offset += root.width

    def sites(self) -> Iterator[Site]:
        """The strands that may lose channels, in the order in which they begin."""
        for strand in self.strands:
            if strand.same is None and not strand.whole and strand.width % strand.groups == 0:
                layers = dict.fromkeys(member.tensor.rpartition(".")[0] for member in strand.members)
                along = dict.fromkeys(name for layer in layers if layer not in ENDS for name in _up(layer))
                site = Site(strand.name, strand.kind, strand.width, tuple(strand.members), quota=strand.groups)
                yield replace(site, along=tuple(along)) if strand.kind == "stream" else site


def _join(one: Strand, other: Strand) -> None:
    """Let the earlier strand stand for both. It is named after the first layer that writes it, the input's aside."""
    if one is other:
        return
    if one.name.removesuffix("#stream") in ENDS:
        one.name = other.name
    one.members += other.members
    one.groups, one.whole, other.same = lcm(one.groups, other.groups), one.whole or other.whole, one


def _up(layer: str) -> Iterator[str]:
    """A module and all those around it."""
    while layer:
        yield layer
        layer = layer.rpartition(".")[0]
