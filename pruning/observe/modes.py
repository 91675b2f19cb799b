"""Networks in evaluation mode, and room for statistics in memory or on the disk."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from pruning.errors import Refused


@contextmanager
def resting(net: nn.Module) -> Iterator[None]:
    """Every part in evaluation mode, so that nothing is left to chance."""
    training = [module for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def room_for(times: int, tensors: Mapping[str, Tensor]) -> bool:
    """Whether as many numbers as some tensors have, so many times over, take at most a quarter of what is free."""
    return 4 * times * sum(tensor.numel() for tensor in tensors.values()) <= psutil.virtual_memory().available // 4


def blank(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros for as many numbers as some tensors have, float32; on the disk when memory is short."""
    flat = _zeros(sum(tensor.numel() for tensor in tensors.values()))
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}


def _zeros(count: int) -> Tensor:
    """Zeros in memory, or in a file without a name when they would take more than a quarter of what is free.

    Raises:
        Refused: they fit neither in memory nor on the disk.
    """
    if 4 * count <= psutil.virtual_memory().available // 4:
        return torch.zeros(count)
    if 4 * count > shutil.disk_usage(tempfile.gettempdir()).free:
        raise Refused(f"Gradients take {4 * count / 1e9:.3g} GB, and neither memory nor disk has room for them.",
                      f"Free some space in {tempfile.gettempdir()}, or choose a method that sees inputs alone.")
    with tempfile.TemporaryFile() as file:  # it goes when the tensor does
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(count,)))
