"""Sketches of scores: how many fall in each bin of keys, where a float's bits are its key."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

LOW = 15  # bits of a key below the bin
BINS = 1 << (31 - LOW)
FINITE = 0x7F800000 >> LOW  # the bin from which on keys are of infinity and of NaN


def keys(values: Tensor) -> Tensor:
    """The bits of each score: integers of the same shape and order."""
    return values.float().view(torch.int32)


def stored(values: Tensor) -> Tensor:
    """All values in the order in which they are stored, (n,); no copy where they lie side by side."""
    order = sorted(range(values.ndim), key=values.stride, reverse=True)
    return values.permute(order).reshape(-1)


@dataclass(frozen=True, eq=False)
class Sketch:
    """How many of a site's scores fall in each bin of keys, from bin ``first`` on."""

    first: int
    counts: Tensor  # (bins,) int64

    @cached_property
    def sums(self) -> Tensor:
        """How many scores lie below each edge, (bins + 1,)."""
        return torch.cat([torch.zeros(1, dtype=torch.long), self.counts.cumsum(0)])

    def below(self, place: int) -> int:
        """How many scores lie below the bin of keys ``place``."""
        return int(self.sums[min(max(place - self.first, 0), len(self.counts))])

    @classmethod
    def of(cls, values: Tensor) -> "Sketch":
        """The sketch of some values."""
        return cls.trimmed(histogram(values))

    @classmethod
    def trimmed(cls, counts: Tensor) -> "Sketch":
        """The sketch of a histogram over all ``BINS``."""
        inside = counts.nonzero()
        first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, 0)
        return cls(first, counts[first : last + 1].clone())

    def edges(self) -> Tensor:
        """The scores at which the bins begin, (bins + 1,) float32."""
        return (torch.arange(self.first, self.first + len(self.counts) + 1, dtype=torch.int32) << LOW).view(
            torch.float32)


@dataclass(frozen=True, eq=False)
class Pool:
    """Sketches of several sites over the same bins of keys."""

    first: int
    sums: Tensor  # (sites, bins + 1) int32: how many weights of each site lie below each edge

    @classmethod
    def of(cls, sketches: Sequence[Sketch]) -> "Pool":
        """The sketches side by side."""
        first = min(sketch.first for sketch in sketches)
        bins = max(sketch.first + len(sketch.counts) for sketch in sketches) - first
        sums = torch.zeros(len(sketches), bins + 1, dtype=torch.int32)
        for row, sketch in zip(sums, sketches, strict=True):
            begin, end = sketch.first - first, sketch.first - first + len(sketch.counts)
            row[begin + 1 : end + 1] = sketch.sums[1:]
            row[end + 1 :] = row[end]
        return cls(first, sums)


def histogram(values: Tensor) -> Tensor:
    """How many values fall in each of all bins of keys, (BINS,) int64; those below zero count as not finite."""
    bins = stored(keys(values)) >> LOW
    try:
        return torch.bincount(bins, minlength=BINS).cpu()
    except RuntimeError:  # looking for them before takes as long as all the rest
        if not (bins < 0).any():
            raise
        return torch.bincount(bins.where(bins >= 0, FINITE), minlength=BINS).cpu()
