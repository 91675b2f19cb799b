"""Larger units in the order in which they may go: bundles, the smallest sets that may go together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.scores.scores import Scores
from pruning.spreads.granularity import step_of
from pruning.types import Recipe
from pruning.units.site import Site


@dataclass(frozen=True)
class Bundles:
    """A site's units in the order in which they may go: each bundle takes as many from every norm group."""

    site: Site
    order: Tensor  # (bundles, units of one) unit indices
    score: Tensor  # (bundles,) ascending

    @classmethod
    def of(cls, site: Site, values: Tensor, step: int = 0, aligned: bool = False) -> "Bundles":
        """Rank a site's units inside each norm group; ``aligned``, the same places of every group go together.

        A bundle is of ``step`` units, a multiple of the norm groups; 0 is one of each.
        """
        groups = values.view(site.quota, -1)
        ranked = groups.argsort(dim=1, stable=True)
        if aligned:
            ranked = groups.mean(0).argsort(stable=True).expand_as(groups)
        order = ranked + torch.arange(site.quota)[:, None] * groups.shape[1]
        each = max(1, step // site.quota)
        score = groups.gather(1, ranked).mean(0).view(-1, each).mean(1)
        return cls(site, order.T.reshape(-1, each * site.quota), score)

    def kept(self, gone: int) -> list[int]:
        """The units that stay when so many bundles go, ascending."""
        return sorted(self.order[gone:].flatten().tolist())


def bundles(scores: Scores, site: Site, recipe: Recipe) -> Bundles:
    """A site's units in the order in which they may go; no ratio changes that, so it is found once."""
    step, aligned = step_of(site, recipe.multiple), recipe.rounding == "newer"
    return scores.once((site.name, step, aligned),
                       lambda: Bundles.of(site, scores.values[site.name], step, aligned))


def bundles_gone(ranked: Sequence[Bundles], most: Sequence[int], sizes: Sequence[int], amount: float) -> list[int]:
    """How many bundles of each site go when all are ranked together: as many as fit in the amount.

    Of a site at most ``most`` go, and each counts the site's ``size``.
    """
    scores = torch.cat([one.score[:able] for one, able in zip(ranked, most, strict=True)])
    owner = torch.cat([torch.full((able,), i) for i, able in enumerate(most)])
    order = scores.argsort(stable=True)
    count = int((torch.tensor(sizes)[owner][order].cumsum(0) <= amount + 1e-6).sum())
    return torch.bincount(owner[order[:count]], minlength=len(ranked)).tolist()
