"""Weights that make up for those that went: exact where that can be said, and never worse where it was looked at."""

import copy
from contextlib import closing
from dataclasses import replace
from statistics import median
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import output, same, state, unet
from torch import nn

import pruning
from pruning.calibration import samples
from pruning.calibration.call import Call
from pruning.decisions import applying
from pruning.network.notes import plan_of
from pruning.network.subject import subject
from pruning.reports import aftercare
from pruning.surgery import repair, solver
from pruning.types import Calibration
from pruning.units.catalog import find
from pruning.units.weight import sites

# Columns.


def inputs(n, count=50, seed=0):
    """Inputs that go together, (count, n), in float64."""
    draw = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, n, generator=draw, dtype=torch.float64) + 0.5
    return torch.randn(count, n, generator=draw, dtype=torch.float64) @ mixed


def weights(outputs, n, seed=1):
    return torch.randn(outputs, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def squared(off, moments):
    """The squared size of what each row makes of inputs with these moments."""
    return ((off @ moments) * off).sum(1)


def least(weight, keep, moments):
    """The exact answer, row by row."""
    moments = moments + solver.DAMP * moments.diagonal().mean() * torch.eye(len(moments)).to(moments)
    out = weight * keep
    for row, free, wanted in zip(out, keep, weight, strict=True):
        lost = (wanted - row).where(~free, 0)
        row[free] = wanted[free] + torch.linalg.solve(moments[free][:, free], moments[free] @ lost)
    return out


def test_by_hand():
    """Inputs that go together by half: in place of a 2 before it, a weight gains 2 * 0.5 / 1.01."""
    weight, moments = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    (row,), _ = solver.solved(weight, torch.tensor([[False, True]]), moments)
    assert row.tolist() == pytest.approx([0, 1 + 1 / 1.01])
    (row,), _ = solver.solved(weight, torch.tensor([[True, False]]), moments)
    assert row.tolist() == pytest.approx([2 + 0.5 / 1.01, 0])


MASKS = {"all but the first": torch.ones(12, 12).triu(), "one each": 1 - torch.eye(12),
         "a run": 1 - torch.eye(12).cumsum(1).tril(2).triu(-2) % 2, "half": torch.rand(
             12, 12, generator=torch.Generator().manual_seed(3)) < 0.5, "none": torch.zeros(12, 12)}


@pytest.mark.parametrize("name", MASKS)
def test_what_stays_is_the_exact_answer(name):
    x, weight, keep = inputs(12), weights(12, 12), MASKS[name].bool()
    moments = x.T @ x
    found, above = solver.solved(weight, keep, moments)
    assert 0 <= above < 1e-12
    assert torch.allclose(found, least(weight, keep, moments), rtol=1e-6, atol=1e-8)
    assert not found[~keep].any()
    assert (squared(weight - found, moments) <= squared(weight * ~keep, moments) + 1e-9).all()


def test_inputs_that_do_not_go_together_cannot_make_up_for_each_other():
    weight, keep = torch.randn(6, 8), torch.rand(6, 8) < 0.5
    found, above = solver.solved(weight, keep, torch.rand(8).diag())
    assert torch.allclose(found, weight * keep)
    assert above == 0


def test_a_twin_takes_it_all():
    x = torch.randn(100, 1).repeat(1, 2)
    (row,), _ = solver.solved(torch.tensor([[3.0, 4.0]]), torch.tensor([[False, True]]), x.T @ x)
    assert row.tolist() == [0, pytest.approx(4 + 3 / 1.01)]  # but for the damping


@pytest.mark.parametrize("seed", range(6))
def test_every_row_gets_nearer(seed):
    x = inputs(24, 12 if seed % 2 else 200, seed).float()  # also from fewer samples than there are inputs
    torch.manual_seed(seed)
    weight, keep = torch.randn(64, 24), torch.rand(64, 24) < 0.5
    keep[0] = True
    before, moments = weight.clone(), x.T @ x
    found, above = solver.solved(weight, keep, moments)
    assert torch.equal(weight, before)
    assert torch.equal(found[0], weight[0])
    assert not found[~keep].any()
    assert (squared(weight - found, moments) <= squared(weight * ~keep, moments) * 1.001).all()
    assert torch.allclose(found, least(weight.double(), keep, moments.double()).float(), rtol=1e-2, atol=1e-3)
    assert above < solver.ABOVE


@pytest.mark.parametrize("size", [0, 1e-30, 1, 1e30])
def test_moments_of_any_size_and_of_one_rank(size):
    keep = torch.tensor([[False, True, False, True]])
    found, above = solver.solved(torch.tensor([[1.0, 2, 3, 4]]), keep, torch.full((4, 4), float(size)))
    assert above < solver.ABOVE
    assert found.isfinite().all()
    assert found[~keep].tolist() == [0, 0]


def correlated(n, count, seed):
    """Inputs like those after an activation: a mean of their own, sizes over two orders, few directions. (count, n)"""
    draw = torch.Generator().manual_seed(seed)
    few = torch.randn(count, n // 6, generator=draw, dtype=torch.float64) @ torch.randn(
        n // 6, n, generator=draw, dtype=torch.float64)
    return (few + 3).relu() * 10 ** (2 * torch.rand(n, generator=draw, dtype=torch.float64) - 1)


@pytest.mark.parametrize("worth", [1e9, 0])
@pytest.mark.parametrize(("n", "share", "seed"), [(90, 0.5, 11), (144, 0.3, 12), (144, 0.7, 13), (60, 0.9, 14)])
def test_hard_layers_come_within_the_bound_of_the_exact_answer(n, share, seed, worth, monkeypatch):
    """Whether factorised or iterated on, in float32; the exact answer is lstsq's in float64, row by row."""
    monkeypatch.setattr(solver, "WORTH", worth)
    monkeypatch.setattr(solver, "BATCH", 3 * n * n)  # several batches
    x, weight = correlated(n, 400, seed), weights(32, n, seed)
    keep = torch.rand(32, n, generator=torch.Generator().manual_seed(seed)) >= share
    keep[0], keep[1] = True, False
    moments = (x.T @ x).float()
    exact = oracle(weight.float().double(), keep, moments.double())
    found, above = solver.solved(weight.float(), keep, moments)
    damped = moments.double() + solver.DAMP * moments.double().diagonal().mean() * torch.eye(n, dtype=torch.float64)
    far, least_far = (float(squared(weight.float().double() - one.double(), damped).sum()) for one in (found, exact))
    assert above <= solver.ABOVE
    assert far <= least_far * (1 + solver.ABOVE)
    assert torch.equal(found[0], weight.float()[0])
    assert not found[~keep].any()


def oracle(weight, keep, moments):
    """The same by least squares on a root of the damped moments."""
    moments = moments + solver.DAMP * moments.diagonal().mean() * torch.eye(len(moments)).to(moments)
    root = torch.linalg.cholesky(moments).T
    out = torch.zeros_like(weight)
    for row, free, wanted in zip(out, keep, weight, strict=True):
        if free.any():
            row[free] = torch.linalg.lstsq(root[:, free], root @ wanted).solution
    return out


def test_what_is_not_done_is_said(monkeypatch):
    """The bound holds however early it stops."""
    monkeypatch.setattr(solver, "WORTH", 0)
    x, weight, keep = correlated(90, 400, 21), weights(16, 90, 21), torch.rand(
        16, 90, generator=torch.Generator().manual_seed(21)) < 0.5
    moments = x.T @ x
    damped = moments + solver.DAMP * moments.diagonal().mean() * torch.eye(90, dtype=torch.float64)
    least_far = float(squared(weight - oracle(weight, keep, moments), damped).sum())
    last = float("inf")
    for turns in (5, 20, 80):
        monkeypatch.setattr(solver, "TURNS", turns)
        found, above = solver.solved(weight, keep, moments)
        far = float(squared(weight - found, damped).sum()) / least_far - 1
        assert far <= above
        assert far < last or far < 1e-3  # or there is nothing left to gain
        last = far


@pytest.mark.parametrize(("kept", "n", "affordable"), [(0.5, 3600, True), (0.5, 5120, False), (0.7, 1152, True),
                                                       (0.7, 2304, False), (0.3, 5120, True), (0.0, 9999, True)])
def test_factorising_is_for_what_costs_no_more_than_turns(kept, n, affordable):
    keep = torch.arange(n).expand(2, n) < kept * n
    assert solver.affordable(keep) == affordable


# What layers see.

LAYERS = {"linear": (nn.Linear(5, 3), (2, 5)), "linear on tokens": (nn.Linear(5, 3), (2, 4, 5)),
          "1x1": (nn.Conv2d(4, 3, 1), (2, 4, 5, 6)), "3x3": (nn.Conv2d(4, 3, 3, padding=1), (2, 4, 5, 6)),
          "no padding": (nn.Conv2d(4, 3, 3), (2, 4, 5, 6)),
          "stride": (nn.Conv2d(4, 3, 3, stride=2, padding=1), (2, 4, 6, 7)),
          "uneven": (nn.Conv2d(4, 3, (1, 3), (2, 1), (0, 2)), (2, 4, 6, 7)),
          "dilation": (nn.Conv2d(4, 3, 3, padding=2, dilation=2), (2, 4, 6, 7))}


def site_of(layer):
    (site,) = sites(nn.Sequential(layer))
    return site


def unbiased(layer, x):
    """What a layer makes of inputs, channels last."""
    with torch.no_grad():
        out = layer(x)
        return (out.movedim(1, -1) if isinstance(layer, nn.Conv2d) else out) - layer.bias


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
def test_windows_times_matrix_is_what_a_layer_does(name):
    layer, shape = LAYERS[name]
    x = torch.randn(shape)
    made = repair.windows(layer, x) @ repair.matrix(layer, site_of(layer), layer.weight).T
    assert torch.allclose(made, unbiased(layer, x).reshape(-1, 3), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layer", [nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(4, 3, (3, 2), padding=1)])
def test_a_wide_convolution_is_seen_position_by_position(layer, monkeypatch):
    """What each position of its window makes of each place, summed up, is what it does."""
    monkeypatch.setattr(repair, "WIDE", layer.weight[0].numel() - 1)
    x, (_, _, high, wide) = torch.randn(2, 4, 5, 6), layer.weight.shape
    assert repair.windows(layer, x).shape == (2 * 5 * 6, 4)
    parts = repair.windows(layer, x) @ repair.matrix(layer, site_of(layer), layer.weight).T
    parts = F.pad(parts.view(2, 5, 6, 3, high, wide), (0, 0, 0, 0, 0, 0, 1, 1, 1, 1))
    rows, columns = 5 + 2 - high + 1, 6 + 2 - wide + 1
    made = sum(parts[:, i : i + rows, j : j + columns, :, i, j] for i in range(high) for j in range(wide))
    assert torch.allclose(made, unbiased(layer, x), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layer", [nn.Conv2d(4, 3, 3, padding="same"), nn.Conv1d(4, 3, 3),
                                   nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular")])
def test_what_unfold_does_not_know_is_seen_position_by_position(layer):
    x = torch.randn(2, 4, 5, 6) if isinstance(layer, nn.Conv2d) else torch.randn(2, 4, 30)
    assert repair.windows(layer, x).shape == (60, 4)
    assert repair.matrix(layer, site_of(layer), layer.weight).shape[1] == 4


def test_moments_are_summed_up_over_calls():
    moments, layer = repair.Moments(), nn.Linear(2, 1)
    for x in ([[1.0, 0.0]], [[2.0, 1.0], [0.0, 1.0]]):
        moments.see("0", layer, (torch.tensor(x),))
    assert moments.of(site_of(layer)).tolist() == [[5, 2], [2, 2]]
    assert moments.of(site_of(layer)) is None


# Samples to adjust by, and samples to judge by.


def call(level):
    return Call({}, level, None)


@pytest.mark.parametrize(("levels", "fit", "held"), [
    ((0.1, 0.9, 0.1, 0.9), [0.1, 0.9], [0.1, 0.9]),  # two timesteps, in turn
    ((0.1, 0.5, 0.9) * 2, [0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
    ((0.1, 0.9) * 3, [0.1, 0.1, 0.9], [0.1, 0.9, 0.9]),
    ((0.2, 0.4, 0.6, 0.8), [0.2, 0.6], [0.4, 0.8]),
    ((0.0, 0.0, 0.0), [0.0, 0.0], [0.0]), ((0.1, 0.9), [0.1], [0.9]), ((0.5,), [0.5], [0.5])])
def test_both_halves_meet_all_noise(levels, fit, held):
    calls = [call(level) for level in levels]
    halves = repair.halves(calls, len(levels))
    assert [[one.level for one in half] for half in halves] == [fit, held]
    if len(levels) > 1:
        assert sorted(map(id, [*halves[0], *halves[1]])) == sorted(map(id, calls))  # each once


def test_a_prompt_and_its_empty_one_stay_together():
    calls = [call(level) for level in (0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9)]
    fit, held = repair.halves(calls, 4)
    assert fit == [*calls[0:2], *calls[2:4]]
    assert held == [*calls[4:6], *calls[6:8]]
    assert repair.halves(calls[:2], 1) == (calls[:2], calls[:2])  # one sample


def test_fewer_calls_than_samples():
    """A prompt is read once, however many samples there are to be."""
    calls = [call(0.0) for _ in range(3)]
    assert repair.halves(calls, 16) == ([calls[0], calls[2]], [calls[1]])
    assert repair.halves(calls[:1], 16) == (calls[:1], calls[:1])


def test_both_halves_of_a_real_calibration(tiny):
    shown = Calibration(("a", "b"), 4, (100, 900), 3.0, source="generated")
    made = samples.calls(subject(tiny), shown)
    empty = [one for one in made if sum(torch.equal(one.inputs["encoder_hidden_states"], two.inputs[
        "encoder_hidden_states"]) for two in made) == 4]  # its own prompt is shown twice
    for half in repair.halves(made, 4):
        assert sorted(one.level for one in half) == [0.1, 0.1, 0.9, 0.9]
        assert sum(one in empty for one in half) == 2
        assert len({one.inputs["sample"].sum().item() for one in half}) == 2


# One layer.


def judged(dense, net, x, held=None):
    """A layer in front of nothing else, adjusted by some inputs and judged by others."""
    site, moments = site_of(dense[0]), repair.Moments()
    moments.see("0", dense[0], (x,))
    errors = repair.Errors(net, {"0": repair.adjusted(dense, net, site, moments.of(site))[0]})
    errors.see("0", dense[0], (x if held is None else held,))
    return errors.judged()["0"]


@torch.no_grad()
@pytest.mark.parametrize("wide", [3600, 0])
@pytest.mark.parametrize("name", ["linear", "1x1", "3x3", "no padding", "stride", "uneven", "dilation"])
def test_a_layer_is_adjusted_in_its_own_axes(name, wide, monkeypatch):
    """The errors are those of what the layer hands on, also where its parts were adjusted apart."""
    monkeypatch.setattr(repair, "WIDE", wide)
    torch.manual_seed(0)
    layer, shape = copy.deepcopy(LAYERS[name][0]), LAYERS[name][1]
    x = torch.einsum("ck,bk...->bc...", torch.randn(shape[1], 2), torch.randn(40, 2, *shape[2:]))  # go together
    dense = nn.Sequential(layer)
    less, whole = copy.deepcopy(dense), unbiased(layer, x)
    for i, row in enumerate(less[0].weight):
        row[: i + 1] = 0  # its first inputs
    found = judged(dense, less, x)
    assert not found.weight[less[0].weight == 0].any()
    errors = []
    for weight in (less[0].weight.clone(), found.weight):
        less[0].weight.copy_(weight)
        errors.append(float((unbiased(less[0], x) - whole).square().sum() / whole.square().sum()))
    assert errors[1] < errors[0]
    assert [found.before, found.after] == pytest.approx(errors, rel=1e-4)


def test_the_error_of_parts_apart_by_hand(monkeypatch):
    """On one and one, weights of 3 and 2 make 5; without the 3 they make 2, and no part sees the other's share."""
    monkeypatch.setattr(repair, "WIDE", 0)
    dense = nn.Sequential(nn.Conv2d(1, 1, (1, 2), bias=False))
    net = copy.deepcopy(dense)
    with torch.no_grad():
        dense[0].weight.copy_(torch.tensor([[[[3.0, 2.0]]]]))
        net[0].weight.copy_(torch.tensor([[[[0.0, 2.0]]]]))
    found = judged(dense, net, torch.ones(1, 1, 1, 2))
    assert (found.weight, found.before, found.after) == (None, pytest.approx(9 / 25), pytest.approx(9 / 25))
    monkeypatch.setattr(repair, "WIDE", 2)
    found = judged(dense, net, torch.ones(1, 1, 1, 2))
    assert found.weight.flatten().tolist() == [0, pytest.approx(2 + 3 / 1.01)]
    assert found.after == pytest.approx((3 - 3 / 1.01) ** 2 / 25, rel=1e-3)


def adjusted(weight, less, *inputs):
    """A linear layer, adjusted."""
    dense = nn.Sequential(nn.Linear(*weight.shape[::-1], bias=False, dtype=weight.dtype))
    net = copy.deepcopy(dense)
    with torch.no_grad():
        dense[0].weight.copy_(weight)
        net[0].weight.copy_(less)
    return judged(dense, net, *inputs)


def test_a_layer_stays_when_what_was_held_out_gets_no_better():
    weight, less = torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    half = 0.75 ** 0.5  # two inputs of which each is half of the other, and half the other way round
    together, against = (torch.tensor([[1.0, sign * 0.5], [0.0, half]]) for sign in (1, -1))
    good, bad = adjusted(weight, less, together), adjusted(weight, less, together, against)
    assert good.weight.tolist() == [[0, pytest.approx(1 + 1 / 1.01)]]
    assert good.before == pytest.approx(4 / 7)  # 2 squared, of 4 + 1 + 2 * 2 * 1 * 0.5
    assert good.after == pytest.approx(3 / 7, rel=1e-4)  # a quarter can be made up for
    assert (bad.weight, bad.before, bad.after) == (None, pytest.approx(4 / 3), pytest.approx(4 / 3))


@pytest.mark.parametrize("x", [torch.zeros(2, 2), torch.eye(2)])
def test_a_layer_that_cannot_get_better_stays(x):
    for less in (torch.tensor([[2.0, 1.0]]), torch.tensor([[0.0, 1.0]])):
        assert adjusted(torch.tensor([[2.0, 1.0]]), less, x).weight is None


def test_what_a_type_cannot_hold_is_not_put_there():
    """The other weight would have to grow beyond 65504."""
    weight, less = torch.tensor([[6e4, 6e4]]), torch.tensor([[0.0, 6e4]])
    assert float(adjusted(weight, less, torch.ones(1, 2)).weight[0, 1]) > 1e5
    found = adjusted(weight.half(), less.half(), torch.ones(1, 2))
    assert (found.weight, found.before, found.after) == (None, 0.25, 0.25)


def test_the_error_is_that_of_what_is_stored():
    """All that is left is what rounding to eight bits makes of it."""
    x = torch.randn(1000, 1).repeat(1, 2)
    found = adjusted(torch.tensor([[1.0, 1.0]]).bfloat16(), torch.tensor([[0.0, 1.0]]).bfloat16(), x)
    assert found.weight.tolist() == [[0, 1.9921875]]  # not 1 + 1 / 1.01
    assert found.after == pytest.approx((2 - 1.9921875) ** 2 / 4, rel=1e-3)


# A network.

NOISE = Calibration(samples=4, source="noise")
CASES = {"weights": {"ratio": 0.5}, "wanda": {"method": "wanda", "ratio": 0.6, "spread": "global"},
         "2:4": {"pattern": "2:4"}, "wanda 2:4": {"method": "wanda", "pattern": "2:4"}}
CONV, QUERY = "mid_block.resnets.0.conv1", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
LINEAR, DOWN = "up_blocks.1.attentions.1.proj_in", "down_blocks.1.downsamplers.0.conv"


def request(pipe, case, **changes):
    return pruning.plan(pipe, **CASES[case] | {"calibration": NOISE, "update": True} | changes)


@pytest.fixture(scope="module")
def masked(tiny):
    """The plan of each case, the pipeline with zeros alone and the one whose other weights are adjusted; made once."""
    made = {}

    def look(case):
        if case not in made:
            plan = request(tiny, case)
            bare = replace(plan, steps=(replace(plan.steps[0], recipe=replace(plan.recipe, update=False)),))
            made[case] = plan, pruning.apply(tiny, bare), pruning.apply(tiny, plan)
        return made[case]

    return look


def hooked(pipe):
    """Modules with a hook before or after them."""
    return [module for module in pipe.unet.modules() if module._forward_pre_hooks or module._forward_hooks]


@pytest.mark.parametrize("case", CASES)
def test_what_stays_is_adjusted_and_what_went_is_zero(tiny, masked, case):
    plan, zeros, better = masked(case)
    step = plan_of(better).steps[-1]
    changed = 0
    for site in find(tiny.unet, plan.recipe.units):
        before, less, after = (pipe.unet.get_parameter(site.tensor) for pipe in (tiny, zeros, better))
        if site.name not in plan.steps[0].decision.sites:
            assert after is before
            continue
        was, now = step.decision.sites[site.name]
        assert not after[less == 0].any()
        assert now < was or torch.equal(after, less)
        assert now <= was
        assert after.isfinite().all()
        changed += not torch.equal(after, less)
    assert changed > 0.7 * len(step.decision.sites)
    assert torch.equal(better.unet.conv_out.weight, tiny.unet.conv_out.weight)


@pytest.mark.parametrize("case", CASES)
def test_the_step_says_so(tiny, masked, case):
    plan, zeros, better = masked(case)
    first, last = plan_of(better).steps
    assert first == plan.steps[0]
    assert plan_of(better).decided == first
    assert last.decision.kind == "recovered"
    assert set(last.decision.sites) == set(first.decision.sites)
    assert (last.recipe, last.arch) == (replace(plan.recipe, update=False), first.arch)
    assert last.weights == pruning.report(tiny, zeros, plan_of(zeros)).fingerprint["pruned"]


@pytest.mark.parametrize("case", ["2:4", "wanda 2:4"])
def test_patterns_still_hold(masked, case):
    plan, _, better = masked(case)
    for site in find(better.unet, "nm"):
        if site.name in plan.steps[0].decision.sites:
            groups = site.rows(better.unet.get_parameter(site.tensor) != 0).unflatten(-1, (-1, 4)).sum(-1)
            assert int(groups.max()) == 2


def heard(net, names, calls):
    """What some layers are given in some calls, and what they make of it without their bias."""
    said = {name: [] for name in names}
    hooks = [net.get_submodule(name).register_forward_pre_hook(lambda layer, given, name=name: said[name].append(
        given[0])) for name in names]
    for call in calls:
        samples.answer(net, call)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(given) for name, given in said.items()}


@torch.no_grad()
def far(dense, pipes, name, x):
    """The relative squared error of what a layer of some pipelines makes of inputs."""
    layer = dense.unet.get_submodule(name)
    bias = 0 if layer.bias is None else layer.bias.view(-1, *[1] * (x.ndim - 2)) if x.ndim == 4 else layer.bias
    whole = layer(x)
    return [float((pipe.unet.get_submodule(name)(x) - whole).square().sum() / (whole - bias).square().sum())
            for pipe in pipes]


def test_the_errors_are_those_of_the_calls_held_out(tiny, masked):
    """Of each layer on the dense model's inputs, relative to what it hands on."""
    _, zeros, better = masked("weights")
    _, held = repair.halves(samples.calls(subject(tiny), NOISE), NOISE.samples)
    assert len(held) == 2
    told = plan_of(better).steps[-1].decision.sites
    for name, x in heard(tiny.unet, (CONV, QUERY, LINEAR, DOWN), held).items():
        assert told[name] == pytest.approx(far(tiny, (zeros, better), name, x), rel=1e-3)


@pytest.mark.parametrize("case", ["weights", "2:4"])
def test_the_answer_is_nearer(tiny, masked, case):
    _, zeros, better = masked(case)
    others = samples.calls(subject(tiny), replace(NOISE, seed=1))
    far = [sum(float((samples.answer(pipe.unet, call) - samples.answer(tiny.unet, call)).square().sum())
               for call in others) for pipe in (zeros, better)]
    assert far[1] < far[0]


def test_a_wide_convolution_in_a_network(tiny, masked, monkeypatch):
    plan, zeros, whole = masked("2:4")
    monkeypatch.setattr(repair, "WIDE", 1)
    better = pruning.apply(tiny, plan)
    less, after, together = (pipe.unet.get_submodule(CONV).weight for pipe in (zeros, better, whole))
    assert not after[less == 0].any()
    assert not torch.equal(after, less)
    assert not torch.equal(after, together)
    assert torch.equal(better.unet.get_submodule(QUERY).weight, whole.unet.get_submodule(QUERY).weight)
    _, held = repair.halves(samples.calls(subject(tiny), NOISE), NOISE.samples)
    (x,) = heard(tiny.unet, (CONV,), held).values()
    was, now = plan_of(better).steps[-1].decision.sites[CONV]
    assert [was, now] == pytest.approx(far(tiny, (zeros, better), CONV, x), rel=1e-3)  # of what it hands on
    assert was == plan_of(whole).steps[-1].decision.sites[CONV][0]
    assert now < was


def test_groups_of_layers_are_for_memory_alone(tiny, masked, monkeypatch):
    plan, _, better = masked("weights")
    monkeypatch.setattr(repair, "room", lambda device: 0)
    few = request(tiny, "weights", only=("mid_block.resnets.0*",))
    alone = pruning.apply(tiny, few)
    assert torch.equal(alone.unet.get_submodule(CONV).weight, better.unet.get_submodule(CONV).weight)
    told, all_ = (plan_of(pipe).steps[-1].decision.sites for pipe in (alone, better))
    assert told == {name: errors for name, errors in all_.items() if "mid_block.resnets.0" in name}


@pytest.mark.parametrize(("free", "room"), [(6 << 30, 1 << 30), (6 << 20, 1 << 28)])
def test_a_sixth_of_what_is_free_is_room(monkeypatch, free, room):
    monkeypatch.setattr(repair.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 << 30, 80 << 30))
    assert repair.room(torch.device("cpu")) == room
    assert repair.room(torch.device("cuda")) == 2 << 30


def test_two_passes_do_for_a_large_model(monkeypatch):
    """Over the calls, for SD-1.5 with 12 GB free; with 16 it is one."""
    net = pruning.load("sd-1.5", weights="meta").unet
    found = list(find(net, "weight"))
    for free, passes in ((16 << 30, 1), (12 << 30, 2)):
        monkeypatch.setattr(repair.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        groups = list(repair._groups(net, found))
        assert len(groups) == passes
        assert [site for group in groups for site in group] == found


# The dense network.


def test_the_dense_network_stays_as_it_was(tiny, masked):
    before = state(tiny)
    versions = [tensor._version for tensor in tiny.unet.parameters()]
    again = pruning.apply(tiny, masked("weights")[0])
    assert same(state(again), state(masked("weights")[2]))
    assert same(before, state(tiny))
    assert versions == [tensor._version for tensor in tiny.unet.parameters()]
    assert plan_of(tiny) is None
    assert not hooked(tiny)


@pytest.mark.parametrize("events", [1, 2, 3, 5, 40, -2, -1])  # the last ones are of what was held out
def test_work_that_is_abandoned_leaves_nothing(tiny, masked, events, monkeypatch):
    """Nor does it stand in the way of others while it waits: between two calls somebody may draw."""
    monkeypatch.setattr(repair, "room", lambda device: 1 << 22)  # more than one group
    before = state(tiny)
    versions = [tensor._version for tensor in tiny.unet.parameters()]
    work = applying.applying(tiny, masked("weights")[0])
    with closing(work):
        event = next(work)
        while event.done < events % event.of:
            event = next(work)
            assert event.what == "adjusting what stays"
            assert not hooked(tiny)
    assert same(before, state(tiny))
    assert versions == [tensor._version for tensor in tiny.unet.parameters()]
    assert not hooked(tiny)


def test_progress_runs_to_its_end(tiny, masked, monkeypatch):
    """One event for each call of each group of layers, each layer, and each call that is held out."""
    monkeypatch.setattr(repair, "room", lambda device: 1 << 22)
    plan = masked("weights")[0]
    found = [site for site in find(tiny.unet, "weight") if site.name in plan.steps[0].decision.sites]
    groups = len(list(repair._groups(tiny.unet, found)))
    assert groups > 1
    told = list(applying.applying(tiny, plan))
    assert [event.done for event in told] == list(range(1, len(told) + 1))
    assert {event.of for event in told} == {len(told)} == {groups * 2 + len(found) + 2}


# Networks with something odd.


@pytest.fixture
def net():
    """A network of one's own, to be made odd."""
    return unet(down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), block_out_channels=(16, 32), dropout=0.5,
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), sample_size=8)


def test_a_layer_that_no_call_goes_through_stays(net):
    net.spare = nn.Linear(8, 8)
    better = pruning.apply(net, request(net, "weights"))
    assert "spare" not in plan_of(better).steps[-1].decision.sites
    assert int((better.spare.weight == 0).sum()) == 32
    assert QUERY in plan_of(better).steps[-1].decision.sites


def test_a_layer_whose_inputs_are_no_numbers_stays(net):
    """As half precision makes them where it ends. The work ends, too."""
    plan = request(net, "weights", only=("mid_block*",))
    net.conv_in.register_forward_hook(lambda layer, given, out: out * float("inf"))
    better = pruning.apply(net, plan)
    assert QUERY not in plan_of(better).steps[-1].decision.sites
    assert int((better.get_submodule(CONV).weight == 0).sum()) == better.get_submodule(CONV).weight.numel() // 2


def test_layers_with_groups_stay(net):
    net.down_blocks[0].resnets[0].conv1 = nn.Conv2d(16, 16, 3, padding=1, groups=4)
    better = pruning.apply(net, request(net, "weights", only=("down_blocks.0*",)))
    told = plan_of(better).steps[-1].decision.sites
    assert "down_blocks.0.resnets.0.conv1" not in told
    assert "down_blocks.0.resnets.0.conv2" in told


def test_nothing_is_left_to_chance(net):
    """Dropout rests while layers are looked at, and goes on afterwards."""
    resting = pruning.apply(net.eval(), request(net, "weights", only=("mid_block*",)))
    net.train()
    better = pruning.apply(net, request(net, "weights", only=("mid_block*",)))
    assert same(state(resting), state(better))
    assert all(module.training for module in net.modules())


def test_other_components(tiny):
    shown = Calibration(("a", "b", "a b"), 3, source="generated")
    plan = request(tiny, "weights", component="text_encoder", calibration=shown)
    better = pruning.apply(tiny, plan)
    errors = plan_of(better).steps[-1].decision.sites
    assert set(errors) == set(plan.steps[0].decision.sites)
    assert any(after < before for before, after in errors.values())
    assert better.unet is tiny.unet
    assert not torch.equal(output(better, "text_encoder"), output(tiny, "text_encoder"))


# What becomes of it.


def test_the_plan_is_refused_on_the_dense_model(tiny, masked):
    before = state(tiny)
    with pytest.raises(pruning.Refused, match="adjusted after pruning, and a plan does not hold weights") as refusal:
        pruning.apply(tiny, plan_of(masked("2:4")[2]))
    assert "Load the folder that it was saved in, or make the plan again" in refusal.value.remedy
    assert same(before, state(tiny))
    assert not hooked(tiny)


@pytest.mark.parametrize("case", ["weights", "wanda 2:4"])
def test_saved_and_loaded(tiny, masked, case, tmp_path):
    _, _, better = masked(case)
    again = pruning.load(pruning.save(better, tmp_path / "out"))
    assert plan_of(again) == plan_of(better)
    assert same(state(again), state(better))
    told, same_again = (pruning.report(tiny, pipe, plan_of(pipe)) for pipe in (better, again))
    assert told.to_dict() == same_again.to_dict()
    once_more = pruning.apply(again, pruning.plan(again, ratio=0.5, component="text_encoder"))
    assert [step.decision.kind for step in plan_of(once_more).steps][1:] == ["recovered", "threshold"]
    assert pruning.apply(again, plan_of(again)).unet is again.unet  # all of it is done


@pytest.mark.parametrize("case", CASES)
def test_the_report_counts_what_went(tiny, masked, case):
    _, zeros, better = masked(case)
    bare, told = (pruning.report(tiny, pipe, plan_of(pipe)) for pipe in (zeros, better))
    assert told.units == bare.units
    assert [replace(layer, error=None) for layer in told.layers] == list(bare.layers)
    assert told.macs == bare.macs
    assert told.requested == {"ratio": CASES[case].get("ratio", 0.5), "of": "units"}


@pytest.mark.parametrize("case", CASES)
def test_the_report_tells_the_errors(tiny, masked, case):
    """Also of a plan that was asked for: what became of it is read off the model."""
    plan, zeros, better = masked(case)
    errors = plan_of(better).steps[-1].decision.sites
    done, asked = (pruning.report(tiny, better, one).to_dict() for one in (plan_of(better), plan))
    assert {layer["name"]: list(layer["error"]) for layer in done["layers"] if layer["error"]} == errors
    assert done["layers"] == asked["layers"]
    counted = sum(now < was for was, now in errors.values())
    before, after = (median(side) for side in zip(*errors.values(), strict=True))
    fell = f"in {counted} of {len(errors)} layers: the output error fell from {before:.3g} to {after:.3g}"
    words = f"What stays was adjusted {fell} (median of all), on held-out samples. "
    kept = "The plan cannot rebuild these weights, so keep the saved folder."
    numbers = {"layers": counted, "of": len(errors), "before": before, "after": after}
    assert done["adjusted"] == numbers | {"said": words + kept}
    assert asked["adjusted"] == numbers | {"said": f"{words}The plan adjusts them again wherever it is carried out."}
    bare = pruning.report(tiny, zeros, plan_of(zeros)).to_dict()
    assert bare["adjusted"] is None
    assert {layer["error"] for layer in bare["layers"]} == {None}


def test_of_one_sample_nothing_is_kept_apart(tiny):
    plan = request(tiny, "weights", only=("mid_block*",), calibration=replace(NOISE, samples=1))
    said = pruning.report(tiny, pruning.apply(tiny, plan), plan).adjusted["said"]
    assert said.startswith("What stays was adjusted in ")
    assert "(median of all). The plan adjusts" in said


@pytest.mark.parametrize(("errors", "words"), [
    ((2, 3, 0.5, 0.25), "adjusted in 2 of 3 layers: the output error fell from 0.5 to 0.25 (median of all)"),
    ((1, 3, 0.5, 0.5), "adjusted in 1 of 3 layers: the output error is 0.5 as before (median of all)"),
    ((0, 3, 0.5, 0.5), "left as it is: adjusted, none of 3 layers came nearer to its output")])
def test_errors_in_words(errors, words):
    assert aftercare._fell(*errors) == f"What stays was {words}"


def test_a_plan_that_was_written_down_adjusts_anew(tiny, masked):
    """What was asked for can be carried out again; what came of it is refused, and not half done."""
    plan, _, better = masked("weights")
    again = pruning.apply(tiny, pruning.Plan.from_json(plan.to_json()))
    assert same(state(again), state(better))
    with pytest.raises(pruning.Refused, match="adjusted after pruning"):
        pruning.apply(tiny, pruning.Plan.from_json(plan_of(better).to_json()))


def test_a_second_step_on_what_was_adjusted(tiny, masked, tmp_path):
    once = masked("weights")[2]
    twice = pruning.apply(once, request(once, "2:4"))
    assert [step.decision.kind for step in plan_of(twice).steps] == ["threshold", "recovered", "pattern", "recovered"]
    again = pruning.load(pruning.save(twice, tmp_path / "out"))
    assert same(state(again), state(twice))
    assert pruning.report(tiny, twice, plan_of(twice)).requested["ratio"] == 0.5


@pytest.mark.parametrize("units", ["head", "neuron", "channel", "width"])
def test_larger_units_are_not_made_up_for(tiny, units):
    with pytest.raises(pruning.Refused, match=f"not {units} units") as refusal:
        pruning.plan(tiny, ratio=0.5, units=units, update=True)
    assert refusal.value.remedy == "Leave update out, or choose units weight or nm."


def test_scores_are_those_without_it(tiny, masked):
    scores = pruning.score(tiny, "magnitude")
    plan = pruning.plan(tiny, ratio=0.5, update=True, calibration=NOISE, scores=scores)
    assert plan == masked("weights")[0]
    assert plan.recipe.scoring == replace(plan.recipe, update=False).scoring
