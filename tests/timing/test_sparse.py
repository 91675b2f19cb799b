"""Sparse kernels on the device: who is probed and who wins, with the timer and the conversion put in; the real ones
where there is a GPU."""

import json

import pytest
import torch
from conftest import pipeline, same, state
from torch import nn
from torch.sparse import SparseSemiStructuredTensorCUTLASS
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

import pruning
from pruning import cache
from pruning.network.fingerprint import fingerprint
from pruning.network.subject import subject
from pruning.reports import speed
from pruning.reports.speed import ran_sparse
from pruning.reports.verdict import sentence
from pruning.timing import clock, kernels, sparse
from pruning.timing.sparse import Probe, Ran, Sparse, accelerated, probe, running, tally
from pruning.types import DEFAULT_PROTECT, Decision, PlanStep, Recipe
from pruning.units.costs import Costs

CONVOLUTION = "PyTorch has 2:4 kernels for linear layers only"
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: PyTorch has 2:4 kernels on CUDA alone")


@pytest.fixture(scope="module")
def half():
    """The dense pipeline in half precision; nobody may change it."""
    return pipeline().to(dtype=torch.float16)


@pytest.fixture(scope="module")
def plan(half):
    return pruning.plan(half, pattern="2:4")


@pytest.fixture(scope="module")
def pruned(half, plan):
    return pruning.apply(half, plan)


@pytest.fixture
def gpu(monkeypatch):
    """A CPU that passes for a GPU: weights stay as they are, and a call takes as long as ``times`` says, by side."""
    times, calls = {"dense": 2.0, "sparse": 1.0}, []

    def here(site, shape, dtype, device, pattern):
        return kernels.kernel_for(site, shape, dtype, "cuda", pattern)

    def milliseconds(call, device):
        x, weight = call.args[:2]
        calls.append(("sparse" if hasattr(weight, "packed") else "dense", tuple(weight.shape), len(x)))
        call()
        return times[calls[-1][0]]

    def convert(weight):
        packed = weight.clone()
        packed.packed = True
        return packed

    monkeypatch.setattr(sparse, "kernel_for", here)
    monkeypatch.setattr(sparse, "milliseconds", milliseconds)
    monkeypatch.setattr(sparse, "convert", convert)
    cache.forget(["sparse kernels"])
    yield times, calls
    cache.forget(["sparse kernels"])  # what was told here is true of no device


def linears(pipe):
    """The 2:4 layers of the U-Net that have a kernel by shape."""
    skip = tuple(glob.strip("*") for glob in DEFAULT_PROTECT)
    return {name: m for name, m in pipe.unet.named_modules() if isinstance(m, nn.Linear)
            and not any(word in name for word in skip) and not any(side % 16 for side in m.weight.shape)}


def weights(rows=32, inputs=64):
    return torch.tensor([1.0, 2, 0, 0]).repeat(rows, inputs // 4).half()


# One layer.


def test_a_probe_by_hand(gpu):
    times, calls = gpu
    assert probe(weights(), 6) == Probe(2.0, 1.0, None)
    order = [("dense", "sparse", "sparse", "dense")[i % 4] for i in range(10)]  # A B B A
    assert calls == [(side, (32, 64), 6) for side in order]


@pytest.mark.parametrize(("dense", "sparse_", "reason"), [
    (0.12, 0.15, "the dense kernel was faster here: 0.12 against 0.15 ms"),
    (0.102, 0.1, "the dense kernel was as fast here: 0.102 against 0.1 ms"),
    (0.1, 0.1, "the dense kernel was as fast here: 0.1 against 0.1 ms"), (0.1031, 0.1, None), (4, 2, None)])
def test_it_wins_by_more_than_the_noise(gpu, dense, sparse_, reason):
    gpu[0].update(dense=dense, sparse=sparse_)
    assert probe(weights(), 4) == Probe(dense, sparse_, reason)


def test_the_median_counts(gpu, monkeypatch):
    taken = iter([2, 1, 50, 2, 2, 1, 1, 90, 2, 1])
    monkeypatch.setattr(sparse, "milliseconds", lambda call, device: next(taken))
    assert probe(weights(), 4) == Probe(2, 1, None)


def test_what_was_timed_is_remembered(gpu):
    first = probe(weights(), 4)
    taken = len(gpu[1])
    gpu[0]["sparse"] = 9.0
    assert probe(weights(), 4) is first
    assert len(gpu[1]) == taken
    for other in ((weights(), 5), (weights(64), 4), (weights().bfloat16(), 4), (weights(), 4, torch.zeros(32).half())):
        assert probe(*other).sparse_ms == 9


@pytest.mark.parametrize(("error", "words"), [
    (RuntimeError("CUDA error: operation not supported\nCompile with"), "CUDA error: operation not supported"),
    (NotImplementedError("no such kernel"), "no such kernel"), (RuntimeError(), "RuntimeError")])
def test_an_error_of_the_kernel_is_a_reason_and_may_pass(gpu, monkeypatch, error, words):
    def convert(weight):
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(sparse, "convert", convert)
        assert probe(weights(), 4) == Probe(reason=f"the sparse kernel failed: {words}")
    assert probe(weights(), 4).reason is None


def test_torch_itself_refuses_on_a_cpu():
    assert probe(weights(), 4).reason.startswith("the sparse kernel failed: ")


def test_a_kernel_that_answers_otherwise_is_not_run(gpu, monkeypatch):
    monkeypatch.setattr(sparse, "convert", lambda weight: weight * 1.1)
    assert probe(weights(), 4).reason == "the sparse kernel's answers are not the dense one's"
    assert not gpu[1]


def test_probing_leaves_the_random_numbers_alone(gpu):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    probe(weights(), 4)
    assert torch.equal(torch.rand(4), expected)


# A pipeline.


def test_on_a_cpu_nothing_is_probed(pruned, plan, monkeypatch):
    monkeypatch.setattr(sparse, "probe", lambda *_: 1 / 0)
    same_pipe, found = accelerated(pruned, "unet", plan.decided)
    assert same_pipe is pruned
    assert {one.reason for one in found.values()} == {"a CPU has no 2:4 kernel in PyTorch"}
    assert set(found) == set(plan.decided.decision.sites)


def test_another_pattern_has_no_kernels(half, gpu):
    other = pruning.plan(half, pattern="1:4")
    smaller = pruning.apply(half, other)
    same_pipe, found = accelerated(smaller, "unet", other.decided)
    assert same_pipe is smaller
    assert {one.reason for one in found.values()} == {"only 2:4 has kernels, not 1:4"}
    assert not gpu[1]


def test_layers_that_won_run_sparse_in_a_new_pipeline(half, pruned, plan, gpu):
    before, untouched = state(half), state(pruned)
    fast, found = accelerated(pruned, "unet", plan.decided)
    used = {name for name, one in found.items() if one.reason is None}
    assert used == set(linears(pruned)) & set(found)
    assert len(used) > 20
    assert {one.reason for name, one in found.items() if isinstance(
        pruned.unet.get_submodule(name), nn.Conv2d)} == {CONVOLUTION}
    assert fast is not pruned
    assert fast.unet is not pruned.unet
    assert fast.vae is pruned.vae
    for name, layer in fast.unet.named_modules():
        old = pruned.unet.get_submodule(name)
        assert layer is not old
        assert (type(layer) is Sparse) == (name in used)
        assert type(old) is not Sparse
        if name in used:
            assert layer.weight is not old.weight
            assert layer.bias is old.bias
        elif getattr(layer, "weight", None) is not None:
            assert layer.weight is old.weight
    assert same(before, state(half))
    assert same(untouched, state(pruned))


def test_the_answers_are_the_same(pruned, plan, gpu):
    fast, _ = accelerated(pruned, "unet", plan.decided)
    shot = pruning.Shot("a b", steps=2)
    one, other = (clock.Run(pipe, shot) for pipe in (pruned, fast))
    for i in range(2):
        assert torch.equal(one.step(i).latents, other.step(i).latents)


@pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemi")
def test_torchs_own_sparse_tensors_run_in_a_pipeline(pruned, plan, gpu, monkeypatch):
    """All of it but the kernel, in whose place its weight is unpacked: CUTLASS's form can be had on a CPU."""
    def convert(weight):
        packed, meta = sparse_semi_structured_from_dense_cutlass(weight)
        return SparseSemiStructuredTensorCUTLASS(weight.shape, packed, meta, None, None, None)

    def multiplied(self, dense, *, bias=None, should_transpose_dense):
        assert should_transpose_dense
        return nn.functional.linear(dense, sparse_semi_structured_to_dense_cutlass(self.packed, self.meta), bias)

    monkeypatch.setattr(sparse, "convert", convert)
    monkeypatch.setattr(SparseSemiStructuredTensorCUTLASS, "_mm", multiplied)
    fast, found = accelerated(pruned, "unet", plan.decided)
    used = [name for name, one in found.items() if one.reason is None]
    assert len(used) > 20
    assert all(isinstance(fast.unet.get_submodule(name).weight, SparseSemiStructuredTensorCUTLASS) for name in used)
    shot = pruning.Shot("a b", steps=1)
    assert torch.equal(*(clock.Run(pipe, shot).step(0).latents for pipe in (pruned, fast)))
    with pytest.raises(pruning.Refused, match="for running alone"):
        fingerprint(fast.unet)


def test_a_sparse_layer_takes_every_layout():
    layer = nn.Linear(8, 3)
    plain = nn.Linear(8, 3)
    plain.load_state_dict(layer.state_dict())
    layer.__class__ = Sparse
    for x in (torch.randn(8), torch.randn(5, 8), torch.randn(2, 8, 5).transpose(1, 2), torch.randn(2, 3, 4, 8)):
        assert torch.allclose(layer(x), plain(x), atol=1e-6)


def test_positions_are_those_of_the_example_times_the_batch(pruned, plan, gpu):
    name = next(name for name in linears(pruned) if name.endswith("attn2.to_k"))
    shape = tuple(pruned.unet.get_submodule(name).weight.shape)
    accelerated(pruned, "unet", plan.decided)
    assert ("dense", shape, 2 * 8) in gpu[1]  # 8 tokens of text, with guidance
    accelerated(pruned, "unet", plan.decided, batch=6)
    assert ("sparse", shape, 6 * 8) in gpu[1]


def test_layers_that_lost_stay_and_say_so(pruned, plan, gpu):
    gpu[0]["sparse"] = 3.0
    same_pipe, found = accelerated(pruned, "unet", plan.decided)
    assert same_pipe is pruned
    told = {one.reason for one in found.values()}
    assert {CONVOLUTION, "the dense kernel was faster here: 2 against 3 ms"} <= told


def test_a_weight_that_is_no_longer_in_the_pattern(half, plan, gpu):
    pipe = pruning.apply(half, plan)
    name = next(name for name in linears(pipe) if name in plan.decided.decision.sites)
    with torch.no_grad():
        pipe.unet.get_submodule(name).weight[0, :3] = 1
    fast, found = accelerated(pipe, "unet", plan.decided)
    assert found[name].reason == "its zeros are no longer 2 of each 4"
    assert type(fast.unet.get_submodule(name)) is nn.Linear


def test_layers_of_another_class_are_left_alone(half, plan, gpu):
    class Own(nn.Linear):
        pass

    pipe = pruning.apply(half, plan)
    name = next(name for name in linears(pipe) if name in plan.decided.decision.sites)
    pipe.unet.get_submodule(name).__class__ = Own
    assert accelerated(pipe, "unet", plan.decided)[1][name].reason == "a Own reads its weight in a way of its own"


def test_sparse_weights_are_never_saved(pruned, plan, gpu, tmp_path):
    prints = fingerprint(pruned.unet)
    fast, _ = accelerated(pruned, "unet", plan.decided)
    with pytest.raises(pruning.Refused, match="for running alone"):
        pruning.save(fast, tmp_path / "fast")
    with pytest.raises(pruning.Refused, match="for running alone"):
        fingerprint(fast.unet)
    assert not list(tmp_path.iterdir())
    again = pruning.load(pruning.save(pruned, tmp_path / "pruned"), dtype=torch.float16)
    assert fingerprint(again.unet) == fingerprint(pruned.unet) == prints


# All steps of a plan, and the clock.


def test_the_tally_by_hand():
    costs = Costs({"a.weight": (8, 4), "b.weight": (8, 8), "c.weight": (4, 4)},
                  {"a.weight": 10, "b.weight": 3, "c.weight": 7}, {}, (), known=True)
    found = {"a": Probe(2, 1), "b": Probe(3, 1), "c": Probe(1, 2, "slower"), "d": Probe(reason="late"),
             "e": Probe(reason="no"), "f": Probe(reason="no")}
    ran = tally(found, costs)
    assert ran == Ran(2, 1, (320 + 192) // 2, {"no": 2, "late": 1})
    assert list(ran.without) == ["no", "late"]


def test_every_component_with_a_step_is_run_so(half, gpu):
    first = pruning.apply(half, pruning.plan(half, pattern="2:4", component="text_encoder"))
    both = pruning.apply(first, pruning.plan(first, pattern="2:4"))
    fast, ran = running(both, pruning.Shot(("a", "b"), images=2))
    assert list(ran) == ["text_encoder", "unet"]
    assert all(one.used > 0 for one in ran.values())
    assert any(type(layer) is Sparse for layer in fast.text_encoder.modules())
    assert {tokens for _, shape, tokens in gpu[1] if shape == (64, 32)} >= {4 * 8}  # text is not doubled by guidance
    alone, nothing = running(half, pruning.Shot())
    assert alone is half
    assert nothing == {}


def measured(half, pruned, **how):
    return pruning.measure(half, pruned, pruning.Shot("a", steps=1, **how), repeats=1)


def test_the_clock_runs_the_accelerated_pipeline(half, pruned, plan, gpu, monkeypatch):
    seen = []

    class Seen(clock.Run):
        def __init__(self, pipe, shot, side="dense"):
            super().__init__(pipe, shot, side)
            seen.append((side, any(type(layer) is Sparse for layer in pipe.unet.modules())))

    monkeypatch.setattr(clock, "Run", Seen)
    found = measured(half, pruned)
    assert set(seen) == {("dense", False), ("pruned", True)}
    ran = found.sparse["unet"]
    assert ran.used == len(set(linears(pruned)) & set(plan.decided.decision.sites))
    assert ran.lost == 0
    told = json.loads(json.dumps(found.to_dict()))
    assert ran_sparse(told, "unet") == {"used": ran.used, "lost": 0, "skipped": ran.skipped,
                                        "without": dict(ran.without)}
    assert ran_sparse(told, "vae.decoder") is None


@pytest.fixture
def on_cuda(monkeypatch):
    """The report counts kernels as on a GPU, too."""
    def ceiling(sites, costs, dtype, device, pattern):
        return kernels.ceiling(sites, costs, dtype, "cuda", pattern)

    monkeypatch.setattr("pruning.reports.speed.ceiling", ceiling)


def test_the_words_by_hand():
    """100 MACs, of which kernels skip 20; 80 % of a step is inside kernels; 10 ms against 9."""
    step = PlanStep(Recipe(component="unet"), "", "", Decision("pattern", {}))
    macs = {"dense": 100, "pruned": 100, "nonzero": 60}
    timed = {"dense": (10, 10, 10), "pruned": (9, 9, 9), "speedup": 10 / 9, "ratio": (10 / 9, 1.1, 1.12)}
    taken = {"parts": {"step": timed}, "kernels": 0.8, "between": 0.1,
             "sparse": {"unet": {"used": 3, "lost": 1, "skipped": 20, "without": {"it is late": 2, "it is early": 1}}}}
    by_shape = kernels.Ceiling(4, 7, 0.5, 25, 4 / 3, {"it is late": 3})
    found = speed.speed(step, macs, taken, by_shape)
    assert found["reachable"] == pytest.approx(1 / (0.2 + 0.8 * 0.8))
    assert found["why"] == (
        "3 of 7 pruned layers, with 40 % of the MACs, ran kernels that skip zeros; for 1 the dense kernel was as fast "
        "or faster in a probe on this device; 3 cannot: it is late (2), it is early (1). 20 % of a step cannot shrink, "
        "so 1.19× is reachable. Measured: 1.11× (1.10 to 1.12), below 1.19×: kernels that skip half of the work take "
        "more than half of the time.")


def test_the_report_says_how_many_ran(half, pruned, plan, gpu, on_cuda):
    found = measured(half, pruned)
    ran = found.sparse["unet"]
    report = pruning.report(half, pruned, plan, measured=found)
    layers = len(plan.decided.decision.sites)
    share = f"{2 * ran.skipped / report.macs['pruned'] * 100:.0f} %"
    assert report.speed["why"].startswith(f"{ran.used} of {layers} pruned layers, with {share} of the MACs, ran "
                                          "kernels that skip zeros; ")
    assert CONVOLUTION in report.speed["why"]
    assert 1 < report.speed["reachable"] < report.speed["theory"]
    told = sentence(report.to_dict(), None, "unet", "2:4")
    assert f"{ran.used} of {layers} pruned layers run kernels that skip zeros" in told
    assert "multiplied like other numbers" not in told


def test_the_report_says_that_all_lost(half, pruned, plan, gpu, on_cuda):
    gpu[0]["sparse"] = 3.0
    found = measured(half, pruned)
    report = pruning.report(half, pruned, plan, measured=found)
    lost = found.sparse["unet"].lost
    assert lost > 20
    assert report.speed["reachable"] == 1
    assert report.speed["why"].startswith(
        f"None of {len(plan.decided.decision.sites)} pruned layers ran kernels that skip zeros; for {lost} the dense "
        "kernel was as fast or faster in a probe on this device; ")
    assert "zeros are stored and multiplied" in sentence(report.to_dict(), None, "unet", "2:4")


def test_the_report_says_that_all_failed(half, pruned, plan, gpu, on_cuda, monkeypatch):
    def convert(weight):
        raise RuntimeError("architecture mismatch")

    monkeypatch.setattr(sparse, "convert", convert)
    found = measured(half, pruned)
    report = pruning.report(half, pruned, plan, measured=found)
    failed = "the sparse kernel failed: architecture mismatch"
    assert f"{failed} ({found.sparse['unet'].without[failed]})" in report.speed["why"]
    assert report.speed["why"].startswith("Zeros are stored and multiplied like other numbers: ")
    assert report.speed["reachable"] == 1


def test_a_measurement_of_an_older_version_still_reads(half, pruned, plan):
    old = {key: value for key, value in measured(half, pruned).to_dict().items() if key != "sparse"}
    report = pruning.report(half, pruned, plan).to_dict()
    report["speed"]["measured"] = old
    assert "zeros are stored and multiplied" in sentence(report, None, "unet", "2:4")
    assert ran_sparse(old, "unet") is ran_sparse(None, "unet") is None


def test_on_a_cpu_the_report_gives_the_reason(half, pruned, plan):
    found = measured(half, pruned)
    assert found.sparse["unet"] == Ran(0, 0, 0, {"a CPU has no 2:4 kernel in PyTorch": len(
        plan.decided.decision.sites)})
    assert pruning.report(half, pruned, plan, measured=found).speed["why"].startswith(
        "Zeros are stored and multiplied like other numbers: a CPU has no 2:4 kernel in PyTorch.")


# On a real GPU.


@GPU
def test_a_real_kernel_answers_as_the_masked_layer(monkeypatch):
    monkeypatch.setattr(sparse, "LEAST", 0.0)  # whatever runs, wins
    half = pipeline().to("cuda", torch.float16)
    plan = pruning.plan(half, pattern="2:4")
    pruned = pruning.apply(half, plan)
    fast, found = accelerated(pruned, "unet", plan.decided)
    used = [name for name, one in found.items() if one.reason is None]
    if not used:
        pytest.skip(f"this GPU has none: {next(one.reason for name, one in found.items() if name in linears(pruned))}")
    for name, layer in fast.unet.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight is pruned.unet.get_submodule(name).weight
    x = torch.randn(2, 40, fast.unet.get_submodule(used[0]).in_features, dtype=torch.float16, device="cuda")
    with torch.no_grad():
        torch.testing.assert_close(fast.unet.get_submodule(used[0])(x), pruned.unet.get_submodule(used[0])(x),
                                   rtol=1e-2, atol=1e-2)
    shot = pruning.Shot("a b", steps=1)
    one, other = (clock.Run(pipe, shot).step(0).latents for pipe in (pruned, fast))
    torch.testing.assert_close(one, other, rtol=5e-2, atol=5e-2)
    assert subject(pruned).net is pruned.unet


@GPU
def test_a_real_measurement_says_what_ran():
    half = pipeline().to("cuda", torch.float16)
    plan = pruning.plan(half, pattern="2:4")
    pruned = pruning.apply(half, plan)
    found = measured(half, pruned)
    ran = found.sparse["unet"]
    assert ran.used + ran.lost + sum(ran.without.values()) == len(plan.decided.decision.sites)
    assert "kernel" in pruning.report(half, pruned, plan, measured=found).speed["why"]
