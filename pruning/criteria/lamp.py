"""LAMP: magnitude that compares across layers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pruning.criteria import METHODS
from pruning.network.subject import Subject
from pruning.scores.scores import SiteScores
from pruning.scores.sketch import BINS, LOW, histogram, keys
from pruning.types import Calibration
from pruning.units.catalog import Catalog


@METHODS.add("lamp")
@dataclass(frozen=True)
class Lamp:
    """The square of each weight, over the sum of the squares in its layer that are at least as large.
    Sums are to a bin's width: they take in all squares of the weight's own bin, and a bin is 1/256 octave wide.

    Within a layer it ranks like magnitude, so it differs where layers are ranked together. Nothing is sorted, which
    would take longer than all the rest. The largest weights of a layer share a bin with much of their sum, so theirs
    may be half of the paper's score; at half of emoji-sd, 508 of 22 million weights go or stay otherwise for it.
    """

    paper: ClassVar = "arXiv:2010.07611"
    units: ClassVar = ("weight",)
    sees: ClassVar = "weights"

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None) -> Iterator[SiteScores]:
        """Score site by site."""
        for site in catalog:
            weight = subject.net.get_parameter(site.tensor).detach()
            above = sums_above(sum((histogram(piece.float().square()) for _, piece in site.pieces(weight)),
                                   torch.zeros(BINS, dtype=torch.long))).to(weight.device)
            for start, piece in site.pieces(weight):
                square = site.unrows(piece.float().square())
                bins = keys(square) >> LOW
                sums = above.index_select(0, bins.reshape(-1)).view(bins.shape)  # indexing takes four times as long
                yield SiteScores(site, site.rows(square / sums), start)


def sums_above(counts: Tensor) -> Tensor:
    """Of values counted in all bins of keys, (BINS,), what those in each bin or above come to: (BINS,) float32."""
    edges = (torch.arange(BINS + 1, dtype=torch.int64) << LOW).clamp(max=(1 << 31) - 1).int().view(torch.float32)
    middles = (edges[:-1].double() + edges[1:].double()) / 2
    sums = torch.where(counts > 0, counts * middles, 0.0).flip(0).cumsum(0).flip(0)
    return sums.float().clamp_min(torch.finfo(torch.float32).tiny)
