"""Every layer loses the same share."""

from dataclasses import dataclass
from typing import ClassVar

from pruning.spreads import SPREADS
from pruning.spreads.spread import Spread


@SPREADS.add("layer")
@dataclass(frozen=True)
class Layer(Spread):
    """Every layer loses the same share."""

    order: ClassVar = 0
    label: ClassVar = "Every layer alike"
    explained: ClassVar = "each loses the same share"
    alone: ClassVar = True
    alike: ClassVar = True
