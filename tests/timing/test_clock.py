"""Measure mode: the order of the runs, nothing inside one, what is told of the pairs, and what cannot be measured."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from conftest import ddpm, same, state
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiling

import pruning
from pruning.network.subject import subject
from pruning.timing import clock, profile
from pruning.timing.clock import Measured, Timed, Turn
from pruning.units.costs import on_meta

PARTS = ["text_encoder", "step", "denoiser", "vae.decoder", "picture"]


@pytest.fixture
def told(monkeypatch):
    """Runs that take as long as their pipeline says: a list of milliseconds, one a run. Gives the order of the runs."""
    order = []

    def drawing(pipe, shot, side):
        order.append(side)
        ms = pipe.pop(0)
        return {"step": ms, "picture": 1000 * ms}

    monkeypatch.setattr(clock, "drawing", drawing)
    monkeypatch.setattr(clock, "check", lambda dense, pruned, shot, repeats: None)
    monkeypatch.setattr(clock.alike, "copies", lambda dense, pruned: (dense, pruned))
    monkeypatch.setattr(clock, "Run", lambda pipe, shot: None)
    monkeypatch.setattr(clock, "operators", lambda run: {"addmm": 3.0, "copy_": 1.0})
    monkeypatch.setattr(clock, "machine", lambda pipe: "a test")
    return order


def test_a_clear_difference_is_a_speedup(told):
    measured = clock.interleaved([900.0, *[10.0] * 6], [900.0, *[4.0] * 6], pruning.Shot(), repeats=6)
    assert (measured.dense, measured.pruned, measured.speedup) == ((10, 10, 10), (4, 4, 4), pytest.approx(2.5))
    assert told == ["dense", "pruned", "pruned", "dense"] * 3 + ["dense", "pruned"]  # warm-up, then B A, A B
    parts = measured.to_dict()["parts"]
    assert parts == {"step": dict(asdict(measured.parts["step"])), "picture": dict(asdict(measured.parts["picture"]))}
    assert parts["step"] == {"dense": (10, 10, 10), "pruned": (4, 4, 4), "speedup": parts["step"]["ratio"][0],
                             "ratio": pytest.approx((2.5, 2.5, 2.5)), "state": "faster"}
    assert parts["picture"]["dense"] == (10_000,) * 3
    assert measured.to_dict() == {**parts["step"], "repeats": 6, "taken_on": "a test", "kernels": 0.75, "between": 0.0,
                                  "steps": 20, "sparse": {}, "parts": parts}


def test_turns_say_how_far_it_is(told):
    *events, last = clock.turns([4.0, 2, 2], [8.0, 1, 1], pruning.Shot(), repeats=2)
    assert isinstance(last, Measured)
    assert events == [
        Turn(1, 6, "dense", 4, 20),  # five runs to go, of 4 s each
        Turn(2, 6, "pruned", 8, 24),  # 4 runs, half of 4 s and half of 8 s
        Turn(3, 6, "pruned", 1, 7.5), Turn(4, 6, "dense", 2, 3), Turn(5, 6, "dense", 2, 1.5),
        Turn(6, 6, "pruned", 1, 0)]


@pytest.mark.parametrize(("pruned", "state", "speedup"), [
    ([20.0] * 6, "slower", 0.5),
    ([9.9, 10.1, 10, 9.95, 10, 10.05], "no difference", None),
    ([9.85] * 6, "no difference", None),  # 1.5 % faster beyond noise: copies of one model can differ by as much
    ([9.0, 11, 10, 12, 8, 10], "too noisy", None),
    ([5.0] * 5, "too few", None),
    ([5.0], "too few", None)])
def test_what_is_told_of_the_pairs(told, pruned, state, speedup):
    measured = clock.interleaved([5.0, *[10.0] * len(pruned)], [5.0, *pruned], pruning.Shot(), len(pruned))
    for one in (measured, *measured.parts.values()):
        assert (one.state, one.speedup) == (state, speedup and pytest.approx(speedup))
        assert (one.ratio is None) == (state == "too few")


def test_a_slow_minute_meets_both_sides_of_a_pair(told):
    """Medians of either side would tell nothing: they lie anywhere between 10 and 20 ms."""
    busy = [1.0, 2, 1, 2, 2, 1]
    measured = clock.interleaved([9.0, *[11 * x for x in busy]], [9.0, *[10 * x for x in busy]], pruning.Shot(), 6)
    assert measured.dense[1] < measured.pruned[2]
    assert measured.ratio == pytest.approx((1.1, 1.1, 1.1))


def test_enough_pairs_are_taken_unless_told_otherwise(told):
    assert clock.interleaved([1.0] * 30, [1.0] * 30, pruning.Shot()).repeats == clock.PAIRS >= 6
    assert clock.PAIRS % 2 == 0  # as many begin with either side


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
    assert measured.parts["step"] == Timed(measured.dense, measured.pruned, None, None, "too few")
    assert (measured.speedup, measured.ratio, measured.state) == (None, None, "too few")
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
    (0, {}, "repeats cannot be 0"), (101, {}, "100 the most"), ("six", {}, "repeats cannot be 'six'"),
    (True, {}, "repeats cannot be True"), (2.5, {}, "fewer than 6 cannot tell"),
    (1, {"sampler": "heun"}, "No sampler is called 'heun'"), (1, {"size": 33}, "33 px")])
def test_what_cannot_be_measured_is_refused_before_anything_runs(tiny, seen, repeats, shot, words):
    with pytest.raises(pruning.Refused, match=words):
        next(clock.turns(tiny, tiny, pruning.Shot("a", steps=1, **shot), repeats))
    assert seen == []


def test_other_devices_types_and_weights_are_refused(tiny, tiny_folder):
    with pytest.raises(pruning.Refused, match=r"Dense is torch.float32 on cpu and pruned is torch.float16 on cpu"):
        pruning.measure(tiny, pruning.load(tiny_folder, dtype=torch.float16), pruning.Shot("a"))
    mixed = copy.copy(tiny)
    mixed.text_encoder = copy.deepcopy(tiny.text_encoder).half()
    with pytest.raises(pruning.Refused, match=r"torch.float32 on cpu \(text_encoder\) and pruned is torch.float16"):
        pruning.measure(tiny, mixed, pruning.Shot("a"))
    empty = subject(tiny).holding(on_meta(tiny.unet))
    for pair in ((empty, empty), (tiny, empty)):
        with pytest.raises(pruning.Refused, match="no weights"):
            pruning.measure(*pair, pruning.Shot("a"))


def test_other_classes_and_sizes_are_refused(tiny):
    other = ddpm()
    words = "Dense is a StableDiffusionPipeline with UNet2DConditionModel and pruned is a DDPMPipeline with UNet2DModel"
    with pytest.raises(pruning.Refused, match=words):
        pruning.measure(tiny, other, pruning.Shot("a"))
    larger = copy.copy(tiny)
    larger.unet = copy.deepcopy(tiny.unet)
    larger.unet.register_to_config(sample_size=2 * tiny.unet.config.sample_size)
    with pytest.raises(pruning.Refused, match=r"Dense is for 4 channels of \d+ latents .* pruned is for 4 channels of"):
        pruning.measure(tiny, larger, pruning.Shot("a"))


def test_what_cannot_draw_is_refused_on_either_side(tiny):
    blind = copy.copy(tiny)
    blind.vae = None
    for pair in ((tiny, blind), (blind, tiny)):
        with pytest.raises(pruning.Refused, match="cannot draw: it has no vae"):
            pruning.measure(*pair, pruning.Shot("a"))
    for other in (tiny.unet, None, "emoji-sd"):
        with pytest.raises(pruning.Refused, match="is not part of this version"):
            pruning.measure(tiny, other, pruning.Shot("a"))
        with pytest.raises(pruning.Refused, match="is not part of this version"):
            pruning.measure(other, tiny, pruning.Shot("a"))
    with pytest.raises(pruning.Refused, match="shot cannot be 'red heart'"):
        pruning.measure(tiny, tiny, "red heart")


# Inside a step.


def test_the_share_inside_kernels_by_hand():
    assert profile.inside({"addmm": 2.0, "mkldnn_convolution": 3.0, "copy_": 4.0, "native_group_norm": 1.0}) == 0.5
    assert profile.inside({}) is None


@pytest.mark.parametrize("name", ["mkldnn_convolution", "cudnn_convolution", "addmm", "mm", "bmm", "_cslt_sparse_mm",
                                  "_scaled_dot_product_flash_attention_for_cpu"])
def test_kernels_that_multiply(name):
    assert profile.heavy(name)


@pytest.mark.parametrize("name", ["copy_", "mul", "gelu", "native_layer_norm", "upsample_bilinear2d", profile.BETWEEN])
def test_operators_that_do_not(name):
    assert not profile.heavy(name)


@pytest.mark.parametrize(("steps", "profiled"), [(2, 2), (5, 3)])
def test_a_few_steps_are_profiled(tiny, steps, profiled):
    run = clock.Run(tiny, pruning.Shot("a", steps=steps))
    spent = profile.operators(run)
    assert len(run.ms) == profiled
    assert sum(spent.values()) == pytest.approx(sum(run.ms) / profiled) or spent[profile.BETWEEN] == 0
    assert spent["mkldnn_convolution" if "mkldnn_convolution" in spent else "convolution"] > 0
    assert spent["native_group_norm"] > 0
    assert all(ms >= 0 for ms in spent.values())


def test_where_nobody_can_tell_there_is_no_share(tiny, smaller, monkeypatch):
    with profiling(activities=[ProfilerActivity.CPU]):  # one at a time
        assert profile.operators(clock.Run(tiny, pruning.Shot("a", steps=1))) == {}
    monkeypatch.setattr(profile, "supported_activities", set)
    assert clock.interleaved(tiny, smaller, pruning.Shot("a", steps=1), repeats=1).kernels is None


def test_the_profiler_writes_nothing_of_its_own():
    """In a process of its own: it reads once how much it should say."""
    code = ("from conftest import pipeline\nimport pruning\nfrom pruning import clock\n"
            "print(bool(clock.operators(clock.Run(pipeline(), pruning.Shot('a', steps=1)))))")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd="tests",
                          env={**os.environ, "PYTHONPATH": ".."})
    assert done.stdout.strip() == "True", done.stderr
    assert "profiler_st" not in done.stderr
