"""What runs of two sides can tell: how many times faster one is, in which interval, and in words.

Runs come in pairs that follow each other, and the side that goes first alternates: A B, B A, A B. What lasts longer
than a pair (other work, heat) meets both of its runs and leaves their ratio be. A steady drift makes the ratios too
large and too small in turn, so it cancels in the middle of an even number of pairs, half of which begin with A.

Nothing is presumed of the times, only that chance turns a pair's ratio to x as often as to 1 / x where neither side is
faster.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float, float]  # (value, low, high), of 95 % or a little more

FEWEST = 6  # pairs: all of five point one way by chance in 1 of 16 cases, which is more than one in 20
EQUAL = 1.02  # times as fast: two copies of one model can differ by a percent for where their parts lie in memory
NOISY = 1.05  # an interval that holds 1 and reaches further to either side tells too little
CHANCE = 0.05  # that an interval misses

FASTER, SLOWER, SAME, NOISE, FEW = "faster", "slower", "no difference", "too noisy", "too few"


def ratio(dense: Sequence[float], pruned: Sequence[float]) -> Interval | None:
    """(times faster, low, high) of runs taken in pairs; None of fewer than six pairs, which cannot tell.

    Of the logarithms, the median of all means of two pairs (Hodges and Lehmann 1963), and those means that Wilcoxon's
    signed-rank test leaves open. The test is exact for every number of pairs; of twelve or more, one may have been held
    up by other work for however long.
    """
    if len(dense) < FEWEST:
        return None
    each = np.log(np.asarray(dense, dtype=float) / np.asarray(pruned, dtype=float))
    one, other = np.triu_indices(len(each))
    means = np.sort((each[one] + each[other]) / 2)
    out = outside(rank_sums(len(each)))
    return _triple(np.exp([np.median(means), means[out], means[-1 - out]]))


def middle(samples: Sequence[float]) -> Interval:
    """(median, low, high): the interval of the median by counts; of fewer than six samples, the least and the most."""
    values = np.sort(np.asarray(samples, dtype=float))
    out = outside(_counts([1] * len(values)))
    return _triple([np.median(values), values[out], values[-1 - out]])


def rank_sums(pairs: int) -> NDArray[np.float64]:
    """In how many ways some of the ranks 1 to ``pairs`` sum to 0, 1, 2 …"""
    return _counts(range(1, pairs + 1))


def outside(ways: NDArray[np.float64]) -> int:
    """How many of the least values an interval leaves out: as many as chance falls below in half of the misses."""
    below = np.cumsum(ways) / ways.sum()
    return max(0, int(np.searchsorted(below, CHANCE / 2, side="right")) - 1)


def _counts(steps: Sequence[int] | range) -> NDArray[np.float64]:
    """In how many ways some of the steps sum to 0, 1, 2 …"""
    ways = np.ones(1)
    for step in steps:
        with_it = np.zeros(len(ways) + step)
        with_it[:-step] += ways
        with_it[step:] += ways
        ways = with_it
    return ways


def _triple(values: Any) -> Interval:
    value, low, high = map(float, values)
    return value, low, high


def state(found: Interval | None) -> str:
    """What an interval of a ratio comes to: faster, slower, no difference, too noisy, too few."""
    if found is None:
        return FEW
    value, low, high = found
    if low > 1 and value >= EQUAL:
        return FASTER
    if high < 1 and value <= 1 / EQUAL:
        return SLOWER
    return SAME if _reach(found) <= NOISY else NOISE


def differs(found: Interval | None) -> bool:
    """Whether one side is faster."""
    return state(found) in (FASTER, SLOWER)


def said(found: Interval | None) -> str:
    """The same in words, with the figures that they stand on."""
    if found is None:
        return "too few runs to tell"
    value, low, high = found
    if differs(found):
        return f"{value:.2f}× ({low:.2f} to {high:.2f})"
    if state(found) == SAME:
        return f"no difference larger than {within(found)} %"
    return f"too noisy to tell ({low:.2f}× to {high:.2f}×)"


def within(found: Interval) -> int:
    """The percent that a difference does not exceed; less than what counts as equal is not told apart."""
    return max(round((EQUAL - 1) * 100), ceil((_reach(found) - 1) * 100 - 1e-9))


def agrees(found: Interval | None, value: float) -> bool:
    """Whether a ratio is one that the runs leave open, give or take what counts as equal."""
    return found is None or found[1] / EQUAL <= value <= found[2] * EQUAL


def found_in(timed: Mapping[str, Any]) -> Interval | None:
    """The ratio of a part that was measured; of versions that kept no pairs, what both sides' intervals leave open."""
    if "ratio" in timed:
        return timed["ratio"] and _triple(timed["ratio"])
    (a, b, c), (d, e, f) = timed["dense"], timed["pruned"]
    found = a / d, b / f, c / e
    return None if timed["speedup"] is None and differs(found) else found


def _reach(found: Interval) -> float:
    return max(found[2], 1 / found[1])
