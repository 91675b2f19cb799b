"""Measure mode: how long a step takes, dense against pruned. No previews, no yields, nothing else on the thread."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pruning.errors import Refused
from pruning.images import Run
from pruning.types import Shot


@dataclass(frozen=True)
class Measured:
    """Milliseconds per denoising step of both sides, and their ratio. Intervals are 95 % bootstrap of the median.

    ``speedup`` is None when the intervals overlap: no difference beyond noise.
    """

    dense: tuple[float, float, float]  # (median, low, high)
    pruned: tuple[float, float, float]
    speedup: float | None
    repeats: int
    taken_on: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def interleaved(dense: Any, pruned: Any, shot: Shot, repeats: int = 5) -> Measured:
    """Both sides from the same noise: one run each to warm up, then A B B A, ``repeats`` runs a side.

    A run's figure is the median over its steps, of the denoiser's call alone.
    """
    if repeats < 1:
        raise Refused(f"repeats cannot be {repeats}.", "One is the least; five make an interval worth reading.")
    samples: dict[str, list[float]] = {"dense": [], "pruned": []}
    for turn in range(repeats + 1):
        pair = [("dense", dense), ("pruned", pruned)]
        for side, pipe in pair if turn % 2 == 0 else pair[::-1]:
            run = Run(pipe, shot, side)
            for index in range(len(run.scheduler.timesteps)):
                run.step(index)
            if turn:
                samples[side].append(float(np.median(run.ms)))
    a, b = interval(samples["dense"]), interval(samples["pruned"])
    apart = a[1] > b[2] or b[1] > a[2]
    return Measured(a, b, a[0] / b[0] if apart else None, repeats, machine(dense))


def interval(samples: Sequence[float], rounds: int = 2000) -> tuple[float, float, float]:
    """(median, low, high): the 95 % bootstrap interval of the median."""
    values = np.asarray(samples)
    drawn = np.random.default_rng(0).choice(values, (rounds, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def machine(pipe: Any) -> str:
    """Device, type, threads and versions, in words."""
    net = pipe.unet
    device = torch.cuda.get_device_name() if net.device.type == "cuda" else (
        f"{processor()}, {threads()}")
    dtype = str(net.dtype).removeprefix("torch.")
    return f"{device}, {dtype}, torch {torch.__version__}, diffusers {version('diffusers')}"


def threads() -> str:
    """How many threads torch computes with, in words."""
    count = torch.get_num_threads()
    return f"{count} thread{'s' if count > 1 else ''}"


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    named = [line.split(":", 1)[1].strip() for line in (info.read_text().splitlines() if info.exists() else ())
             if line.startswith("model name")]
    return named[0] if named else platform.processor() or f"{platform.machine()} CPU"
