"""Units cut out of every tensor that they own a part of."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruning.surgery.sizes import mend
from pruning.units.site import Site


def slice_units(net: nn.Module, kept: Mapping[Site, Tensor]) -> None:
    """Cut removed units out of every tensor that they own a part of, in place of a shell's parameters."""
    cuts: dict[str, list[tuple[int, Tensor]]] = {}
    tensors, modules = dict(net.named_parameters()), dict(net.named_modules())  # looked up by name, they take as long
    for (tensor, axis), stay in staying(tensors, kept).items():
        cuts.setdefault(tensor, []).append((axis, stay))
    for tensor, parts in cuts.items():
        value = (old := tensors[tensor]).detach()
        for axis, stay in sorted(parts, key=lambda part: part[0]):  # rows are the quickest to cut
            value = value.index_select(axis, stay.to(value.device))
        owner, _, name = tensor.rpartition(".")
        setattr(modules[owner], name, nn.Parameter(value.contiguous(memory_format=format_of(old)),
                                                   requires_grad=old.requires_grad))
    heads = {site.module: len(units) for site, units in kept.items() if site.kind == "head"}
    mend(net, (tensor.rpartition(".")[0] for tensor in cuts), heads)


def format_of(tensor: Tensor) -> torch.memory_format:
    """channels_last for a tensor that is laid out so and not as usual."""
    apart = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if apart else torch.contiguous_format


def staying(tensors: Mapping[str, Tensor], kept: Mapping[Site, Tensor]) -> dict[tuple[str, int], Tensor]:
    """(tensor, axis) -> the indices that stay, over all sites at once."""
    owners: dict[tuple[str, int], list[tuple[Site, int, int]]] = {}
    for site in kept:
        for member in site.members:
            owners.setdefault((member.tensor, member.axis), []).append((site, member.offset, member.size))
    found: dict[tuple, Tensor] = {}  # most tensors on a stream keep the same

    def left(width: int, parts: tuple[tuple[Site, int, int], ...]) -> Tensor:
        keep = torch.ones(width, dtype=torch.bool)
        for site, offset, size in parts:
            own = torch.zeros(site.units, dtype=torch.bool).index_fill_(0, kept[site], True)
            keep[offset : offset + site.units * size] = own.repeat_interleave(size)
        return keep.nonzero().flatten()

    out = {}
    for (tensor, axis), parts in owners.items():
        key = (tensors[tensor].shape[axis], tuple(parts))
        if key not in found:
            found[key] = left(*key)
        out[tensor, axis] = found[key]
    return out
