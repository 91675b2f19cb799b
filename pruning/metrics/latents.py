"""How far latents are apart, after each step and in the end."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pruning.drawing.images import Stepped


class Divergence:
    """How far the sides are apart after each step. Keeps numbers, and latents only until the other side has its own."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._waiting: dict[int, Stepped] = {}

    def watching(self, events: Iterable[Any]) -> Iterator[Any]:
        """The events of a pair as they come, each step seen."""
        for event in events:
            if isinstance(event, Stepped):
                self.add(event)
            yield event

    def add(self, event: Stepped) -> None:
        """One side has done a step; which side comes first does not matter."""
        if event.index not in self._waiting:
            self._waiting[event.index] = event
            return
        both = {one.side: one.latents for one in (self._waiting.pop(event.index), event)}
        self.steps.append(apart(both["dense"], both["pruned"]))


@torch.no_grad()
def apart(dense: Tensor, pruned: Tensor) -> float:
    """|pruned - dense| / |dense|, the mean over pictures; both (images, channels, h, w)."""
    a, b = dense.float().flatten(1), pruned.float().flatten(1)
    return float(((b - a).norm(dim=1) / a.norm(dim=1)).mean())
