"""Parameters, bytes, and the type in which a network is stored."""

from typing import Any

import torch
from torch import Tensor, nn

from pruning.network.subject import parts_of


def total(net: nn.Module) -> int:
    """Parameters, zeros included."""
    return sum(p.numel() for p in net.parameters())


def weight(net: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the tensors in files of a type; the files add a header of names and shapes."""
    return sum(t.numel() * (dtype.itemsize if t.is_floating_point() else t.element_size())
               for t in net.state_dict().values())


def written_as(pipe: Any) -> torch.dtype:
    """The type that ``save`` writes: float16 when every value of all parts survives it, else the type in memory."""
    tensors = [t for part in parts_of(pipe).values() for t in part.state_dict().values() if t.is_floating_point()]
    return torch.float16 if all(map(survives, tensors)) else tensors[0].dtype


def survives(tensor: Tensor) -> bool:
    """Whether float16 holds every value exactly. A tensor without values holds none that could be lost."""
    if tensor.dtype == torch.float16 or tensor.device.type == "meta":
        return True
    return bool((tensor.half().to(tensor.dtype) == tensor).all())
