"""All sites of one component, and what they cost. A pure function of the architecture: works on the meta device."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from torch import nn

from pruning.errors import Refused
from pruning.network.inputs import Example
from pruning.units import UNITS
from pruning.units.costs import Costs, trace
from pruning.units.site import Site, by_itself, standings
from pruning.units.unit import single


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
        if site.single:
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
    kind = UNITS[units]()
    reason = kind.why_not(net) or "; ".join(left_out(net, units)) or f"it has no {kind.named} that Prunescope knows"
    return f"{component} cannot lose {kind.named}: {reason}."


def left_out(net: nn.Module, units: str) -> dict[str, list[str]]:
    """Reasons why layers keep all units of a kind, and the layers that do."""
    counts, out = standings(net), dict[str, list[str]]()
    for name, found in () if single(units) else UNITS[units]().looked(net):
        if not isinstance(found, str):
            found = "" if by_itself(found, counts) else "it shares a tensor with other layers"
        if found:
            out.setdefault(found, []).append(name)
    return out


def find(net: nn.Module, units: str) -> Iterator[Site]:
    """The sites of a kind of unit."""
    if units not in UNITS:
        raise Refused(f"Units {units!r} are not part of this version.", f"There are {', '.join(UNITS.ordered())}.")
    return UNITS[units]().sites(net)


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

