"""Single weights of convolutions and linear layers, alone or in groups of M along the inputs (N:M)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pruning.network.inputs import LAYERS
from pruning.units import UNITS
from pruning.units.site import Found, Member, Site
from pruning.units.unit import Unit


def sites(net: nn.Module, kind: str = "weight") -> Iterator[Site]:
    """Every weight of a convolution or linear layer; one that several of them share is a single site."""
    firsts = {id(p): name for name, p in net.named_parameters()}
    taken = set[str]()
    for name, module in net.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, LAYERS) else None
        if weight is not None and (tensor := firsts[id(weight)]) not in taken:
            taken.add(tensor)
            yield Site(name, kind, weight.numel(), (Member(tensor, 0),), inputs=weight.shape[1])


@UNITS.add("weight")
@dataclass(frozen=True)
class Weight(Unit):
    """Single weights."""

    single: ClassVar = True
    decisions: ClassVar[tuple[str, ...]] = ("threshold", "pattern", "bits")
    family: ClassVar = "weight"
    order: ClassVar = 0
    plural: ClassVar = "weights"
    named: ClassVar = "weights"
    label: ClassVar = "Weights"
    explained: ClassVar = ("Removed weights become zero. The file and the clock stay as they are unless a kernel skips "
                           "zeros.")

    def looked(self, net: nn.Module) -> Found:
        """Every convolution and linear layer."""
        return ((site.module, site) for site in sites(net))


@UNITS.add("nm")
@dataclass(frozen=True)
class Pattern(Weight):
    """Single weights, so many of each few neighbours."""

    decisions: ClassVar = ("pattern", "bits")
    family: ClassVar = "nm"
    order: ClassVar = 1
    counted: ClassVar = False
    label: ClassVar = "N:M"
    explained: ClassVar = "Of each M neighbours along the input channels, N stay. Sparse tensor cores read 2:4."

    def looked(self, net: nn.Module) -> Found:
        """Every convolution and linear layer."""
        return ((site.module, site) for site in sites(net, "nm"))
