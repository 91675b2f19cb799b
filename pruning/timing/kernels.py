"""Which layers a device has a 2:4 kernel for, and the speed-up that this caps (Amdahl's law).

Pure functions of shapes and types: no device is asked; whether a kernel is faster, ``sparse`` finds out by trying. The
rules are those of PyTorch 2.13, ``torch/sparse/semi_structured.py``; it pads what is multiplied, so only the weight's
own shape counts. Three things it does not say: CUTLASS kernels run on GPUs of compute capability 8 alone, those for
float32 skip 1 of each 2 instead of 2 of each 4, and float8 goes through ``torch._scaled_mm``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from pruning.decisions.pattern import parse_pattern
from pruning.units.costs import Costs
from pruning.units.site import Site

MULTIPLES: Mapping[torch.dtype, Mapping[str, tuple[int, int]]] = {  # of a weight's (rows, inputs), library by library
    torch.float16: {"cuSPARSELt": (16, 16), "CUTLASS": (32, 64)},
    torch.bfloat16: {"cuSPARSELt": (16, 16), "CUTLASS": (32, 64)},
    torch.int8: {"cuSPARSELt": (32, 32), "CUTLASS": (16, 128)},
    torch.float8_e4m3fn: {"cuSPARSELt": (32, 32)},
    torch.float32: {"CUTLASS": (32, 32)},
}
DEVICES = {"cpu": "a CPU", "mps": "an Apple GPU", "meta": "a model without weights"}


def kernel_for(site: Site, shape: Sequence[int], dtype: torch.dtype, device_type: str, pattern: str) -> str | None:
    """Why a layer has no kernel that skips a pattern's zeros, in a few words; None when it has one, by shape."""
    if parse_pattern(pattern) != (2, 4):
        return f"only 2:4 has kernels, not {pattern}"
    if device_type != "cuda":
        return f"{DEVICES.get(device_type, device_type)} has no 2:4 kernel in PyTorch"
    if len(shape) != 2:
        return "PyTorch has 2:4 kernels for linear layers only"
    if dtype == torch.float32:
        return "PyTorch's float32 kernels skip 1 of each 2 weights, not 2 of each 4"
    if dtype not in MULTIPLES:
        return f"PyTorch has no 2:4 kernel for {str(dtype).removeprefix('torch.')}"
    rows, inputs = shape[0], site.inputs
    fitting = [(rows % by, inputs % along) for by, along in MULTIPLES[dtype].values()]
    if (0, 0) in fitting:
        return None
    by, along = next(iter(MULTIPLES[dtype].values()))
    return f"{rows} rows are not a multiple of {by}" if rows % by else f"{inputs} inputs are not a multiple of {along}"


@dataclass(frozen=True)
class Ceiling:
    """The most that N:M kernels can win for a whole component, if each is as many times faster as it skips."""

    eligible: int  # of the pruned layers, those with a kernel
    layers: int
    f: float  # the share of the component's MACs, attention's own among them, that those layers hold
    skipped: int  # MACs that the kernels leave out
    speedup: float
    without: Mapping[str, int]  # why the other layers have no kernel, and how many, the most first


def ceiling(sites: Iterable[Site], costs: Costs, dtype: torch.dtype, device_type: str, pattern: str,
            share: float = 1.0) -> Ceiling:
    """The ceiling when these sites are pruned in a pattern: 1 / (1 - f + f * N/M).

    Here, or anywhere: type and device may be others than the model's. ``share`` is the part of the time that goes
    into arithmetic.
    """
    n, m = parse_pattern(pattern)
    whole, macs, without = costs.count()[1], [], Counter[str]()
    for site in sites:
        reason = kernel_for(site, costs.shapes[site.tensor], dtype, device_type, pattern)
        if reason is None:
            macs.append(costs.macs_of(site.tensor))
        else:
            without[reason] += 1
    skipped = sum(macs) * (m - n) // m
    return Ceiling(len(macs), len(macs) + without.total(), sum(macs) / max(1, whole), skipped,
                   amdahl(whole, whole - skipped, share), dict(without.most_common()))


def amdahl(whole: int, left: int, share: float = 1.0) -> float:
    """The speed-up when arithmetic, a share of the time, shrinks from ``whole`` MACs to those that are ``left``."""
    return max(1, whole) / ((1 - share) * max(1, whole) + share * max(1, left))
