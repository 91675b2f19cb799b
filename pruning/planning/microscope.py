"""What an N:M pattern does to one layer: how much of the weights' size it keeps, and whether hardware can read it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.decisions.pattern import kept_pattern, parse_pattern
from pruning.units.site import Site


@dataclass(frozen=True)
class Grouping:
    """One way to cut a layer's weights into groups of M.

    ``compliance`` is the share of groups along the input channels, where sparse kernels look for them, with at most N
    weights kept; ``retained`` is the L2 norm of what stays over that of all weights.
    """

    compliance: float
    retained: float


@dataclass(frozen=True)
class Microscope:
    """The layer's groups along the input channels, and those of a plain ``view(-1, M)`` of the stored tensor.

    The two are the same for a linear layer. A convolution is stored as (output, input, kernel row, kernel column), so
    the plain view groups across the kernel's positions: as pretty a picture, and useless to kernels.
    """

    along_inputs: Grouping
    flattened: Grouping
    alike: bool


def look(site: Site, weight: Tensor, scores: Tensor, pattern: str) -> Microscope:
    """Both groupings of one layer; ``weight`` as stored, ``scores`` (*rows, inputs)."""
    rows = site.rows(weight)
    ours = kept_pattern(scores, pattern)
    stored = site.unrows(scores).reshape(-1)
    m = parse_pattern(pattern)[1]
    whole = len(stored) // m * m
    flat = torch.cat([kept_pattern(stored[:whole].view(1, -1), pattern).view(-1),
                      torch.ones(len(stored) - whole, dtype=torch.bool, device=stored.device)])
    theirs = site.rows(flat.view(weight.shape))
    return Microscope(grouping(rows, ours, pattern), grouping(rows, theirs, pattern), torch.equal(ours, theirs))


def grouping(rows: Tensor, keep: Tensor, pattern: str) -> Grouping:
    """How a mask, (*rows, inputs), does along the input channels."""
    n, m = parse_pattern(pattern)
    kept = keep.unflatten(-1, (-1, m)).sum(-1)
    whole = rows.double().norm()
    return Grouping(float((kept <= n).double().mean()), float((rows.double() * keep).norm() / whole) if whole else 1.0)
