"""Importance per unit. For weights a sketch of each site's values, and a way to stream the values again.

The bits of a non-negative float32, read as an integer, have the order of the float: they are the key of a score, and
their upper half is a bin of a histogram that needs no range to be chosen.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pruning.subject import Subject
from pruning.units.catalog import Catalog
from pruning.units.site import WEIGHTS, Site

LOW = 15  # bits of a key below the bin


@dataclass(frozen=True, eq=False)
class SiteScores:
    """A site's scores: ``values`` are (rows, inputs) for weights, (units,) for larger units, and never negative."""

    site: Site
    values: Tensor


def keys(values: Tensor) -> Tensor:
    """The bits of each score: integers of the same shape and order."""
    return values.float().contiguous().view(torch.int32)


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
        """The sketch of a site's values."""
        bins = keys(values).flatten() >> LOW
        first = int(bins.min())
        return cls(first, torch.bincount(bins - first).cpu())

    def edges(self) -> Tensor:
        """The scores at which the bins begin, (bins + 1,) float32."""
        return (torch.arange(self.first, self.first + len(self.counts) + 1, dtype=torch.int32) << LOW).view(
            torch.float32)


def pooled(sketches: Sequence[Sketch]) -> Sketch:
    """One sketch of all scores of several."""
    first = min(sketch.first for sketch in sketches)
    counts = torch.zeros(max(sketch.first + len(sketch.counts) for sketch in sketches) - first, dtype=torch.long)
    for sketch in sketches:
        counts[sketch.first - first : sketch.first - first + len(sketch.counts)] += sketch.counts
    return Sketch(first, counts)


def cut(sketch: Sketch, count: int) -> tuple[int, int]:
    """(the bin of keys that the ``count``-th lowest score is in, how many of that bin are among the lowest)."""
    place = int(torch.searchsorted(sketch.sums[1:], torch.tensor(count))) if count else 0
    place = min(place, len(sketch.counts) - 1)
    return sketch.first + place, count - int(sketch.sums[place])


@dataclass(frozen=True, eq=False)
class Scores:
    """All sites of a catalog, scored by one criterion with one seed."""

    subject: Subject
    catalog: Catalog
    criterion: Any
    sketches: Mapping[str, Sketch]  # of weight sites
    values: Mapping[str, Tensor]  # of larger units
    calibration: Any = None

    @property
    def nbytes(self) -> int:
        """The memory that sketches and values take."""
        return sum(t.numel() * t.element_size() for t in (*(s.counts for s in self.sketches.values()),
                                                          *self.values.values()))

    def stream(self, sites: Iterable[str]) -> Iterable[SiteScores]:
        """The values again, site by site."""
        return self.criterion(self.subject, self.catalog.only(*sites), self.calibration)


def collect(subject: Subject, catalog: Catalog, criterion: Any, calibration: Any = None,
            progress: Callable[[int, int], None] | None = None) -> Scores:
    """Run a criterion over a catalog, keeping sketches of the large sites and values of the small ones."""
    sketches, values = {}, {}
    for done, scored in enumerate(criterion(subject, catalog, calibration)):
        if scored.site.kind in WEIGHTS:
            sketches[scored.site.name] = Sketch.of(scored.values)
        else:
            values[scored.site.name] = scored.values
        if progress:
            progress(done + 1, len(catalog.sites))
    return Scores(subject, catalog, criterion, sketches, values, calibration)
