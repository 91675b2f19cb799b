"""Whole units: those that stay are written down, and the others are cut out of every tensor."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.decisions import DECISIONS
from pruning.network.subject import Subject
from pruning.scores.scores import SiteScores
from pruning.surgery.masking import mask_units
from pruning.surgery.slices import slice_units
from pruning.types import Decision, PlanStep
from pruning.units.catalog import find
from pruning.units.site import Site, indices


@DECISIONS.add("keep")
@dataclass(frozen=True)
class Keep:
    """Half-open index ranges of the units that stay: ``[[start, stop], ...]``."""

    zeros: ClassVar = False
    noun: ClassVar = "keep"

    def gone(self, entry: Any, site: Site) -> int:
        """Those outside of the ranges."""
        return site.units - sum(stop - start for start, stop in entry)

    def fits(self, entry: Any, site: Site) -> bool:
        """Units that the site has, equally many of each norm group, and one at least."""
        edges = [edge for start, stop in entry for edge in (start, stop)]
        if not edges or edges != sorted(edges) or edges[0] < 0 or edges[-1] > site.units:
            return False
        units = torch.tensor(indices(entry), dtype=torch.long)
        shares = torch.bincount(units // (site.units // site.quota), minlength=site.quota)
        return len(units) == len(units.unique()) and bool((shares == shares[0]).all() and shares[0] > 0)

    def suits(self, step: PlanStep) -> bool:
        """They do: how many stay follows from more than the recipe."""
        return True

    def level(self, entry: Any) -> float | None:
        """There is none for all weights of a site."""
        return None

    def carry_out(self, looked_at: Subject, net: nn.Module, step: PlanStep, masked: bool) -> None:
        """Cut units out, or put zeros in their places."""
        (mask_units if masked else slice_units)(net, kept_units(net, step))

    def shrink(self, net: nn.Module, step: PlanStep) -> None:
        """Cut units out."""
        slice_units(net, kept_units(net, step))

    def masks(self, looked_at: Subject, step: PlanStep, names: Sequence[str]) -> Iterator[tuple[Site, Tensor]]:
        """There are none."""
        raise NotImplementedError("units are cut out, so no mask says which weights stay")

    def resolved(self, decision: Decision, pieces: Iterable[SiteScores], shape: Any) -> Iterator[tuple[Site, Tensor]]:
        """There are none."""
        raise NotImplementedError("units are cut out, so no mask says which weights stay")

    def misfit(self, step: PlanStep, site: Site, weight: Tensor, alone: bool) -> str | None:
        """Of values it says nothing."""
        return None


def kept_units(net: nn.Module, step: PlanStep) -> dict[Site, Tensor]:
    """The units that stay of each site that a width step touches, (units kept,) indices."""
    sites = {site.name: site for site in find(net, step.recipe.units)}
    return {sites[name]: torch.tensor(indices(spans)) for name, spans in step.decision.sites.items()}
