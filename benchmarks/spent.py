"""What a piece of work takes: seconds, and memory above what was there. Linux alone: its kernel marks the peak."""

import ctypes
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor, nn

OWN = Path("/proc/self")


@dataclass(frozen=True)
class Spent:
    """Seconds, and the bytes at the peak above those before."""

    seconds: float
    extra: int

    @classmethod
    def on(cls, work: Callable[[Any], Any], given: Any) -> "Spent":
        """Do it once. What it returns counts as memory, and is let go."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # or what was freed earlier would be used again and not be seen
        (OWN / "clear_refs").write_text("5")  # the peak is marked from here on
        before, begun = resident("VmRSS"), time.perf_counter()
        kept = work(given)
        taken = cls(time.perf_counter() - begun, resident("VmHWM") - before)
        del kept
        return taken


def resident(field: str) -> int:
    """Bytes of this process in memory: now ("VmRSS"), or at the peak ("VmHWM")."""
    lines = (OWN / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


Works = Mapping[str, tuple[Callable[[Any], Any], Callable[[], Any]]]  # name -> (work, what makes that it is given)


def in_turn(works: Works, repeats: int) -> dict[str, list[Spent]]:
    """Several works one after the other, again and again, the order turned each time."""
    taken: dict[str, list[Spent]] = {name: [] for name in works}
    for turn in range(repeats):
        for name, (work, make) in list(works.items())[:: -1 if turn % 2 else 1]:
            taken[name].append(Spent.on(work, make()))
    return taken


def seconds(taken: list[Spent]) -> float:
    """The median."""
    return median(one.seconds for one in taken)


def extra(taken: list[Spent]) -> int:
    """Bytes: the most of all."""
    return max(one.extra for one in taken)


def read(net: nn.Module) -> float:
    """A plain pass over all parameters."""
    return sum(float(tensor.detach().sum()) for tensor in net.parameters())


def clone(net: nn.Module) -> list[Tensor]:
    """A plain copy of all parameters."""
    return [tensor.detach().clone() for tensor in net.parameters()]
