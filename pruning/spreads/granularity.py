"""How far a site can shrink, and in which steps: whole channels of every norm group, widths that a device likes.

A share of a layer's channels is seldom a whole number of them. The rules differ, and with them what comes of the same
ratio: of 128 channels in 32 norm groups 30 % are 38.4, which is 32 by the paper's rule of Diff-Pruning, 64 by that of
newer versions of Torch-Pruning, and 32 as the nearest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, gcd, lcm
from typing import Self

from pruning.spreads import SPREADS
from pruning.types import Recipe
from pruning.units.catalog import Catalog
from pruning.units.site import Site

NEAR = 1e-9  # a share that is so near to a whole number is one
ROUNDINGS: dict[str, tuple[str, Callable[[float, int], int]]] = {  # in words; (units asked, units of a step) -> steps
    "nearest": ("the step nearest to what is asked", lambda units, step: floor(units / step + 0.5)),
    "paper": ("the paper's rule: up to whole channels, then down to whole steps of all norm groups",
              lambda units, step: ceil(units - NEAR) // step),
    "newer": ("the rule since version 1.4.1: up to whole steps, the same places of every norm group",
              lambda units, step: ceil(units / step - NEAR)),
}
MULTIPLES = (1, 8, 16, 32)  # of a width that stays


def step_of(site: Site, multiple: int = 1) -> int:
    """How many units go together: one of each norm group, and as many as keep the width a multiple.

    A width that is no multiple itself cannot stay one; there norm groups alone count.
    """
    size = site.members[0].size
    step = lcm(site.quota, multiple // gcd(size, multiple))
    return step if site.units % step == 0 else site.quota


@dataclass(frozen=True)
class Room:
    """How far a site can shrink: by ``step`` units at a time, ``most`` times, each unit counting ``worth``."""

    site: Site
    step: int
    most: int
    worth: int
    rounding: str = "nearest"

    @classmethod
    def of(cls, site: Site, recipe: Recipe, catalog: Catalog) -> Self:
        """The room that a request leaves: never an empty layer, nor more than ``most`` of it."""
        if site.single:
            by_row = SPREADS[recipe.spread].by_row and site.kind == "weight"
            step = site.units // site.inputs if by_row else site.quota
        else:
            step = step_of(site, recipe.multiple)
        steps = site.units // step
        return cls(site, step, min(floor(steps * recipe.most + NEAR), steps - 1), catalog.worth(site, recipe.of),
                   recipe.rounding)

    @property
    def size(self) -> int:
        """What one step counts."""
        return self.step * self.worth

    @property
    def amount(self) -> int:
        """All that can go."""
        return self.most * self.size

    def steps(self, amount: float) -> int:
        """The number of steps that an amount is, rounded, as far as they can be taken."""
        return max(0, min(ROUNDINGS[self.rounding][1](amount / self.worth, self.step), self.most))
