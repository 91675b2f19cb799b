"""Theory, reachable and measured, from hand-made counts and times; and the sentence that says why they differ."""

import json

import pytest
import torch

import pruning
from pruning.reports.speed import speed, timed_for
from pruning.timing import intervals
from pruning.timing.clock import Measured, Timed
from pruning.timing.kernels import Ceiling
from pruning.types import Decision, PlanStep, Recipe


def a_step(kind="keep", component="unet"):
    return PlanStep(Recipe(component=component), "", "", Decision(kind, {}))


def counts(dense=100, pruned=None, nonzero=None):
    pruned = dense if pruned is None else pruned
    return {"dense": dense, "pruned": pruned, "nonzero": pruned if nonzero is None else nonzero}


def times(ratio, slack=0.001):
    """10 ms against 10 / ratio, with intervals of a relative width; ``ratio`` None is of too few runs."""
    if ratio is None:
        return Timed((10, 10, 10), (10, 10, 10), None)
    found = ratio, ratio / (1 + slack), ratio * (1 + slack)
    sides = ((x, x * (1 - slack), x * (1 + slack)) for x in (10.0, 10.0 / ratio))
    return Timed(*sides, ratio if intervals.differs(found) else None, found, intervals.state(found))


def taken(step=1.0, kernels=0.8, slack=0.001, text=1.0, decoder=1.0):
    one = times(step, slack)
    parts = {"text_encoder": times(text), "step": one, "vae.decoder": times(decoder)}
    return Measured(one.dense, one.pruned, one.speedup, 10, "a test", parts, kernels,
                    None if kernels is None else 1 - kernels, ratio=one.ratio, state=one.state).to_dict()


def test_smaller_layers_that_were_not_measured():
    found = speed(a_step(), counts(100, 50), None)
    assert (found["theory"], found["reachable"], found["measured"]) == (2, 2, None)
    assert found["why"] == ("The layers are smaller, so every kernel does less. "
                            "2.00× is reachable if all of the time shrinks with the MACs.")


@pytest.mark.parametrize(("kernels", "reachable"), [(0.8, 1 / 0.6), (0.5, 1 / 0.75), (1.0, 2.0), (None, 2.0)])
def test_reachable_by_the_share_of_time_inside_kernels(kernels, reachable):
    assert speed(a_step(), counts(100, 50), taken(kernels=kernels))["reachable"] == pytest.approx(reachable)


@pytest.mark.parametrize(("ratio", "words"), [
    (1.65, "Measured: 1.65× (1.65 to 1.65), no different from 1.67× beyond noise."),
    (1.21, "Measured: 1.21× (1.21 to 1.21), below 1.67×: smaller kernels do fewer operations a second, and norms and "
           "copies shrink less than MACs."),
    (1.9, "Measured: 1.90× (1.90 to 1.90), above 1.67×: work that MACs do not count (norms, softmax, memory traffic) "
          "shrinks, too."),
    (0.8, "Measured: 0.80× (0.80 to 0.80), below 1.67×: smaller kernels do fewer operations a second, and norms and "
          "copies shrink less than MACs."),
    (1.015, "Measured: no difference larger than 2 %."),
    (None, "Measured: too few runs to tell. Measure again with more runs, while nothing else runs.")])
def test_the_clock_against_what_is_reachable(ratio, words):
    found = speed(a_step(), counts(100, 50), taken(ratio))
    assert found["measured"] == taken(ratio)
    assert found["why"] == ("The layers are smaller, so every kernel does less. 20 % of a step cannot shrink, so 1.67× "
                            f"is reachable. {words}")


def test_wide_intervals_tell_no_difference_from_reachable():
    assert "1.40× (1.17 to 1.68), no different from 1.67×" in speed(a_step(), counts(100, 50),
                                                                    taken(1.4, slack=0.2))["why"]


def test_runs_that_are_too_noisy_say_so():
    assert speed(a_step(), counts(100, 50), taken(1.1, slack=0.2))["why"].endswith(
        "Measured: too noisy to tell (0.92× to 1.32×). Measure again with more runs, while nothing else runs.")


def test_a_measurement_of_an_older_version_is_read():
    """It has both sides' intervals, and not those of the ratio."""
    old = {"dense": [10.0, 9.9, 10.1], "pruned": [5.0, 4.9, 5.1], "speedup": 2.0}
    measured = {"parts": {"step": old}, "kernels": 0.8, "between": 0.2, "repeats": 5}
    assert speed(a_step(), counts(100, 50), measured)["why"].endswith(
        "Measured: 2.00× (1.94 to 2.06), above 1.67×: work that MACs do not count (norms, softmax, memory traffic) "
        "shrinks, too.")


def test_without_a_share_the_rest_of_the_step_is_the_reason():
    assert speed(a_step(), counts(100, 50), taken(1.5, None))["why"].endswith(
        "Measured: 1.50× (1.50 to 1.50), below 2.00×: part of the time does not shrink with the MACs (norms, copies, "
        "Python).")


def test_zeros_are_multiplied():
    found = speed(a_step("threshold"), counts(nonzero=25), None)
    assert (found["theory"], found["reachable"]) == (4, 1)
    assert found["why"] == ("Zeros are stored and multiplied like other numbers: this device has no kernel that skips "
                            "them.")
    assert speed(a_step("threshold"), counts(nonzero=25), taken(1.3))["why"].endswith(
        "Measured: 1.30× (1.30 to 1.30), though both do the same arithmetic: was other work running? Measure again.")
    assert "(1.00 to 1.06), no different from 1.00×" in speed(a_step("threshold"), counts(nonzero=25),
                                                              taken(1.03, slack=0.025))["why"]


def test_a_few_zeros_of_the_models_own_are_not_worth_a_word():
    assert "Zeros" not in speed(a_step(), counts(1000, 500, 499), None)["why"]
    assert "Zeros" in speed(a_step(), counts(1000, 500, 250), None)["why"]  # an earlier step's
    assert "Zeros" in speed(a_step("threshold"), counts(1000, 1000, 999), None)["why"]


def test_a_pattern_without_a_kernel():
    none = Ceiling(0, 7, 0.0, 0, 1.0, {"a CPU has no 2:4 kernel in PyTorch": 7})
    found = speed(a_step("pattern"), counts(nonzero=60), taken(1), none)
    assert (found["theory"], found["reachable"]) == (100 / 60, 1)
    assert found["why"] == ("Zeros are stored and multiplied like other numbers: a CPU has no 2:4 kernel in PyTorch. "
                            "Measured: no difference larger than 2 %.")


def test_a_pattern_with_kernels_in_some_layers():
    some = Ceiling(3, 7, 0.4, 20, 1.25, {"PyTorch has 2:4 kernels for linear layers only": 4})
    found = speed(a_step("pattern"), counts(nonzero=60), None, some)
    assert found["reachable"] == 1.25
    assert found["why"] == ("3 of 7 pruned layers, with 40 % of the MACs, have a kernel that skips zeros, by type and "
                            "shape; measuring tries each on this device and runs it where it is faster. "
                            "1.25× is reachable if all of the time shrinks with the MACs.")
    assert speed(a_step("pattern"), counts(nonzero=60), taken(1, 0.5), some)["reachable"] == pytest.approx(1 / 0.9)


def test_a_pattern_after_a_width_step():
    some = Ceiling(3, 7, 0.4, 10, 1.25, {})
    assert speed(a_step("pattern"), counts(100, 50, 30), None, some)["reachable"] == 100 / 40
    found = speed(a_step("pattern"), counts(100, 50, 30), None, Ceiling(0, 7, 0.0, 0, 1.0, {"it is late": 7}))
    assert (found["theory"], found["reachable"]) == (100 / 30, 2)
    assert found["why"].startswith("The layers are smaller, so every kernel does less. Zeros are stored and multiplied "
                                   "like other numbers: it is late. 2.00×")


def test_the_part_that_a_component_answers_for():
    measured = taken(2.0, text=3.0, decoder=4.0)
    ratios = {component: timed_for(measured, component)["speedup"]
              for component in ("unet", "transformer", "", "text_encoder", "vae.decoder")}
    assert ratios == {"unet": 2, "transformer": 2, "": 2, "text_encoder": 3, "vae.decoder": 4}
    assert timed_for(json.loads(json.dumps(measured)), "unet")["dense"] == pytest.approx([10, 9.99, 10.01])


def test_the_decoder_is_compared_with_its_own_time():
    found = speed(a_step(component="vae.decoder"), counts(100, 50), taken(1, decoder=1.5))
    assert found["reachable"] == 2  # the share is the denoiser's
    assert found["why"].endswith("Measured: 1.50× (1.50 to 1.50), below 2.00×: part of the time does not shrink with "
                                 "the MACs (norms, copies, Python).")


def test_nothing_was_removed():
    assert speed(a_step(), counts(), None)["why"] == "Nothing was removed."


# On real models.


@pytest.mark.parametrize("component", ["unet", "vae.decoder", "text_encoder"])
def test_a_report_with_a_clock(tiny, component):
    plan = pruning.plan(tiny, ratio=0.5, units="channel" if component == "vae.decoder" else "neuron",
                        component=component)
    pruned = pruning.apply(tiny, plan)
    measured = pruning.measure(tiny, pruned, pruning.Shot("a", steps=1), repeats=6)
    found = pruning.report(tiny, pruned, plan, measured=measured)
    told = found.to_dict()["speed"]
    assert told["measured"]["parts"] == measured.to_dict()["parts"]
    share = 1 - measured.between if component == "unet" else 1
    left = found.macs["pruned"] / found.macs["dense"]
    assert told["reachable"] == pytest.approx(1 / (1 - share + share * left))
    assert 1 < told["reachable"] <= told["theory"]
    assert "Measured" in told["why"]


def test_a_pattern_on_a_cpu_says_why(tiny):
    plan = pruning.plan(tiny, pattern="2:4")
    told = pruning.report(tiny, pruning.apply(tiny, plan), plan).speed
    assert (told["reachable"], told["why"]) == (1, "Zeros are stored and multiplied like other numbers: a CPU has no "
                                                   "2:4 kernel in PyTorch.")


def test_a_report_knows_the_layers_that_the_pattern_took(tiny, monkeypatch):
    """As if it stood on a GPU."""
    def on_a_gpu(sites, costs, dtype, device_type, pattern):
        asked.append([site.name for site in sites])
        assert (dtype, device_type, pattern) == (torch.float32, "cpu", "2:4")
        return Ceiling(3, 7, 0.4, costs.count()[1] // 5, 1.25, {})

    asked: list = []
    monkeypatch.setattr("pruning.reports.speed.ceiling", on_a_gpu)
    plan = pruning.plan(tiny, pattern="2:4", only=("mid_block*",))
    told = pruning.report(tiny, pruning.apply(tiny, plan), plan).speed
    assert [set(names) for names in asked] == [set(plan.steps[-1].decision.sites)]
    assert all(name.startswith("mid_block") for name in asked[0])
    assert told["reachable"] == pytest.approx(1.25)
