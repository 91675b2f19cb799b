"""The nouns of a report."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerReport:
    """One site: how many units it had and lost, and what that took.

    ``error`` is the relative squared error of what the layer hands on, before and after what stays was adjusted; None
    where that was not asked for, or the layer could not be looked at.
    """

    name: str
    kind: str
    units: int
    gone: int
    params_gone: int
    macs_gone: int | None
    requested: float
    reason: str | None
    error: tuple[float, float] | None = None

    @property
    def share(self) -> float:
        """The share of its units that went."""
        return self.gone / self.units


@dataclass(frozen=True)
class Report:
    """What was asked for and what came of it, for the pruned component. Speed is measured elsewhere."""

    requested: Mapping[str, Any]
    units: Mapping[str, int]
    params: Mapping[str, int]
    macs: Mapping[str, Any]
    bytes: Mapping[str, Any]
    speed: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    layers: tuple[LayerReport, ...]
    adjusted: Mapping[str, Any] | None = None  # what stays, where a recipe asked for that
    recovered: Mapping[str, Any] | None = None  # how it was trained afterwards, and what that did to its error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
