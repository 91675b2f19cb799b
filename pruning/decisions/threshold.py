"""Single weights below a score go."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruning.decisions import DECISIONS
from pruning.decisions.zeros import Zeros, piece_of
from pruning.scores.scores import SiteScores
from pruning.scores.sketch import keys
from pruning.types import PlanStep
from pruning.units.site import Site


@DECISIONS.add("threshold")
@dataclass(frozen=True)
class Threshold(Zeros):
    """``[key, kept, gone]``: those above a key (the bits of a float32 score) stay, and the last ``kept`` at it."""

    noun: ClassVar = "threshold"

    def gone(self, entry: Any, site: Site) -> int:
        """As it was counted."""
        return entry[-1]

    def fits(self, entry: Any, site: Site) -> bool:
        """A key of a score that is not negative, and counts of weights that the site has."""
        key, kept, count = entry
        return 0 <= key < 1 << 31 and 0 <= kept <= site.units and 0 <= count <= site.units

    def level(self, entry: Any) -> float | None:
        """The key as a score."""
        return float(torch.tensor(entry[0], dtype=torch.int32).view(torch.float32))

    def place(self, site: Site, keep: Tensor, scored: Iterable[SiteScores], entry: Any) -> None:
        """Those above the key stay, and the last ones exactly at it, in the order in which they are stored."""
        key, kept, _ = entry
        level = []
        for piece in scored:
            found = keys(piece.values)
            piece_of(site, keep, piece)[...] = found > key
            if kept:
                at = (found == key).nonzero()  # (n, axes), in the order of rows
                at[:, 0] += piece.start
                level.append(at)
        if kept:
            site.rows(keep)[tuple(torch.cat(level)[-kept:].cpu().T)] = True

    def holds(self, step: PlanStep, site: Site, weight: Tensor) -> bool:
        """At least as many zeros as went: which ones, only the scores say."""
        return int((weight == 0).sum()) >= step.decision.sites[site.name][2]
