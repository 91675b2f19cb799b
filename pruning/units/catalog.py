"""All sites of one component, and what they cost. A pure function of the architecture: works on the meta device."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from math import prod

from torch import nn

from pruning.errors import Refused
from pruning.network.inputs import Example
from pruning.units import channel, head, neuron, stream, weight
from pruning.units.costs import Costs, trace
from pruning.units.site import WEIGHTS, Found, Site, by_itself, standings

Finder = Callable[[nn.Module], Iterator[Site]]
FINDERS: dict[str, Finder] = {
    "weight": weight.sites, "nm": lambda net: weight.sites(net, "nm"), "head": head.sites, "neuron": neuron.sites,
    "channel": lambda net: chain(channel.sites(net), stream.sites(net)),
}
WIDTH: tuple[Finder, ...] = (head.sites, neuron.sites, channel.sites)  # of the inner dimensions
LOOKED: dict[str, Callable[[nn.Module], Found]] = {
    "head": head.looked, "neuron": neuron.looked, "channel": channel.looked}
NOUNS = {"weight": "weights", "nm": "weights", "head": "attention heads", "neuron": "feed-forward neurons",
         "channel": "channels", "width": "heads, neurons or channels"}


@dataclass(frozen=True)
class Catalog:
    """The sites of one component for one kind of unit, by name, in the order in which the network runs them."""

    units: str
    sites: Mapping[str, Site]
    costs: Costs

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites.values())

    def only(self, *names: str) -> "Catalog":
        """The catalog with some of its sites."""
        return replace(self, sites={name: self.sites[name] for name in names})

    def count(self, kept: Mapping[str, int]) -> tuple[int, int]:
        """(params, MACs) when each named width site keeps so many units; the others stay whole."""
        return self.costs.count({self.sites[name]: n for name, n in kept.items()})

    def worth(self, site: Site, of: str) -> int:
        """What one unit of a site counts: 1, its parameters, or its MACs, with all other sites whole.

        What is inside a layer adds up. Streams cross each other, so theirs does not: see ``count``.
        """
        if of == "units":
            return 1
        if site.kind in WEIGHTS:
            return 1 if of == "params" else self.costs.uses.get(site.tensor, 0)
        owned = {m: prod(self.costs.shapes[m.tensor]) // self.costs.shapes[m.tensor][m.axis] * m.size
                 for m in site.members}
        if of == "params":
            return sum(owned.values())
        between = self.costs.attention.get(site.module, 0) // site.units
        return between + sum(count * self.costs.uses.get(m.tensor, 0) for m, count in owned.items())


def why_not(net: nn.Module, units: str, component: str) -> str | None:
    """Why a component has no units of a kind, in a sentence; None when it has."""
    if any(True for _ in find(net, units)):
        return None
    stays = left_out(net, units)
    reason = f"it has no {NOUNS[units]} that Prunescope knows"
    if units == "channel":
        reason = stream.why_not(net) or reason
    elif stays:
        reason = "; ".join(stays)
    return f"{component} cannot lose {NOUNS[units]}: {reason}."


def left_out(net: nn.Module, units: str) -> dict[str, list[str]]:
    """Reasons why layers keep all units of a kind, and the layers that do."""
    counts, out = standings(net), dict[str, list[str]]()
    for kind in LOOKED if units == "width" else (units,):
        for name, found in LOOKED[kind](net) if kind in LOOKED else ():
            if not isinstance(found, str):
                found = "" if by_itself(found, counts) else "it shares a tensor with other layers"
            if found:
                out.setdefault(found, []).append(name)
    return out


def find(net: nn.Module, units: str) -> Iterator[Site]:
    """The sites of a kind, grouped by kind when there are several."""
    if units != "width" and units not in FINDERS:
        raise Refused(f"Units {units!r} are not part of this version.",
                      f"There are {', '.join([*FINDERS, 'width'])}.")
    counts = {} if units in WEIGHTS else standings(net)
    for finder in WIDTH if units == "width" else (FINDERS[units],):
        yield from (site for site in finder(net) if by_itself(site, counts))


def catalog(net: nn.Module, units: str, example: Example, component: str = "This model") -> Catalog:
    """All sites of one component.

    Raises:
        Refused: the component has no such units; the sentence says why.
    """
    reason = why_not(net, units, component)
    if reason:
        raise Refused(reason, "Choose another kind of unit or another component.")
    costs = trace(net, example)
    place: dict[str, int] = {}  # module -> when it, or the first module inside it, runs
    for i, name in enumerate(costs.order):
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            place.setdefault(".".join(parts[:end]), i)
    found = sorted(find(net, units), key=lambda site: place.get(site.module, len(place)))
    return Catalog(units, {site.name: site for site in found}, costs)

