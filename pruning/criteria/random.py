"""Random: the baseline that every criterion must beat."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from pruning.criteria import CRITERIA
from pruning.scores import SiteScores
from pruning.subject import Subject
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.units.site import WEIGHTS


@CRITERIA.add("random")
@dataclass(frozen=True)
class Random:
    """A number drawn for each unit: what pruning does when nothing is looked at."""

    paper: ClassVar = ""
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    seeded: ClassVar = True

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None) -> Iterator[SiteScores]:
        """Score site by site; a site's numbers depend on the seed and its name alone."""
        for site in catalog:
            seed = zlib.crc32(f"{subject.seed} {site.name}".encode())  # 32 bits: the generator drops the rest
            draw = torch.Generator().manual_seed(seed)
            shape = (site.units // site.inputs, site.inputs) if site.kind in WEIGHTS else (site.units,)
            yield SiteScores(site, torch.rand(shape, generator=draw))
