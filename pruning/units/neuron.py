"""Neurons of feed-forward layers; of a gated one (GEGLU), a neuron is both halves: the value and its gate.

A single block of FLUX has its feed-forward layer beside its attention, and one projection reads both.
"""

from collections.abc import Iterator

from torch import nn

from pruning.units.site import Member, Site, named

GATED = ("GEGLU", "SwiGLU", "ReGLU")
PLAIN = ("GELU", "ApproximateGELU", "LinearActivation")


def sites(net: nn.Module) -> Iterator[Site]:
    """Feed-forward layers of diffusers and of CLIP."""
    for name, layer in named(net, ("FeedForward",)):
        first, last = layer.net[0], layer.net[2]
        kind = type(first).__name__
        if kind not in GATED + PLAIN or not isinstance(last, nn.Linear):
            continue
        inner = last.in_features
        members = [Member(f"{name}.net.2.weight", 1)]
        for offset in (0, inner) if kind in GATED else (0,):
            members.append(Member(f"{name}.net.0.proj.weight", 0, offset=offset))
            if first.proj.bias is not None:
                members.append(Member(f"{name}.net.0.proj.bias", 0, offset=offset))
        yield Site(f"{name}#neurons", "neuron", inner, tuple(members))
    for name, block in named(net, ("FluxSingleTransformerBlock",)):  # attention's output comes first in what both feed
        inner = block.proj_mlp.out_features
        yield Site(f"{name}#neurons", "neuron", inner, (
            Member(f"{name}.proj_out.weight", 1, offset=block.proj_out.in_features - inner),
            Member(f"{name}.proj_mlp.weight", 0), Member(f"{name}.proj_mlp.bias", 0)))
    for name, layer in named(net, ("CLIPMLP",)):
        yield Site(f"{name}#neurons", "neuron", layer.fc1.out_features,
                   (Member(f"{name}.fc1.weight", 0), Member(f"{name}.fc1.bias", 0), Member(f"{name}.fc2.weight", 1)))
