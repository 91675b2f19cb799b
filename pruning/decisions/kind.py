"""Kinds of decisions: how what goes is written down, and what a plan can do with it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from pruning.decisions import DECISIONS
from pruning.errors import Later
from pruning.network.subject import Subject
from pruning.scores.scores import SiteScores
from pruning.types import Adjusted, Decision, PlanStep, Trained
from pruning.units.site import Site
from pruning.units.unit import Unit
from pruning.values import told

LATER = ("layout",)


class DecisionKind:
    """One way to say what goes. An ``entry`` is what it says of one site; a plan is JSON, so it may be anything."""

    zeros: ClassVar[bool]  # single weights become zeros, chosen by all weights; else units go, and shapes alone count
    noun: ClassVar[str]  # what a refusal calls it

    def gone(self, entry: Any, site: Site) -> int:
        """How many units of a site go. Exact."""
        raise NotImplementedError

    def fits(self, entry: Any, site: Site) -> bool:
        """Whether an entry is one for this site. Of one that is not, anything may be raised that reading raises."""
        raise NotImplementedError

    def carry_out(self, looked_at: Subject, net: nn.Module, step: PlanStep, masked: bool) -> None:
        """Take from a copy of a component what goes; ``masked`` keeps every shape."""
        raise NotImplementedError

    def masks(self, looked_at: Subject, step: PlanStep, names: Sequence[str]) -> Iterator[tuple[Site, Tensor]]:
        """Of some sites, which weights stay: (site, bool in the weight's shape); only of a kind that puts zeros."""
        raise NotImplementedError

    def resolved(self, decision: Decision, pieces: Iterable[SiteScores], shape: Any) -> Iterator[tuple[Site, Tensor]]:
        """The same from scores that come piece by piece; ``shape`` gives a site's weight's shape."""
        raise NotImplementedError

    def suits(self, step: PlanStep) -> bool:
        """Whether all entries are what the step's recipe asks for, where it asks for something so exact."""
        return True

    def level(self, entry: Any) -> float | None:
        """The score at which a site's weights begin to stay; None of a kind that knows no such level."""
        return None

    def shrink(self, net: nn.Module, step: PlanStep) -> None:
        """Bring a network to the shapes that the step leaves, whatever its values are."""

    def misfit(self, step: PlanStep, site: Site, weight: Tensor, alone: bool) -> str | None:
        """Why a weight is not one that went through the step; ``alone`` says that no other step changed it."""
        return None


def kind_of(decision: Decision | Adjusted | Trained) -> DecisionKind:
    """The kind of a decision.

    Raises:
        Refused: this version has none of that name.
    """
    if decision.kind in LATER:
        raise Later(f"A plan with a {decision.kind}")
    name = decision.kind if isinstance(decision.kind, str) else told(decision.kind)  # of a file, it may be anything
    return DECISIONS[name]()


def carried(name: str, unit: type[Unit]) -> None:
    """Refuse a kind of unit that would go in a plan and stay in the network.

    Raises:
        TypeError: it names no kinds of decisions, or one that there is not, or that does not do to it what it says.
    """
    ends = [DECISIONS[kind] for kind in unit.decisions if kind in DECISIONS]
    if not ends or len(ends) < len(unit.decisions) or any(kind.zeros != unit.single for kind in ends):
        raise TypeError(f"units={name!r}: its decisions, {unit.decisions}, cannot carry out what it says")


def gone(decision: Decision | Adjusted | Trained, site: Site) -> int:
    """How many units of a site go. Exact. Of what only changes values, none."""
    entry = decision.sites.get(site.name) if isinstance(decision, Decision) else None
    return 0 if entry is None else kind_of(decision).gone(entry, site)


def shrinks(decision: Decision | Adjusted | Trained) -> bool:
    """Whether shapes change."""
    return isinstance(decision, Decision) and not kind_of(decision).zeros
