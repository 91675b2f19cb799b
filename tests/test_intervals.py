"""What pairs of runs can tell, by hand and against printed tables; and how often chance alone tells something."""

import numpy as np
import pytest

from pruning import intervals
from pruning.intervals import EQUAL, FASTER, FEW, NOISE, NOISY, SAME, SLOWER


def doubling(count):
    """Ratios of 1, 2, 4 …, one a pair."""
    return [2.0**i for i in range(count)], [1.0] * count


def test_six_pairs_by_hand():
    """Logarithms to base 2 are 0 to 5: the means two by two lie around 2.5, and none can be left out."""
    assert intervals.ratio(*doubling(6)) == pytest.approx((2**2.5, 1, 32))


def test_seven_pairs_leave_out_two_means_on_either_side():
    """0, 0.5 and 1 (twice) are the least means: 0 and 0.5 are left out."""
    assert intervals.ratio(*doubling(7)) == pytest.approx((2**3, 2, 2**5))


def test_five_pairs_tell_nothing():
    """All of them can point one way by chance in 2 of 32 cases."""
    assert intervals.ratio(*doubling(5)) is None
    assert intervals.ratio([10.0] * 5, [1.0] * 5) is None


# Wilcoxon's signed-rank test and the sign test, two-sided at 5 %: critical values as printed in any table.


@pytest.mark.parametrize(("pairs", "critical"), [
    (6, 0), (7, 2), (8, 3), (9, 5), (10, 8), (11, 10), (12, 13), (13, 17), (14, 21), (15, 25), (20, 52), (25, 89)])
def test_the_signed_ranks_are_those_of_the_tables(pairs, critical):
    assert intervals.outside(intervals.rank_sums(pairs)) == critical


@pytest.mark.parametrize(("samples", "critical"), [(6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (15, 3), (20, 5), (25, 7)])
def test_the_median_leaves_out_what_the_sign_test_does(samples, critical):
    values = list(map(float, range(samples)))
    assert intervals.middle(values[::-1]) == ((samples - 1) / 2, critical, samples - 1 - critical)


def test_of_few_samples_the_least_and_the_most_are_told():
    assert intervals.middle([3.0]) == (3, 3, 3)
    assert intervals.middle([1.0, 5.0, 2.0]) == (2, 1, 5)
    assert intervals.middle([3.0] * 9) == (3, 3, 3)


def test_a_hundred_pairs_are_no_trouble():
    value, low, high = intervals.ratio(np.linspace(90, 110, 100), [100.0] * 100)
    assert 0.98 < low < value < high < 1.02


def drifting(true, pairs, step):
    """Runs in the order A B, B A …, each slower than the one before by a factor; A takes ``true`` times as long."""
    clock = iter(step**i for i in range(2 * pairs))
    sides = [], []
    for turn in range(pairs):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            sides[side].append(next(clock) * (true if side == 0 else 1))
    return sides


@pytest.mark.parametrize("pairs", [6, 8, 10, 20])
@pytest.mark.parametrize("step", [0.9, 1.001, 1.05, 1.3])
def test_a_steady_drift_cancels(pairs, step):
    value, low, high = intervals.ratio(*drifting(1.25, pairs, step))
    assert value == pytest.approx(1.25)
    assert low * high == pytest.approx(1.25**2)  # as far below as above
    assert intervals.state(intervals.ratio(*drifting(1, pairs, step))) in (SAME, NOISE)


@pytest.mark.parametrize(("pairs", "state"), [(10, NOISE), (12, FASTER)])
def test_one_run_may_be_held_up_for_long(pairs, state):
    """Of ten pairs it takes ten means with it to the lower end, of which eight are left out; of twelve, 12 of 13."""
    dense, pruned = [110.0 + i % 3 for i in range(pairs)], [100.0 + i % 2 for i in range(pairs)]
    held_up = intervals.ratio(dense, [*pruned[:-1], 10_000.0])
    assert held_up[0] == pytest.approx(intervals.ratio(dense, pruned)[0], rel=0.01)
    assert intervals.state(held_up) == state


def test_turning_the_sides_turns_the_ratio():
    draw = np.random.default_rng(0)
    a, b = draw.lognormal(0, 0.1, 9), draw.lognormal(0.1, 0.1, 9)
    value, low, high = intervals.ratio(a, b)
    assert intervals.ratio(b, a) == pytest.approx((1 / value, 1 / high, 1 / low))


# Three things that can be said, and that there are too few runs.


@pytest.mark.parametrize(("found", "state", "words"), [
    ((1.5, 1.4, 1.6), FASTER, "1.50× (1.40 to 1.60)"),
    ((0.8, 0.75, 0.86), SLOWER, "0.80× (0.75 to 0.86)"),
    ((EQUAL, 1.001, 1.04), FASTER, "1.02× (1.00 to 1.04)"),
    ((1 / EQUAL, 0.97, 0.999), SLOWER, "0.98× (0.97 to 1.00)"),
    ((1.0107, 1.0077, 1.0137), SAME, "no difference larger than 2 %"),  # beyond noise, and too small to be told
    ((1.019, 1.001, 1.031), SAME, "no difference larger than 4 %"),
    ((0.985, 0.975, 0.995), SAME, "no difference larger than 3 %"),
    ((1.0, 0.999, 1.001), SAME, "no difference larger than 2 %"),
    ((1.0, 1 / NOISY, NOISY), SAME, "no difference larger than 5 %"),
    ((1.03, 0.99, 1.06), NOISE, "too noisy to tell (0.99× to 1.06×)"),
    ((1.019, 1.001, 1.08), NOISE, "too noisy to tell (1.00× to 1.08×)"),
    ((1.0, 0.5, 2.0), NOISE, "too noisy to tell (0.50× to 2.00×)"),
    (None, FEW, "too few runs to tell")])
def test_states(found, state, words):
    assert intervals.state(found) == state
    assert intervals.said(found) == words
    assert intervals.differs(found) == (state in (FASTER, SLOWER))


@pytest.mark.parametrize(("value", "agrees"), [(1.5, True), (1.4 / 1.019, True), (1.6 * 1.019, True),
                                               (1.4 / 1.021, False), (1.6 * 1.021, False)])
def test_a_ratio_agrees_within_the_interval_and_what_counts_as_equal(value, agrees):
    assert intervals.agrees((1.5, 1.4, 1.6), value) == agrees
    assert intervals.agrees(None, value)  # nothing speaks against it


def test_measurements_of_older_versions_are_read():
    """They held the intervals of both sides, and a speed-up where these did not meet."""
    timed = {"dense": [50.0, 49.0, 51.0], "pruned": [20.0, 19.0, 21.0], "speedup": 2.5}
    assert intervals.found_in(timed) == pytest.approx((2.5, 49 / 21, 51 / 19))
    assert intervals.found_in(timed | {"speedup": None}) is None  # a single run a side
    near = {"dense": [50.0, 48.0, 52.0], "pruned": [50.0, 48.0, 52.0], "speedup": None}
    assert intervals.state(intervals.found_in(near)) == NOISE
    assert intervals.found_in(timed | {"ratio": [2.4, 2.3, 2.6]}) == (2.4, 2.3, 2.6)
    assert intervals.found_in(timed | {"ratio": None}) is None


# How often chance tells something. Noise with a heavy tail, and a drift like that of a machine that warms up.


def told(true, pairs, series=1000, noise=0.03):
    """The share of simulated series of which a difference is told, and in which the truth lies within the interval."""
    draw = np.random.default_rng(0)
    differ = hold = 0
    for _ in range(series):
        drift = np.exp(draw.normal(0, 0.005) * np.arange(2 * pairs))
        dense, pruned = drifting(true, pairs, 1.0)
        for turn in range(pairs):
            first, second = drift[2 * turn : 2 * turn + 2] * np.exp(noise / 1.3 * draw.standard_t(5, 2))
            dense[turn] *= first if turn % 2 == 0 else second
            pruned[turn] *= second if turn % 2 == 0 else first
        found = intervals.ratio(dense, pruned)
        differ += intervals.differs(found)
        hold += found[1] <= true <= found[2]
    return differ / series, hold / series


@pytest.mark.parametrize("pairs", [6, 7, 10, 15])
def test_chance_alone_is_told_in_one_of_twenty_at_most(pairs):
    ways = intervals.rank_sums(pairs)  # 2 to the power of the pairs in all
    assert 2 * ways[: intervals.outside(ways) + 1].sum() <= 0.05 * 2**pairs  # exactly
    differ, hold = told(1.0, pairs)
    assert differ <= 0.065  # 5 % or less, give or take two standard errors of 1000 series
    assert hold >= 0.935


def test_ten_percent_are_found():
    """Noise of 3 %: in nine of ten cases by six pairs, by ten always."""
    assert told(1.1, 6, 500)[0] > 0.85
    assert told(1.1, 10, 500)[0] > 0.98
