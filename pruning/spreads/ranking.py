"""The weights of some sites in one order, the lowest score first: how many of each site go, about and exactly.

Sketches say which bin of keys a cut falls in, and all but the split of that bin; one pass over the values splits it.
Of weights with the same score the earliest go: site by site in the catalog's order, and in a site by rows.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pruning.scores.scores import Scores
from pruning.scores.sketch import LOW, Pool, keys, stored

Inside = Mapping[str, Tensor]  # site -> how many of its keys in one bin have each lower half, (2**LOW,), summed up


@dataclass(frozen=True)
class Ranked:
    """A site in a ranking: each of its weights counts ``worth``, and at most ``most`` of them go."""

    name: str
    worth: int
    most: int


@dataclass(frozen=True, eq=False)
class Ranking:
    """Sites that are ranked together, and the amount that goes of them: weights, or what these are worth."""

    pool: Pool
    sites: Sequence[Ranked]
    amount: int

    @cached_property
    def _worth(self) -> Tensor:
        return torch.tensor([site.worth for site in self.sites])

    @cached_property
    def _most(self) -> Tensor:
        return torch.tensor([site.most for site in self.sites])

    def _below(self, place: int) -> Tensor:
        """How many of each site go when all below an edge do, (sites,)."""
        return torch.minimum(self.pool.sums[:, place].long(), self._most)

    @cached_property
    def place(self) -> int:
        """The bin that the cut falls in, counted from the pool's first."""
        last = self.pool.sums.shape[1] - 1
        return min(bisect_right(range(last + 1), self.amount, key=lambda at: int(self._below(at) @ self._worth)) - 1,
                   last - 1)

    def about(self) -> Tensor:
        """How many weights of each site go, (sites,): the bin of the cut is divided in proportion."""
        below = self._below(self.place)
        inside = self._below(self.place + 1) - below
        left = self.amount - int(below @ self._worth)
        exact = inside.double() * (left / max(1, int(inside @ self._worth)))
        whole = exact.floor().long()
        more = (left - int(whole @ self._worth)) // int(self._worth.max())
        whole[(exact - whole).argsort(descending=True, stable=True)[:more]] += 1
        return below + whole

    def unsure(self) -> Tensor:
        """By how many weights ``about`` can be off at most for each site, (sites,)."""
        return self._below(self.place + 1) - self._below(self.place)

    @cached_property
    def own(self) -> Mapping[str, int]:
        """The bin in which each site's own cut falls; a site that has given all that it may has an earlier one."""
        full = self.pool.sums[:, self.place] >= self._most
        early = torch.searchsorted(self.pool.sums, self._most.int()[:, None])[:, 0] - 1
        places = torch.where(full, early.clamp_min(0), torch.tensor(self.place)) + self.pool.first
        return {site.name: int(place) for site, place in zip(self.sites, places, strict=True)}

    def entries(self, inside: Inside) -> dict[str, list[int]]:
        """Per site that loses something: [key, how many exactly at it stay, how many go]."""
        sums = {name: inside.get(name, torch.zeros(1 << LOW, dtype=torch.int32)) for name in self.own}
        below = {site.name: int(row[self.own[site.name] - self.pool.first])
                 for site, row in zip(self.sites, self.pool.sums, strict=True)}
        gone = self._split(sums, below)
        out = {}
        for name, count in gone.items():
            key, kept = self.own[name] << LOW, 0
            if count:
                low = int(torch.searchsorted(sums[name], torch.tensor(count)))
                key, kept = key + low, int(sums[name][low]) - count
            else:
                key -= 1  # all below the bin, and nothing in it
            if below[name] + count:
                out[name] = [key, kept, below[name] + count]
        return out

    def _split(self, sums: Inside, below: Mapping[str, int]) -> dict[str, int]:
        """How many weights of each site go in its own bin."""
        left, gone, open_ = self.amount, {}, []
        for site in self.sites:
            room = site.most - below[site.name]
            if self.own[site.name] < self.place + self.pool.first:
                gone[site.name] = room
                left -= site.most * site.worth
            else:
                left -= below[site.name] * site.worth
                open_.append((site, sums[site.name].clamp(max=room), room))
        total = sum((part.long() * site.worth for site, part, _ in open_), torch.zeros(1 << LOW, dtype=torch.long))
        low = int(torch.searchsorted(total, torch.tensor(left))) if left > 0 else 0
        before = {site.name: int(part[low - 1]) if low and left > 0 else 0 for site, part, _ in open_}
        left -= sum(before[site.name] * site.worth for site, _, _ in open_)
        for site, part, _ in open_:
            level = int(part[min(low, len(part) - 1)]) - before[site.name]
            take = max(0, min(level, left // site.worth))
            left -= take * site.worth
            gone[site.name] = before[site.name] + take
        return gone


def inside(scores: Scores, places: Mapping[str, int]) -> Inside:
    """One pass over the values of some sites: how many keys lie at or below each lower half, within one bin a site."""
    some = [name for name, place in places.items()
            if scores.sketches[name].below(place + 1) > scores.sketches[name].below(place)]
    counts = {name: np.zeros(1 << LOW, dtype=np.int64) for name in some}
    for scored in scores.stream(some) if some else ():
        name = scored.site.name
        found = stored(keys(scored.values)).cpu().numpy()  # numpy picks out by a mask several times as fast as torch
        found = found[(found >> LOW) == places[name]] & ((1 << LOW) - 1)
        counts[name] += np.bincount(found, minlength=1 << LOW)
    return {name: torch.from_numpy(count.cumsum(dtype=np.int32)) for name, count in counts.items()}
