"""Least squares under a mask: weights whose outputs are nearest to given ones."""

from math import inf

import torch
from torch import Tensor

LEAST = 1 << 28  # bytes of second moments that there is always room for
DAMP = 0.01  # of the mean of the diagonal, added to it
ABOVE = 1e-3  # of the exact solution's squared error, by which an adjusted layer's may be above it
TURNS, TINY = 400, 1e-30  # of conjugate gradients at most
WORTH = 100  # turns that factorising may cost instead
BATCH = 1 << 24  # numbers that are factorised in one go


def solved(weight: Tensor, keep: Tensor, moments: Tensor) -> tuple[Tensor, float]:
    """Weights, zero where ``keep`` is not, whose outputs are nearest those of ``weight``; all (outputs, n).

    For each output a least-squares problem of its own, over the weights that it keeps, on the damped moments. Each is
    factorised where that is affordable; else, and where rounding left something, all are iterated on together. With
    them comes the share by which their squared errors, summed up, can be above the least possible, at most.
    """
    size = float(moments.diagonal().mean()) or 1.0
    damped = moments / size
    damped.diagonal().add_(DAMP)
    return iterated(weight, keep, damped, factorised(weight, keep, damped) if affordable(keep) else weight * keep)


def affordable(keep: Tensor) -> bool:
    """Whether factorising for each row costs at most as much as ``WORTH`` turns of conjugate gradients."""
    rows, n = keep.shape
    return float(keep.sum(1).double().pow(3).sum()) / 3 <= WORTH * 2.0 * n * n * rows


def factorised(weight: Tensor, keep: Tensor, damped: Tensor) -> Tensor:
    """The exact solution but for rounding, row by row; rows that rounding leaves indefinite stay as they were.

    Rows that keep about as many are stacked, the shorter ones filled up with what does nothing.
    """
    out, counts = weight * keep, keep.sum(1)
    wanted = (weight - out) @ damped
    order = counts.argsort()
    rows = order[(counts[order] > 0) & (counts[order] < keep.shape[1])]
    while len(rows):
        most = int(counts[rows[-1]])
        some, rows = rows[-max(1, BATCH // most**2):], rows[: -max(1, BATCH // most**2)]
        places = keep[some].int().argsort(dim=1, descending=True, stable=True)[:, :most]  # those kept come first
        real = torch.arange(most, device=keep.device) < counts[some, None]
        parts = damped[places[:, :, None], places[:, None, :]] * (real[:, :, None] & real[:, None, :])
        parts.diagonal(dim1=1, dim2=2).add_(~real)
        factors, failed = torch.linalg.cholesky_ex(parts)
        gain = torch.cholesky_solve((wanted[some].gather(1, places) * real)[:, :, None], factors)[:, :, 0]
        out[some] = out[some].scatter_add(1, places, gain * real * (failed == 0)[:, None])
    return out


def iterated(weight: Tensor, keep: Tensor, damped: Tensor, out: Tensor) -> tuple[Tensor, float]:
    """Nearer to the solution by conjugate gradients, until the bound on what is left to win is small enough."""
    scale = 1 / damped.diagonal()  # so that inputs of all sizes are solved for in as few turns
    lost, left = _lost(weight - out, keep, damped)
    turn = left * scale
    size_left = (left * turn).sum(1, keepdim=True)
    for _ in range(TURNS):
        if _above(lost, left) <= ABOVE:
            break
        met = (turn @ damped) * keep
        far = size_left / (turn * met).sum(1, keepdim=True).clamp_min(TINY)
        out = out + far * turn
        left = left - far * met
        lost -= float((far * size_left).sum())
        before, size_left = size_left, (left * left * scale).sum(1, keepdim=True)
        turn = left * scale + size_left / before.clamp_min(TINY) * turn
    return out, _above(*_lost(weight - out, keep, damped))


def _lost(off: Tensor, keep: Tensor, damped: Tensor) -> tuple[float, Tensor]:
    """The squared error of weights that are off, and half of its gradient where they are free."""
    slope = off @ damped
    return float((slope * off).sum()), slope * keep


def _above(lost: float, left: Tensor) -> float:
    """By which share of the least squared error one can be above it: no eigenvalue of the moments is below ``DAMP``."""
    most = float(left.square().sum()) / DAMP
    return most / (lost - most) if most < lost else float(most > 0) and inf
