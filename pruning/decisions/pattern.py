"""N:M patterns: so many weights of each few neighbours along the inputs stay."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pruning.decisions import DECISIONS
from pruning.decisions.zeros import Zeros, piece_of
from pruning.errors import Refused
from pruning.scores.scores import SiteScores
from pruning.types import PlanStep
from pruning.units.site import Site
from pruning.values import told

NM = re.compile("([0-9]{1,2}):([0-9]{1,2})")
WIDEST = 64  # M of an N:M pattern that is asked for; whole rows are wider


@DECISIONS.add("pattern")
@dataclass(frozen=True)
class Pattern(Zeros):
    """``"N:M"``: N weights stay of each M neighbours along the inputs; of a whole row, M is its length."""

    noun: ClassVar = "pattern"

    def gone(self, entry: Any, site: Site) -> int:
        """M - N of each M."""
        n, m = map(int, entry.split(":"))
        return site.units // m * (m - n)

    def fits(self, entry: Any, site: Site) -> bool:
        """Groups into which the inputs divide, of which some stay and some go; of weights by rows, whole rows."""
        n, m = map(int, entry.split(":"))
        return 0 < n < m and (site.inputs % m == 0 if site.kind == "nm" else site.inputs == m)

    def suits(self, step: PlanStep) -> bool:
        """The pattern that the recipe asks for, where it asks for one."""
        asked = step.recipe.pattern
        return asked is None or all(entry == asked for entry in step.decision.sites.values())

    def place(self, site: Site, keep: Tensor, scored: Iterable[SiteScores], entry: Any) -> None:
        """The highest of each group stay."""
        for piece in scored:
            piece_of(site, keep, piece)[...] = kept_pattern(piece.values, entry)

    def holds(self, step: PlanStep, site: Site, weight: Tensor) -> bool:
        """Zeros for all but N of each M."""
        rows = site.rows(weight)
        return not rows[~kept_pattern(rows.abs(), step.decision.sites[site.name])].any()

    def misfit(self, step: PlanStep, site: Site, weight: Tensor, alone: bool) -> str | None:
        """Also that every group has fewer weights than the pattern keeps: the layer went through another."""
        reason = super().misfit(step, site, weight, alone)
        if reason or not alone:
            return reason
        entry = step.decision.sites[site.name]
        n, m = map(int, entry.split(":"))
        most = int((site.rows(weight).reshape(-1, m) != 0).sum(1).max())
        return f"is {most}:{m}, and its plan says {entry}" if 0 < most < n else None


def kept_pattern(values: Tensor, pattern: str) -> Tensor:
    """Which weights of a site stay, (*rows, inputs) bool: the N highest of each M neighbours; ties keep the first."""
    n, m = map(int, pattern.split(":"))
    if m > WIDEST:
        rows = values.unflatten(-1, (-1, m))
        level = rows.kthvalue(m - n, -1, keepdim=True).values
        keep, ties = rows > level, rows == level
        missing = n - keep.sum(-1, keepdim=True)
        return (keep | (ties & (ties.cumsum(-1) <= missing))).flatten(-2)
    groups = values.unflatten(-1, (-1, m)).unbind(-1)
    keep = [sum((other >= mine).to(torch.int8) if j < i else (other > mine).to(torch.int8)
                for j, other in enumerate(groups) if j != i) < n for i, mine in enumerate(groups)]
    return torch.stack(keep, -1).flatten(-2)  # type: ignore[arg-type]


def parse_pattern(pattern: str) -> tuple[int, int]:
    """(2, 4) of "2:4".

    Raises:
        Refused: not of that form.
    """
    found = NM.fullmatch(pattern) if isinstance(pattern, str) else None
    n, m = map(int, found.groups()) if found else (0, 0)
    if not 0 < n < m <= WIDEST:
        raise Refused(f"{told(pattern)} is not an N:M pattern.", 'It reads "N:M", N kept of each M: 2:4, 1:4 or 4:8.')
    return n, m
