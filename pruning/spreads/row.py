"""Every row of a layer loses the same share."""

from dataclasses import dataclass
from typing import ClassVar

from pruning.errors import Refused
from pruning.spreads import SPREADS
from pruning.spreads.spread import Spread


@SPREADS.add("row")
@dataclass(frozen=True)
class Row(Spread):
    """Every row of a layer loses the same share."""

    order: ClassVar = 1
    label: ClassVar = "Every row alike"
    explained: ClassVar = "each output of a layer loses the same share"
    alike: ClassVar = True
    by_row: ClassVar = True

    def refuses(self, units: str) -> Refused | None:
        """Rows are of single weights."""
        if units == "weight":
            return None
        return Refused(f"Rows are of single weights; {units} units have none.", "Choose another spread, such as layer.")
