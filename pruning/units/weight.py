"""Single weights of convolutions and linear layers, alone or in groups of M along the inputs (N:M)."""

from collections.abc import Iterator

from torch import nn

from pruning.network.inputs import LAYERS
from pruning.units.site import Member, Site


def sites(net: nn.Module, kind: str = "weight") -> Iterator[Site]:
    """Every weight of a convolution or linear layer; one that several of them share is a single site."""
    firsts = {id(p): name for name, p in net.named_parameters()}
    taken = set[str]()
    for name, module in net.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, LAYERS) else None
        if weight is not None and (tensor := firsts[id(weight)]) not in taken:
            taken.add(tensor)
            yield Site(name, kind, weight.numel(), (Member(tensor, 0),), inputs=weight.shape[1])
