"""Activation: what is hardly used matters least."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from pruning.criteria import METHODS
from pruning.network.subject import Subject
from pruning.observe.inputs import Norms, combined, input_norms, met
from pruning.progress import Looked
from pruning.registry import knob
from pruning.scores.scores import SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.units.site import Site


@METHODS.add("activation")
@dataclass(frozen=True)
class Activation:
    """The size of the input that each weight meets (root mean square); of a larger unit, of what it hands on."""

    paper: ClassVar = ""
    units: ClassVar = ("weight", "nm", "head", "neuron", "channel", "width")
    sees: ClassVar = "inputs"
    buckets: int = knob(4, "timestep buckets, their inputs measured apart", low=1, high=16, step=1)
    over: str = knob("mean", "how the buckets become one: their mean, or the largest", choices=("mean", "max"))

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | SiteScores]:
        """Look at inputs, then score site by site."""
        norms = yield from input_norms(subject, calibration, self.buckets)
        for site in catalog:
            halves = norms.halves and partial(self.halves, site, norms.halves)
            if not site.single:
                passed = handed_on(site, norms)
                yield SiteScores(site, combined(passed, self.over), profile=passed.mean(1), halves=halves)
                continue
            by_bucket, layer = norms[site.module], subject.net.get_submodule(site.module)
            norm = combined(by_bucket, self.over)
            for start, piece in site.pieces(subject.net.get_parameter(site.tensor).detach()):
                yield SiteScores(site, met(norm, layer, start, piece).expand(piece.shape), start,
                                 None if start else by_bucket.mean(1), None if start else halves)

    def halves(self, site: Site, norms: tuple[Norms, Norms]) -> tuple[Tensor, Tensor]:
        """The scores by either half of the samples: of units, or of a layer's inputs, which its weights share."""
        one, other = (combined(norm[site.module] if site.single else handed_on(site, norm), self.over)
                      for norm in norms)
        return one, other


def handed_on(site: Site, norms: Norms) -> Tensor:
    """What the next layer is given of each unit, root mean square, (buckets, units)."""
    squares = []
    for member in site.members:
        given = norms.get(member.tensor.removesuffix(".weight"))
        if member.axis == 1 and given is not None:  # a table of classes gives its second axis, and is given none
            own = given[:, member.offset : member.offset + site.units * member.size]
            squares.append(own.unflatten(1, (site.units, member.size)).square().mean(2))
    return torch.stack(squares).mean(0).sqrt()
