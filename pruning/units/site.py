"""Where units stand: a site, and the slices of tensors that a unit of it owns. Shapes only, no values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

PIECE = 1 << 18  # weights that are looked at together: 1 MB of float32, which stays in the cache


def noun(kind: str) -> str:
    """What a unit of a kind of site is called: channels are channels wherever they run."""
    return "channel" if kind == "stream" else kind


@dataclass(frozen=True)
class Member:
    """What every unit of a site owns in one tensor: ``size`` neighbours along an axis, from ``offset`` on.

    Unit u owns the indices ``offset + u*size`` to ``offset + (u+1)*size``.
    """

    tensor: str
    axis: int
    size: int = 1
    offset: int = 0

    def indices(self, units: Tensor) -> Tensor:
        """The indices along the axis that some units own, (units * size,)."""
        return (self.offset + units[:, None] * self.size + torch.arange(self.size)).flatten()

    def of(self, values: Tensor, units: int) -> Tensor:
        """What each of so many units owns of the tensor's values, (units, values of one unit)."""
        span = values.movedim(self.axis, 0)[self.offset : self.offset + units * self.size]
        return span.reshape(units, -1)


@dataclass(frozen=True)
class Site:
    """A place where units of one kind stand.

    A weight site is one tensor, seen as (*rows, inputs): a convolution's rows are (output, kernel row, kernel column),
    so that neighbours along a row are input channels. A width site is a set of coupled ``members``.
    ``quota`` is the number of norm groups that must lose equally many channels. ``module`` is what is counted for it.
    ``along`` has the modules that a stream runs through: protecting one of them protects the stream.
    """

    name: str
    kind: str
    units: int
    members: tuple[Member, ...]
    inputs: int = 0  # weight sites: the length of a row
    quota: int = 1
    along: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.name)  # streams have hundreds of members

    @property
    def noun(self) -> str:
        """What a unit of it is called."""
        return noun(self.kind)

    @property
    def single(self) -> bool:
        """Whether its units are single weights."""
        return self.inputs > 0

    @property
    def tensor(self) -> str:
        """The one tensor of a weight site."""
        return self.members[0].tensor

    @property
    def module(self) -> str:
        """The path of the module that the site's cost is counted for."""
        return self.name.rsplit("#", 1)[0]

    def rows(self, weight: Tensor) -> Tensor:
        """A weight as (*rows, inputs), a view: neighbours along the last axis are input channels."""
        return weight.movedim(1, -1)

    def unrows(self, rows: Tensor) -> Tensor:
        """The way back from ``rows`` to the weight's own axes, a view."""
        return rows.movedim(-1, 1)

    def pieces(self, weight: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The rows of a weight in pieces of about ``PIECE`` weights: (the first output channel, (*rows, inputs))."""
        outputs = max(1, PIECE * len(weight) // max(1, weight.numel()))
        for start in range(0, len(weight), outputs):
            yield start, self.rows(weight[start : start + outputs])

    def slices(self, value: Callable[[str], Tensor]) -> Iterator[tuple[Member, Tensor]]:
        """What larger units own of each tensor: (member, (units, values of one unit) float32 on the CPU).

        ``value`` gives the values of a tensor by its name, in the tensor's shape.
        """
        for tensor, members in groupby(self.members, lambda member: member.tensor):
            values = value(tensor).float().cpu()
            for member in members:
                yield member, member.of(values, self.units)

    def mean(self, value: Callable[[str], Tensor]) -> Tensor:
        """A score per larger unit, (units,): the mean of a value per weight over what a unit owns."""
        total, owned = torch.zeros(self.units), 0
        for _, per_unit in self.slices(value):
            total += per_unit.sum(1)
            owned += per_unit.shape[1]
        return total / owned

    def scored(self, net: nn.Module, effect: Callable[[Tensor], Tensor]) -> Iterator[tuple[int, Tensor]]:
        """What an effect of single weights comes to for its units: (the first output channel, scores of a piece).

        Of larger units it is one piece, (units,): the mean of the effect over what each owns.
        """
        if self.single:
            for start, piece in self.pieces(net.get_parameter(self.tensor).detach()):
                yield start, effect(piece)
        else:
            yield 0, self.mean(lambda name: effect(net.get_parameter(name).detach()))


Found = Iterator[tuple[str, Site | str]]  # a layer's name, and its site or why it has none


def ranges(kept: Sequence[int]) -> list[list[int]]:
    """Sorted indices as half-open ranges: [0, 1, 2, 5] is [[0, 3], [5, 6]]."""
    out: list[list[int]] = []
    for index in kept:
        if out and out[-1][1] == index:
            out[-1][1] = index + 1
        else:
            out.append([index, index + 1])
    return out


def indices(spans: Iterable[Sequence[int]]) -> list[int]:
    """The way back from ``ranges``."""
    return [index for start, stop in spans for index in range(start, stop)]


def named(net: nn.Module, classes: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The modules whose class, or a class it derives from, has one of the names. Their parts are known by the class."""
    for name, module in net.named_modules():
        if any(kind.__name__ in classes for kind in type(module).__mro__):
            yield name, module


def standings(net: nn.Module) -> dict[str, int]:
    """How often each module and parameter stands in a network, by all its names; those that stand once are left out."""
    counts: dict[str, int] = {}
    for every in (net.named_modules(remove_duplicate=False), net.named_parameters(remove_duplicate=False)):
        names: dict[int, list[str]] = {}
        for name, part in every:
            names.setdefault(id(part), []).append(name)
        counts |= {name: len(all_) for all_ in names.values() if len(all_) > 1 for name in all_}
    return counts


def by_itself(site: Site, counts: dict[str, int]) -> bool:
    """Whether a width site shares no tensor with other layers; ``counts`` are a network's ``standings``.

    A block that stands in several places is cut in all of them at once, so it may share its tensors with itself.
    """
    return all(counts.get(member.tensor, 1) == counts.get(site.module, 1) for member in site.members)
