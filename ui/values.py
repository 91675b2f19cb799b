"""Small values between the engine and the figures: a side of a pair, a moment of its drawing, a layer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """What the page knows of one side: its pictures as addresses, its clock, and the model that made them."""

    pictures: tuple[str, ...]
    ms: float  # median over the steps so far, of the denoiser's call
    step: int = 0
    steps: int = 0
    params: int = 0
    zeros: int = 0
    fingerprint: str = ""


@dataclass(frozen=True)
class Moment:
    """Both sides after one step, as previews of the first picture; ``step`` counts from 1."""

    step: int
    dense: str
    pruned: str


@dataclass(frozen=True)
class Layer:
    """One row: a site's name, kind, units and how many go, and why it is left alone or snapped.

    ``quantiles`` are its scores at evenly spaced ranks, the lowest first; ``profile`` is what they come to in each
    timestep bucket, the one with the least noise first, where the method knows it. ``own`` is a ratio of its own.
    """

    name: str
    kind: str
    units: int
    gone: int
    reason: str | None = None
    quantiles: tuple[float, ...] = ()
    profile: tuple[float, ...] = ()
    own: float | None = None

    @property
    def module(self) -> str:
        """The module's path, which patterns on names are about."""
        return self.name.rsplit("#", 1)[0]
