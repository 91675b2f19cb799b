"""How far scores would come out the same with other samples: rank correlation between two halves of them.

Knows tensors and numbers alone.
"""

import torch
from torch import Tensor

STEADY = 0.8  # below, a third or more of the variance of ranks is chance
SOME = 1 << 13  # weights of a layer that are compared: enough for a rank correlation to within 0.02


def places(shape: torch.Size) -> tuple[Tensor, ...]:
    """Indices of all values of a shape, one tensor an axis; of more than ``SOME``, as many drawn with a fixed seed."""
    count = shape.numel()
    flat = torch.arange(count) if count <= SOME else torch.randint(
        count, (SOME,), generator=torch.Generator().manual_seed(0))
    return torch.unravel_index(flat, shape)


def spearman(one: Tensor, other: Tensor) -> float | None:
    """The rank correlation of two lists of values, (n,); None where the values of one are all alike."""
    a, b = (ranks(values) - (len(values) - 1) / 2 for values in (one, other))
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else None


def ranks(values: Tensor) -> Tensor:
    """The rank of each value, from 0 on, float64; equal ones share the mean of theirs."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts + 1) / 2).double()[inverse]


def said(found: float | None) -> str:
    """A correlation between two halves of the samples in words; nothing where there is none."""
    if found is None:
        return ""
    advice = "" if found >= STEADY else " More samples make scores steadier."
    return f"Scores by two halves of the samples agree with a rank correlation of {found:.2f}.{advice}"
