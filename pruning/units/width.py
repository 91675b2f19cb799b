"""The inner dimensions of layers together: heads, neurons and hidden channels."""

from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

from torch import nn

from pruning.units import UNITS, channel, head, neuron
from pruning.units.site import Found
from pruning.units.unit import Unit


@UNITS.add("width")
@dataclass(frozen=True)
class Width(Unit):
    """Heads, neurons and hidden channels, of which no layer outside of their own sees anything."""

    decisions: ClassVar = ("keep",)
    order: ClassVar = 5
    counted: ClassVar = False
    plural: ClassVar = "units"
    named: ClassVar = "heads, neurons or channels"
    label: ClassVar = "Inside layers"
    explained: ClassVar = ("Heads, neurons and hidden channels are cut out of all that they touch. The network really "
                           "gets smaller.")

    def looked(self, net: nn.Module) -> Found:
        """Every layer that has one of the three."""
        return chain(head.looked(net), neuron.looked(net), channel.looked(net))
