"""What all decisions share that put zeros in place of single weights."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.criteria import METHODS
from pruning.decisions.kind import DecisionKind
from pruning.network.subject import Subject
from pruning.scores.scores import SiteScores, streamed
from pruning.surgery.masking import places_of, put, zeroed
from pruning.types import Decision, PlanStep
from pruning.units.catalog import catalog
from pruning.units.site import Site


class Zeros(DecisionKind):
    """A decision about single weights. Which stay is found again from scores, piece by piece."""

    zeros: ClassVar = True

    def place(self, site: Site, keep: Tensor, scored: Iterable[SiteScores], entry: Any) -> None:
        """Mark in ``keep``, in the weight's shape, what stays of a site whose scores come piece by piece."""
        raise NotImplementedError

    def holds(self, step: PlanStep, site: Site, weight: Tensor) -> bool:
        """Whether a weight has zeros where the step put them."""
        raise NotImplementedError

    def carry_out(self, looked_at: Subject, net: nn.Module, step: PlanStep, masked: bool) -> None:
        """Put zeros; shapes stay in any case."""
        places = places_of(net)
        for site, keep in self.masks(looked_at, step, list(step.decision.sites)):
            put(places, site.tensor, zeroed(net.get_parameter(site.tensor).detach(), keep))

    def misfit(self, step: PlanStep, site: Site, weight: Tensor, alone: bool) -> str | None:
        """That it has weights where the plan says zero."""
        return None if self.holds(step, site, weight) else "has weights where its plan says zero"

    def masks(self, looked_at: Subject, step: PlanStep, names: Sequence[str]) -> Iterator[tuple[Site, Tensor]]:
        """Which weights of some sites stay, from scores that are taken again."""
        recipe, net = step.recipe, looked_at.net
        some = catalog(net, recipe.units, looked_at.example, looked_at.label).only(*names)
        criterion = METHODS.make(recipe.method, dict(recipe.options))
        assert isinstance(step.decision, Decision)
        yield from self.resolved(step.decision, streamed(criterion, looked_at, some, recipe.calibration),
                                 lambda site: net.get_parameter(site.tensor).shape)

    def resolved(self, decision: Decision, pieces: Iterable[SiteScores], shape: Any) -> Iterator[tuple[Site, Tensor]]:
        """(site, which of its weights stay, bool in the weight's own shape), from scores that come piece by piece.

        ``shape`` gives a site's weight's shape.
        """
        for site, scored in groupby(pieces, key=lambda piece: piece.site):
            keep = torch.empty(shape(site), dtype=torch.bool)
            self.place(site, keep, scored, decision.sites[site.name])
            yield site, keep


def piece_of(site: Site, keep: Tensor, piece: SiteScores) -> Tensor:
    """The part of a mask that a piece's scores are of."""
    return site.rows(keep)[piece.start : piece.start + len(piece.values)]
