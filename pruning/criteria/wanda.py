"""Wanda: weights matter as much as what they pass on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruning.criteria import METHODS
from pruning.network.subject import Subject
from pruning.observe.inputs import Norms, by_input, combined, input_norms, met
from pruning.progress import Looked
from pruning.registry import knob
from pruning.scores.repeats import places
from pruning.scores.scores import SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.units.site import Site


@METHODS.add("wanda")
@dataclass(frozen=True)
class Wanda:
    """The size of each weight, times the size of the input that it meets (root mean square).

    It leaves the paper, which prunes linear layers of language models, in four places. The paper compares the weights
    of one output: here a whole layer's are ranked together unless the spread is by rows. A convolution's rows are an
    output at one position of the kernel, so that a row runs over input channels. The positions of a kernel share the
    norm of their input channel, borders included. And the paper has one norm for each input: a denoiser's inputs change
    with the noise, so here each timestep bucket has its own, a root mean square, and all count alike.
    """

    paper: ClassVar = "arXiv:2306.11695"
    units: ClassVar = ("weight", "nm")
    sees: ClassVar = "inputs"
    buckets: int = knob(4, "timestep buckets, their inputs measured apart", low=1, high=16, step=1)
    over: str = knob("mean", "how the buckets become one: their mean, or the largest", choices=("mean", "max"))

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | SiteScores]:
        """Look at inputs, then score site by site. The last piece of a site has its profile: by then all is summed."""
        norms = yield from input_norms(subject, calibration, self.buckets)
        for site in catalog:
            weight, layer = subject.net.get_parameter(site.tensor).detach(), subject.net.get_submodule(site.module)
            by_bucket = norms[site.module]  # (buckets, inputs)
            norm, sizes = combined(by_bucket, self.over), torch.zeros(by_bucket.shape[1])
            for start, piece in site.pieces(weight):
                size = piece.float().abs()
                sizes += by_input(size, layer, start).cpu()
                last = start + len(piece) == len(weight)
                yield SiteScores(site, size * met(norm, layer, start, piece), start,
                                 by_bucket @ sizes / site.units if last else None,
                                 None if start else self.halves(site, weight, layer, norms.halves))

    def halves(self, site: Site, weight: Tensor, layer: nn.Module, norms: tuple[Norms, Norms] | None
               ) -> Callable[[], tuple[Tensor, Tensor]] | None:
        """The scores of some weights by the norms of either half of the samples."""
        def score(norm: Tensor) -> Tensor:
            rows = site.rows(weight)
            where = places(rows.shape)
            return (rows[where].float().abs() * met(combined(norm, self.over), layer, 0, rows).expand(
                rows.shape)[where]).cpu()

        return norms and (lambda: (score(norms[0][site.module]), score(norms[1][site.module])))
