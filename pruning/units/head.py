"""Attention heads: rows of the query, key and value projections, columns of the output projection.

Where pictures and text attend to each other jointly (SD3, FLUX), both have projections of their own, and a head is a
part of all of them. In a single block of FLUX the output projection is that of the block, which its feed-forward layer
shares.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from pruning.units.site import Member, Site, named

JOINT = (("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"), ("to_out.0", "to_add_out"), "heads")
# class: (its projections, its outputs, those that it has; the attribute that counts heads)
LAYOUTS = {"Attention": JOINT, "FluxAttention": JOINT, "CLIPAttention": (
    ("q_proj", "k_proj", "v_proj"), ("out_proj",), "num_heads")}
NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")  # of queries and keys; over one head they stay as they are
AROUND = {"FluxSingleTransformerBlock": "proj_out"}  # blocks that have the output in place of their attention


def sites(net: nn.Module) -> Iterator[Site]:
    """Attention layers with at least two heads, all of one size."""
    modules = dict(net.named_modules())
    for kind, (projections, outputs, counter) in LAYOUTS.items():
        for name, layer in named(net, (kind,)):
            heads, parts = getattr(layer, counter), dict(layer.named_modules())
            read = {f"{name}.{part}": parts[part] for part in projections if part in parts}
            written = {f"{name}.{part}": parts[part] for part in outputs if part in parts} or outside(modules, name)
            width = next(iter(read.values())).out_features if read else 0
            if heads < 2 or width % heads or not written or not plain(read, written, width):
                continue
            if all(_size(parts.get(norm)) in (None, width // heads) for norm in NORMS):
                yield Site(f"{name}#heads", "head", heads, tuple(_members(read, written, width // heads)))


def outside(modules: dict[str, Any], name: str) -> dict[str, Any]:
    """The output of an attention layer that is a part of the block around it."""
    block = name.rpartition(".")[0]
    last = AROUND.get(type(modules.get(block)).__name__)
    return {f"{block}.{last}": modules[f"{block}.{last}"]} if last else {}


def plain(read: dict[str, Any], written: dict[str, Any], width: int) -> bool:
    """Whether all are linear layers, and queries, keys and values equally wide."""
    linear = all(isinstance(layer, nn.Linear) for layer in (*read.values(), *written.values()))
    return linear and all(layer.out_features == width for layer in read.values())


def _size(norm: Any) -> int | None:
    weight = getattr(norm, "weight", None)
    return None if weight is None else weight.numel()


def _members(read: dict[str, Any], written: dict[str, Any], size: int) -> Iterator[Member]:
    for name in written:
        yield Member(f"{name}.weight", 1, size)
    for name, layer in read.items():
        yield Member(f"{name}.weight", 0, size)
        if layer.bias is not None:
            yield Member(f"{name}.bias", 0, size)
