"""The benchmark of the clock's rule: real work of a known share, series cut and judged; no time is asserted on."""

import copy
import itertools

import pytest
import torch
from torch import nn

import pruning
from benchmarks import power, table
from benchmarks.power import burdened, drifting, row, series


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_burden_takes_a_share_of_the_call(monkeypatch, share):
    """On a clock that goes on by one whenever it is read, and by 500 in the call."""
    now = itertools.count()

    class Slow(nn.Module):
        def forward(self, x):
            for _ in range(500):
                next(now)
            return x

    net = Slow()
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(now))
    with burdened(net, lambda: share):
        before = next(now)
        assert net(torch.ones(1)).item() == 1
        assert next(now) - before == pytest.approx(501 * (1 + share), abs=5)
    before = next(now)
    net(torch.ones(1))
    assert next(now) - before == 501  # nothing is left of it


def test_a_drift_rises_and_falls():
    runs = itertools.count()
    shares = [drifting(runs) for _ in range(61)]
    assert shares[0] == shares[40] == 0
    assert shares[20] == shares[60] == pytest.approx(0.3)
    assert shares[10] == shares[30] == pytest.approx(0.15)


def test_series_stand_one_behind_the_other():
    taken = [2.0] * 6 + [1.0] * 6 + [9.0] * 5, [1.0] * 17
    assert series(taken, 6) == [pytest.approx((2, 2, 2)), pytest.approx((1, 1, 1))]  # five are left over


def test_a_row_by_hand():
    taken = [1.1] * 12 + [1.0] * 6 + [0.9] * 6, [1.0] * 24
    slowed = row(("copies", 0.1, True), taken, 6)
    assert (slowed["found"], slowed["false alarms"]) == ("2 of 4", "1 of 4")
    assert (slowed["no difference"], slowed["too noisy"], slowed["truth in the interval"]) == (1, 0, "2 of 4")
    same = row(("copies", 0.0, False), taken, 6)
    assert (same["found"], same["false alarms"], same["truth in the interval"]) == ("", "3 of 4", "1 of 4")


def test_the_first_side_is_slowed_and_the_drift_meets_both(monkeypatch):
    shares, sides = [], [nn.Linear(1, 1), nn.Linear(1, 1)]
    pipes = [type("Pipe", (), {"unet": net})() for net in sides]

    class Noted:
        def __init__(self, net, share):
            shares.append((sides.index(net), share()))

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(power, "burdened", Noted)
    monkeypatch.setattr(power, "drawing", lambda pipe, *_: {"step": 1.0})
    monkeypatch.setattr(power, "DRIFT", 0.2)
    power.timed(pipes, 0.1, True, 2)
    assert shares == [(0, pytest.approx(0.1)), (1, pytest.approx(0.01)), (1, pytest.approx(0.02)),
                      (0, pytest.approx(1.1 * 1.03 - 1))]


def test_every_case_is_run(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(power.pruning, "load", lambda name: copy.copy(tiny))
    monkeypatch.setattr(power, "SHOT", pruning.Shot("a", steps=1, guidance=1))
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    power.main(["--pairs", "10"])
    body = table.json.loads((tmp_path / "power.json").read_text())
    assert body["command"] == "python -m benchmarks.power --pairs 10"
    assert [(one["sides"], one["true ratio"], one["drift"], one["pairs"]) for one in body["rows"]] == [
        (sides, f"{1 + slower:.2f}", "yes" if drift else "no", length)
        for sides, slower, drift in power.CASES for length in (6, 10)]
    assert len(body["notes"]) == len(power.CASES)
    assert "| copies | 1.10 | yes | 10 |" in capsys.readouterr().out
