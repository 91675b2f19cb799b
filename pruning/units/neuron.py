"""Neurons of feed-forward layers; of a gated one (GEGLU), a neuron is both halves: the value and its gate.

A single block of FLUX has its feed-forward layer beside its attention, and one projection reads both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from pruning.units import UNITS
from pruning.units.site import Found, Member, Site, named
from pruning.units.unit import Unit

GATED = ("GEGLU", "SwiGLU", "ReGLU")
PLAIN = ("GELU", "ApproximateGELU", "LinearActivation")



def looked(net: nn.Module) -> Found:
    """Every feed-forward layer: its site, or why its neurons stay."""
    for kind, find in KINDS.items():
        for name, layer in named(net, (kind,)):
            yield name, find(name, layer)


def _feed_forward(name: str, layer: Any) -> Site | str:
    parts = list(layer.net.children()) if isinstance(getattr(layer, "net", None), nn.Module) else []
    kind = type(parts[0]).__name__ if parts else ""
    if len(parts) < 3 or kind not in GATED + PLAIN:
        return f"its {type(layer).__name__} {f'begins with {kind}' if kind else 'is built otherwise'}"
    first, last = getattr(parts[0], "proj", None), parts[2]
    if not isinstance(first, nn.Linear) or not isinstance(last, nn.Linear):
        return f"a projection of its {type(layer).__name__} is not a linear layer"
    inner = last.in_features
    members = [Member(f"{name}.net.2.weight", 1)]
    for offset in (0, inner) if kind in GATED else (0,):
        members.append(Member(f"{name}.net.0.proj.weight", 0, offset=offset))
        if first.bias is not None:
            members.append(Member(f"{name}.net.0.proj.bias", 0, offset=offset))
    return Site(f"{name}#neurons", "neuron", inner, tuple(members))


def _single_block(name: str, block: Any) -> Site | str:
    if not all(isinstance(getattr(block, part, None), nn.Linear) for part in ("proj_mlp", "proj_out")):
        return f"a projection of its {type(block).__name__} is not a linear layer"
    inner = block.proj_mlp.out_features  # attention's output comes first in what both feed
    return Site(f"{name}#neurons", "neuron", inner, (
        Member(f"{name}.proj_out.weight", 1, offset=block.proj_out.in_features - inner),
        *_written(f"{name}.proj_mlp", block.proj_mlp)))


def _clip(name: str, layer: Any) -> Site | str:
    if not all(isinstance(getattr(layer, part, None), nn.Linear) for part in ("fc1", "fc2")):
        return f"a projection of its {type(layer).__name__} is not a linear layer"
    return Site(f"{name}#neurons", "neuron", layer.fc1.out_features,
                (*_written(f"{name}.fc1", layer.fc1), Member(f"{name}.fc2.weight", 1)))


def _written(name: str, layer: nn.Linear) -> Iterator[Member]:
    yield Member(f"{name}.weight", 0)
    if layer.bias is not None:
        yield Member(f"{name}.bias", 0)


KINDS = {"FeedForward": _feed_forward, "FluxSingleTransformerBlock": _single_block, "CLIPMLP": _clip}


@UNITS.add("neuron")
@dataclass(frozen=True)
class Neuron(Unit):
    """Neurons of feed-forward layers."""

    decisions: ClassVar = ("keep",)
    order: ClassVar = 3
    plural: ClassVar = "neurons"
    named: ClassVar = "feed-forward neurons"
    label: ClassVar = "Neurons"
    explained: ClassVar = "Neurons of feed-forward layers are cut out. The network really gets smaller."

    def looked(self, net: nn.Module) -> Found:
        """Every feed-forward layer."""
        return looked(net)
