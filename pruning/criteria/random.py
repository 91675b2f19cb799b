"""Random: the baseline that every criterion must beat."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning.criteria import METHODS
from pruning.network.subject import Subject
from pruning.scores.scores import SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog


@METHODS.add("random")
@dataclass(frozen=True)
class Random:
    """A number drawn for each unit: what pruning does when nothing is looked at."""

    paper: ClassVar = ""
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "weights"
    seeded: ClassVar = True

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None) -> Iterator[SiteScores]:
        """Score site by site; a site's numbers depend on the seed and its name alone."""
        for site in catalog:
            seed = zlib.crc32(f"{subject.seed} {site.name}".encode())  # 32 bits: the generator drops the rest
            draw = torch.Generator().manual_seed(seed)
            if site.single:
                for start, weight in site.pieces(subject.net.get_parameter(site.tensor)):
                    yield SiteScores(site, torch.rand(weight.shape, generator=draw), start)
            else:
                yield SiteScores(site, torch.rand(site.units, generator=draw))
