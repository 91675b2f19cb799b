"""Measure mode: intervals by hand, the order of the runs, nothing inside one, and no speed-up within the noise."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import same, state
from torch.profiler import ProfilerActivity, profile

import pruning
from pruning import clock
from pruning.clock import Measured, Timed, Turn
from pruning.costs import on_meta
from pruning.subject import subject

PARTS = ["text_encoder", "step", "denoiser", "vae.decoder", "picture"]


def test_the_interval_of_a_constant_is_the_constant():
    assert clock.interval([3.0] * 5) == (3.0, 3.0, 3.0)


def test_an_interval_holds_its_median_and_stays_within_the_samples():
    median, low, high = clock.interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert median == 3
    assert 1 <= low < 3 < high <= 100
    assert clock.interval([1.0, 2.0, 3.0, 4.0, 100.0]) == (median, low, high)


def test_a_single_run_a_side_says_nothing():
    assert clock.timed([10.0], [5.0]) == Timed((10, 10, 10), (5, 5, 5), None)
    assert clock.timed([10.0] * 2, [5.0] * 2).speedup == 2


@pytest.fixture
def told(monkeypatch):
    """Runs that take as long as their pipeline says: a list of milliseconds, one a run. Gives the order of the runs."""
    order = []

    def drawing(pipe, shot, side):
        order.append(side)
        ms = pipe.pop(0)
        return {"step": ms, "picture": 1000 * ms}

    monkeypatch.setattr(clock, "drawing", drawing)
    monkeypatch.setattr(clock, "check", lambda dense, pruned, repeats: None)
    monkeypatch.setattr(clock, "Run", lambda pipe, shot: None)
    monkeypatch.setattr(clock, "operators", lambda run: {"addmm": 3.0, "copy_": 1.0})
    monkeypatch.setattr(clock, "machine", lambda pipe: "a test")
    return order


def test_a_clear_difference_is_a_speedup(told):
    measured = clock.interleaved([900.0, 10, 10, 10], [900.0, 4, 4, 4], pruning.Shot(), repeats=3)
    assert (measured.dense, measured.pruned, measured.speedup) == ((10, 10, 10), (4, 4, 4), 2.5)  # no 900: a warm-up
    assert told == ["dense", "pruned", "pruned", "dense", "dense", "pruned", "pruned", "dense"]  # A B B A
    step = {"dense": (10, 10, 10), "pruned": (4, 4, 4), "speedup": 2.5}
    picture = {"dense": (10_000,) * 3, "pruned": (4000,) * 3, "speedup": 2.5}
    assert measured.to_dict() == {**step, "repeats": 3, "taken_on": "a test", "kernels": 0.75,
                                  "between": 0.0, "steps": 20, "sparse": {},
                                  "parts": {"step": step, "picture": picture}}


def test_turns_say_how_far_it_is(told):
    *events, last = clock.turns([4.0, 2, 2], [8.0, 1, 1], pruning.Shot(), repeats=2)
    assert isinstance(last, Measured)
    assert events == [
        Turn(1, 6, "dense", 4, 20),  # five runs to go, of 4 s each
        Turn(2, 6, "pruned", 8, 24),  # 4 runs, half of 4 s and half of 8 s
        Turn(3, 6, "pruned", 1, 7.5), Turn(4, 6, "dense", 2, 3), Turn(5, 6, "dense", 2, 1.5),
        Turn(6, 6, "pruned", 1, 0)]


def test_a_slowdown_is_told_too(told):
    assert clock.interleaved([9.0, 2, 2], [9.0, 4, 4], pruning.Shot(), repeats=2).speedup == 0.5


@pytest.mark.parametrize("pruned", [[5.0, 9, 11, 10], [5.0, 10, 30, 9], [5.0, 1, 1, 12]])
def test_overlapping_intervals_are_no_speedup(told, pruned):
    assert clock.interleaved([5.0, 10, 10, 10], pruned, pruning.Shot(), repeats=3).speedup is None


# On real pipelines.


@pytest.fixture(scope="module")
def smaller(tiny):
    return pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="width"))


@pytest.fixture
def seen(monkeypatch):
    """Everything that runs do, in order."""
    log = []

    class Seen(clock.Run):
        def __init__(self, pipe, shot, side="dense"):
            super().__init__(pipe, shot, side)
            log.append(side)

        def step(self, index):
            log.append(index)
            return super().step(index)

    monkeypatch.setattr(clock, "Run", Seen)
    return log


def test_a_real_pair_is_measured(tiny, smaller):
    before = state(tiny)
    measured = pruning.measure(tiny, smaller, pruning.Shot("a b", steps=3), repeats=2)
    assert list(measured.parts) == PARTS
    assert measured.parts["step"] == Timed(measured.dense, measured.pruned, measured.speedup)
    for timed in measured.parts.values():
        for median, low, high in (timed.dense, timed.pruned):
            assert 0 < low <= median <= high
    assert 0 < measured.kernels < 1
    assert measured.repeats == 2
    assert "float32" in measured.taken_on
    assert "1 thread," in measured.taken_on
    assert same(before, state(tiny))
    assert json.loads(json.dumps(measured.to_dict()))["parts"]["picture"]["dense"] == list(
        measured.parts["picture"].dense)
    plan = pruning.plan(tiny, ratio=0.5, units="width")
    assert pruning.report(tiny, smaller, plan, measured=measured).speed["measured"] == measured.to_dict()


def test_nothing_is_yielded_inside_a_run(tiny, smaller, seen):
    for event in clock.turns(tiny, smaller, pruning.Shot("a", steps=2), repeats=1):
        seen.append(type(event).__name__)
    assert seen == ["dense",  # waits for the profiler; if it could not be drawn, nothing would run
                    "dense", 0, 1, "Turn", "pruned", 0, 1, "Turn", "pruned", 0, 1, "Turn", "dense", 0, 1, "Turn",
                    0, 1, "Measured"]


def test_the_parts_lie_within_the_picture(tiny):
    one = clock.drawing(tiny, pruning.Shot("a", steps=3, images=2), "dense")
    assert list(one) == PARTS
    assert one["text_encoder"] + one["denoiser"] + one["vae.decoder"] < one["picture"]
    assert one["step"] < one["denoiser"]


def test_both_sides_begin_with_the_same_noise(tiny, smaller, monkeypatch):
    starts = []

    class Seen(clock.Run):
        def __init__(self, *given):
            super().__init__(*given)
            starts.append(self.latents)

    monkeypatch.setattr(clock, "Run", Seen)
    clock.interleaved(tiny, smaller, pruning.Shot("a", steps=1, seed=3), repeats=1)
    assert len(starts) == 5
    assert all(torch.equal(starts[0], other) for other in starts)


def hooks(pipe):
    return [hook for part in (pipe.text_encoder, pipe.vae.decoder, pipe.unet) for module in part.modules()
            for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


def test_closing_stops_the_work_and_leaves_nothing(tiny, smaller, seen):
    before, events = state(tiny), clock.turns(tiny, smaller, pruning.Shot("a", steps=2), repeats=3)
    next(events)
    done = list(seen)
    assert not hooks(tiny)
    events.close()
    assert seen == done == ["dense", "dense", 0, 1]
    assert same(before, state(tiny))


def test_an_error_leaves_nothing(tiny, smaller, monkeypatch):
    monkeypatch.setattr(clock.Run, "step", lambda self, index: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clock.interleaved(tiny, smaller, pruning.Shot("a", steps=1))
    assert not hooks(tiny)


@pytest.mark.parametrize(("repeats", "shot", "words"), [
    (0, {}, "repeats cannot be 0"), (101, {}, "100 the most"), (1, {"sampler": "heun"}, "No sampler is called 'heun'"),
    (1, {"size": 33}, "33 px")])
def test_what_cannot_be_measured_is_refused_before_anything_runs(tiny, seen, repeats, shot, words):
    with pytest.raises(pruning.Refused, match=words):
        next(clock.turns(tiny, tiny, pruning.Shot("a", steps=1, **shot), repeats))
    assert seen == []


def test_two_that_cannot_be_compared_are_refused(tiny, tiny_folder):
    with pytest.raises(pruning.Refused, match=r"Dense is torch.float32 on cpu and pruned is torch.float16 on cpu"):
        pruning.measure(tiny, pruning.load(tiny_folder, dtype=torch.float16), pruning.Shot("a"))
    empty = subject(tiny).holding(on_meta(tiny.unet))
    with pytest.raises(pruning.Refused, match="no weights"):
        pruning.measure(empty, empty, pruning.Shot("a"))
    with pytest.raises(pruning.Refused, match="Drawing with UNet2DConditionModel"):
        pruning.measure(tiny.unet, tiny.unet, pruning.Shot("a"))


# Inside a step.


def test_the_share_inside_kernels_by_hand():
    assert clock.inside({"addmm": 2.0, "mkldnn_convolution": 3.0, "copy_": 4.0, "native_group_norm": 1.0}) == 0.5
    assert clock.inside({}) is None


@pytest.mark.parametrize("name", ["mkldnn_convolution", "cudnn_convolution", "addmm", "mm", "bmm", "_cslt_sparse_mm",
                                  "_scaled_dot_product_flash_attention_for_cpu"])
def test_kernels_that_multiply(name):
    assert clock.heavy(name)


@pytest.mark.parametrize("name", ["copy_", "mul", "gelu", "native_layer_norm", "upsample_bilinear2d", clock.BETWEEN])
def test_operators_that_do_not(name):
    assert not clock.heavy(name)


@pytest.mark.parametrize(("steps", "profiled"), [(2, 2), (5, 3)])
def test_a_few_steps_are_profiled(tiny, steps, profiled):
    run = clock.Run(tiny, pruning.Shot("a", steps=steps))
    spent = clock.operators(run)
    assert len(run.ms) == profiled
    assert sum(spent.values()) == pytest.approx(sum(run.ms) / profiled) or spent[clock.BETWEEN] == 0
    assert spent["mkldnn_convolution" if "mkldnn_convolution" in spent else "convolution"] > 0
    assert spent["native_group_norm"] > 0
    assert all(ms >= 0 for ms in spent.values())


def test_where_nobody_can_tell_there_is_no_share(tiny, smaller, monkeypatch):
    with profile(activities=[ProfilerActivity.CPU]):  # one at a time
        assert clock.operators(clock.Run(tiny, pruning.Shot("a", steps=1))) == {}
    monkeypatch.setattr(clock, "supported_activities", set)
    assert clock.interleaved(tiny, smaller, pruning.Shot("a", steps=1), repeats=1).kernels is None


def test_the_profiler_writes_nothing_of_its_own():
    """In a process of its own: it reads once how much it should say."""
    code = ("from conftest import pipeline\nimport pruning\nfrom pruning import clock\n"
            "print(bool(clock.operators(clock.Run(pipeline(), pruning.Shot('a', steps=1)))))")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd="tests",
                          env={**os.environ, "PYTHONPATH": ".."})
    assert done.stdout.strip() == "True", done.stderr
    assert "profiler_st" not in done.stderr
