"""Which layers share the units of a site: a catalog's shapes and members as the cells of the group view."""

from collections.abc import Collection, Iterable, Mapping

from torch import nn

from pruning.units.catalog import Catalog
from pruning.units.site import Member, Site
from ui.plots.group import Cell, Group, Slice

Shapes = Mapping[str, tuple[int, ...]]


def tables(net: nn.Module) -> frozenset[str]:
    """The layers that look up rows: what they write are the columns of their weight."""
    return frozenset(name for name, module in net.named_modules() if isinstance(module, nn.Embedding))


def coupled(catalog: Catalog, site: Site, gone: int, lookups: Collection[str] = ()) -> Group:
    """Every layer that has weights, in the order in which the network runs them, and what it has of a site."""
    shapes, owned = catalog.costs.shapes, dict[str, list[Member]]()
    for member in site.members:
        owned.setdefault(layer_of(member.tensor), []).append(member)
    other = others(catalog, site)
    cells = tuple(Cell(layer, flat, tuple(dict.fromkeys(
        sliced(member, site.units, shapes, lookups) for member in owned.get(layer, ()))),
        tuple(dict.fromkeys(member.tensor.rpartition(".")[2] for member in owned.get(layer, ()))), other.get(layer, ""))
        for layer, flat in layers(shapes, catalog.costs.order))
    macs = catalog.worth(site, "macs") if catalog.costs.known else None
    return Group(site.kind, site.units, gone, catalog.worth(site, "params"), macs, cells)


def layer_of(tensor: str) -> str:
    """The module that owns a tensor."""
    return tensor.rpartition(".")[0]


def layers(shapes: Shapes, order: Iterable[str]) -> list[tuple[str, bool]]:
    """The modules that own tensors, and whether these are vectors; those that did not run come last."""
    flat: dict[str, bool] = {}
    for tensor, shape in shapes.items():
        flat[layer_of(tensor)] = flat.get(layer_of(tensor), True) and len(shape) == 1
    at = {name: i for i, name in enumerate(order)}
    return sorted(flat.items(), key=lambda layer: at.get(layer[0], len(at)))


def sliced(member: Member, units: int, shapes: Shapes, lookups: Collection[str]) -> Slice:
    """Where one tensor has the units. A norm is known by its weight, a vector; a bias is a part of what is written."""
    layer = layer_of(member.tensor)
    norm = len(shapes.get(f"{layer}.weight", (0, 0))) == 1
    does = "normalises" if norm else "reads" if member.axis and layer not in lookups else "writes"
    stop = member.offset + units * member.size
    return Slice(does, member.offset, stop, shapes[member.tensor][member.axis])


def others(catalog: Catalog, site: Site) -> dict[str, str]:
    """For each layer another site that it is in: the next after the given one, if it is in that."""
    found: dict[str, dict[str, None]] = {}
    for each in catalog:
        for member in each.members:
            found.setdefault(layer_of(member.tensor), {})[each.name] = None
    return {layer: name for layer, names in found.items() if (name := _next(list(names), site.name))}


def _next(names: list[str], given: str) -> str:
    """The name after the given one, or the first; empty when there is no other."""
    at = names.index(given) + 1 if given in names else 0
    after = names[at % len(names)]
    return "" if after == given else after
