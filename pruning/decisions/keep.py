"""Whole units: those that stay are written down, and the others are cut out of every tensor."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.decisions import DECISIONS
from pruning.decisions.kind import DecisionKind
from pruning.network.subject import Subject
from pruning.surgery.masking import mask_units
from pruning.surgery.slices import slice_units
from pruning.types import PlanStep
from pruning.units.catalog import find
from pruning.units.site import Site, indices


@DECISIONS.add("keep")
@dataclass(frozen=True)
class Keep(DecisionKind):
    """Half-open index ranges of the units that stay: ``[[start, stop], ...]``."""

    zeros: ClassVar = False

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

    def carry_out(self, looked_at: Subject, net: nn.Module, step: PlanStep, masked: bool) -> None:
        """Cut units out, or put zeros in their places."""
        (mask_units if masked else slice_units)(net, kept_units(net, step))

    def shrink(self, net: nn.Module, step: PlanStep) -> None:
        """Cut units out."""
        slice_units(net, kept_units(net, step))


def kept_units(net: nn.Module, step: PlanStep) -> dict[Site, Tensor]:
    """The units that stay of each site that a width step touches, (units kept,) indices."""
    sites = {site.name: site for site in find(net, step.recipe.units)}
    return {sites[name]: torch.tensor(indices(spans)) for name, spans in step.decision.sites.items()}
