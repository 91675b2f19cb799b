"""Single weights of convolutions and linear layers, alone or in groups of M along the inputs (N:M)."""

from collections.abc import Iterator

from torch import nn

from pruning.units.site import Member, Site


def sites(net: nn.Module, kind: str = "weight") -> Iterator[Site]:
    """Every weight of a convolution or linear layer."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            weight = module.weight
            yield Site(name, kind, weight.numel(), (Member(f"{name}.weight", 0),), inputs=weight.shape[1])
