"""Measure mode: intervals by hand, the order of the runs, and no speed-up within the noise."""

from types import SimpleNamespace

import pytest
from conftest import same, state

import pruning
from pruning import clock


def test_the_interval_of_a_constant_is_the_constant():
    assert clock.interval([3.0] * 5) == (3.0, 3.0, 3.0)


def test_an_interval_holds_its_median_and_stays_within_the_samples():
    median, low, high = clock.interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert median == 3
    assert 1 <= low < 3 < high <= 100
    assert clock.interval([1.0, 2.0, 3.0, 4.0, 100.0]) == (median, low, high)


@pytest.fixture
def told(monkeypatch):
    """Runs that take as long as their pipeline says: a list of milliseconds, one a run. Gives the order of the runs."""
    order = []

    class Told:
        def __init__(self, pipe, shot, side):
            self.scheduler, self.ms, self.next = SimpleNamespace(timesteps=range(shot.steps)), [], pipe.pop(0)
            order.append(side)

        def step(self, index):
            self.ms.append(self.next if index else self.next * 50)  # the first step is slow, the median does not mind

    monkeypatch.setattr(clock, "Run", Told)
    monkeypatch.setattr(clock, "machine", lambda pipe: "a test")
    return order


def test_a_clear_difference_is_a_speedup(told):
    measured = clock.interleaved([900.0, 10, 10, 10], [900.0, 4, 4, 4], pruning.Shot(steps=3), repeats=3)
    assert (measured.dense, measured.pruned, measured.speedup) == ((10, 10, 10), (4, 4, 4), 2.5)
    assert told == ["dense", "pruned", "pruned", "dense", "dense", "pruned", "pruned", "dense"]  # A B B A
    assert measured.to_dict() == {"dense": (10, 10, 10), "pruned": (4, 4, 4), "speedup": 2.5, "repeats": 3,
                                  "taken_on": "a test"}


def test_a_slowdown_is_told_too(told):
    assert clock.interleaved([9.0, 2, 2], [9.0, 4, 4], pruning.Shot(steps=3), repeats=2).speedup == 0.5


@pytest.mark.parametrize("pruned", [[5.0, 9, 11, 10], [5.0, 10, 30, 9], [5.0, 1, 1, 12]])
def test_overlapping_intervals_are_no_speedup(told, pruned):
    assert clock.interleaved([5.0, 10, 10, 10], pruned, pruning.Shot(steps=3), repeats=3).speedup is None


def test_a_real_pair_is_measured(tiny):
    smaller = pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="width"))
    before = state(tiny)
    measured = pruning.measure(tiny, smaller, pruning.Shot("a b", steps=2), repeats=2)
    for median, low, high in (measured.dense, measured.pruned):
        assert 0 < low <= median <= high
    assert measured.repeats == 2
    assert "float32" in measured.taken_on
    assert "1 thread," in measured.taken_on
    assert same(before, state(tiny))
    plan = pruning.plan(tiny, ratio=0.5, units="width")
    assert pruning.report(tiny, smaller, plan, measured=measured).speed["measured"] == measured.to_dict()


def test_no_repeats_are_refused(tiny):
    with pytest.raises(pruning.Refused, match="repeats cannot be 0"):
        pruning.measure(tiny, tiny, pruning.Shot("a", steps=1), repeats=0)
