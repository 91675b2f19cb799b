"""What pairs of runs can tell, by hand and against printed tables; and how often chance alone tells something."""

import numpy as np
import pytest

from pruning.timing import intervals
from pruning.timing.intervals import EQUAL, FASTER, FEW, NOISE, NOISY, SAME, SLOWER


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


# How often chance tells something, on machines of several kinds. All seeds are fixed, so the counts are, too.


def noise(draw, runs, size=0.02):
    """A heavy tail: one run in forty is off by more than three times the usual."""
    return np.exp(size / 1.3 * draw.standard_t(5, runs))


MACHINES = {  # what the machine makes of each run's time: (draw, runs) -> factors in the order of the runs
    "quiet": noise,
    "warming up": lambda draw, runs: noise(draw, runs) * np.exp(0.3 * (1 - np.exp(-np.arange(runs) / 6))),
    "drifting": lambda draw, runs: noise(draw, runs) * np.exp(draw.normal(0, 0.02) * np.arange(runs)),
    "wandering": lambda draw, runs: noise(draw, runs) * np.exp(np.cumsum(draw.normal(0, 0.01, runs))),
    "busy for a while": lambda draw, runs: noise(draw, runs) * (
        1 + 0.6 * ((np.arange(runs) - draw.integers(0, runs)) % runs < runs // 3)),
    "held up now and then": lambda draw, runs: noise(draw, runs) * (1 + (draw.random(runs) < 0.05) * draw.random(runs)),
}


def told(machine, true, pairs, count=2000):
    """(faster, slower, truth within the interval): how many of simulated series tell so."""
    draw = np.random.default_rng([pairs, round(1000 * true)])
    states, hold = [], 0
    for _ in range(count):
        first, second = MACHINES[machine](draw, 2 * pairs).reshape(pairs, 2).T
        turned = np.arange(pairs) % 2 == 1
        dense, pruned = np.where(turned, second, first) * true, np.where(turned, first, second)
        found = intervals.ratio(dense, pruned)
        states.append(intervals.state(found))
        hold += found[1] <= true <= found[2]
    return states.count(FASTER), states.count(SLOWER), hold


@pytest.mark.parametrize("pairs", [6, 7, 10, 15])
def test_an_interval_misses_in_one_of_twenty_at_most(pairs):
    ways = intervals.rank_sums(pairs)  # 2 to the power of the pairs in all
    assert 2 * ways[: intervals.outside(ways) + 1].sum() <= 0.05 * 2**pairs  # exactly


@pytest.mark.parametrize("pairs", [6, 10])
@pytest.mark.parametrize("machine", MACHINES)
def test_chance_alone_is_told_in_one_of_twenty_at_most(machine, pairs):
    """Of 2000 series with no difference, 12 to 45 tell one; 100 by ten pairs of which a busy spell halves two."""
    faster, slower, hold = told(machine, 1.0, pairs)
    assert faster + slower <= 100
    assert hold >= 1850  # where other work begins and ends within pairs; elsewhere 1892 and more


@pytest.mark.parametrize(("machine", "six", "ten"), [
    ("quiet", 0.95, 1), ("warming up", 0.95, 1), ("drifting", 0.95, 1), ("wandering", 0.95, 1),
    ("busy for a while", 0.45, 0.75), ("held up now and then", 0.7, 0.65)])
def test_ten_percent_are_found(machine, six, ten):
    """Noise of 2 % and whatever the machine does; a run that is held up can cost a series of so few its answer."""
    for pairs, floor in ((6, six), (10, ten)):
        faster, slower, _ = told(machine, 1.1, pairs, 500)
        assert faster >= floor * 500
        assert slower == 0


def test_five_percent_are_found_by_ten_pairs():
    assert told("quiet", 1.05, 10, 500)[0] >= 0.95 * 500
    assert told("drifting", 1.05, 10, 500)[0] >= 0.9 * 500
