"""How far scores repeat with other samples: rank correlations by hand, and what is said of real methods."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import pipeline

import pruning
from pruning import cache
from pruning.calibration import samples
from pruning.cli import printed
from pruning.criteria import METHODS
from pruning.network.subject import subject
from pruning.observe import gradients, inputs, modes, timesteps
from pruning.scores import repeats
from pruning.types import Calibration

NOISE = Calibration(samples=4, source="noise")
DRAWN = Calibration(("a", "b"), samples=4, source="generated", guidance=3.0)
SEEING = [(name, units) for name, part in sorted(METHODS.items()) if part.sees != "weights"
          for units in ("weight", "neuron") if units in part.units]


def known(one, other):
    """Spearman's correlation, by another's hand."""
    return pd.Series(one.numpy()).rank().corr(pd.Series(other.numpy()).rank())


@pytest.fixture(autouse=True)
def fresh():
    """Nothing is known of an earlier look."""
    cache.forget()
    cache.forget()


def test_ranks_by_hand():
    assert repeats.ranks(torch.tensor([0.5, 3.0, 0.5, 1.0])).tolist() == [0.5, 3, 0.5, 2]


@pytest.mark.parametrize(("one", "other", "found"), [
    ([1, 2, 3, 4], [10, 20, 30, 40], 1), ([1, 2, 3, 4], [4, 3, 2, 1], -1), ([1, 2, 3], [1, 3, 2], 0.5),
    ([1, 1, 1], [1, 2, 3], None), ([7], [7], None)])
def test_spearman_by_hand(one, other, found):
    assert repeats.spearman(torch.tensor(one).float(), torch.tensor(other).float()) == (
        None if found is None else pytest.approx(found))


def test_spearman_is_pandas_with_ties_as_well():
    torch.manual_seed(0)
    one = torch.randint(20, (300,)).float()
    other = one + torch.randint(30, (300,))
    assert repeats.spearman(one, other) == pytest.approx(known(one, other))


def test_places_are_all_or_some_and_the_same_each_time():
    before = torch.get_rng_state()
    assert [axis.tolist() for axis in repeats.places(torch.Size([2, 3]))] == [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    some, again = (repeats.places(torch.Size([400, 5, 50])) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(some, again, strict=True))
    assert [len(axis.unique()) for axis in some] == [400, 5, 50]  # of all rows and of all columns
    assert torch.equal(torch.get_rng_state(), before)


def looked_at_by(tiny, calibration):
    """The U-Net in its pipeline, or bare where it is shown noise: that is the answer to noise for a bare one alone."""
    return subject(tiny.unet if calibration.source == "noise" else tiny)


def halves_of(shown, calibration):
    """The calls of either half, as calibrations of their own would have them."""
    return samples.halves(shown, calibration.samples, lambda call: call.level)


def shown_alone(monkeypatch, calls):
    """Let nothing but these calls be looked at, and forget what was seen of others."""
    def making(*_):
        yield from ()
        return calls

    cache.forget()
    monkeypatch.setattr(samples, "making", making)


@pytest.mark.parametrize("calibration", [NOISE, DRAWN])
@pytest.mark.parametrize("how", ["mean", "size", "square"])
def test_halves_of_gradients_are_those_of_half_of_the_samples(tiny, monkeypatch, calibration, how):
    looked_at = looked_at_by(tiny, calibration)
    shown = samples.calls(looked_at, samples.settled(looked_at, calibration))
    found = pruning.progress.drained(gradients.gradients(looked_at, calibration, how))
    for half, calls in zip(found.halves, halves_of(shown, calibration), strict=True):
        shown_alone(monkeypatch, calls)
        own = pruning.progress.drained(gradients.gradients(looked_at, calibration, how)).mean
        for name in ("conv_in.weight", "mid_block.resnets.0.norm1.bias", "conv_out.weight"):
            assert torch.allclose(half.mean[name], own[name], rtol=1e-3, atol=1e-5 * float(own[name].abs().max()))
    assert set(found.halves[1].mean) == set(found.mean)


def test_halves_of_norms_are_those_of_half_of_the_samples(tiny, monkeypatch):
    looked_at = subject(tiny)
    shown = samples.calls(looked_at, samples.settled(looked_at, DRAWN))
    found = pruning.progress.drained(inputs.input_norms(looked_at, DRAWN, 2))
    for half, calls in zip(found.halves, halves_of(shown, DRAWN), strict=True):
        shown_alone(monkeypatch, calls)
        own = pruning.progress.drained(inputs.input_norms(looked_at, DRAWN, 2))
        assert all(torch.allclose(half[name], norm, rtol=1e-5) for name, norm in own.items())


@pytest.mark.parametrize(("calibration", "share"), [
    (NOISE, 1 / 2), (replace(NOISE, samples=3), 2 / 3), (DRAWN, 1 / 2),
    (replace(DRAWN, prompts=("a", "b", "a b"), guidance=0.0), 2 / 3)])
def test_halves_of_sums_over_timesteps_are_of_half_of_the_batch(tiny, calibration, share):
    """What the halves say, weighed by their shares of the batch, is what all of it says."""
    looked_at = looked_at_by(tiny, calibration)
    settled = samples.settled(looked_at, calibration)
    found = pruning.progress.drained(timesteps.summed(looked_at, settled, (300, 600), (True, True)))
    one, other = found.halves
    assert found.share == pytest.approx(share)
    for name in ("conv_in.weight", "conv_out.weight"):
        assert not torch.allclose(one.mean[name], other.mean[name], rtol=0.01)
        assert torch.allclose(found.share * one.mean[name] + (1 - found.share) * other.mean[name], found.mean[name],
                              rtol=1e-4, atol=1e-7)


def test_one_sample_of_a_batch_has_no_halves(tiny):
    looked_at = subject(tiny)
    settled = samples.settled(looked_at, replace(DRAWN, prompts="a", samples=2))
    assert pruning.progress.drained(timesteps.summed(looked_at, settled, (300,), (True,))).halves is None


@pytest.mark.parametrize(("name", "units"), SEEING)
def test_a_method_that_sees_data_says_how_far_it_repeats(tiny, name, units):
    scores = pruning.score(tiny.unet, name, units=units, calibration=NOISE)
    assert set(scores.repeats) == set(scores.catalog.sites)
    assert all(-1 <= found <= 1 for found in scores.repeats.values())
    assert min(scores.repeats.values()) <= scores.repeatability <= max(scores.repeats.values())
    assert scores.repeatability < 1  # no half sees what the other sees
    few = pruning.score(tiny.unet, name, units=units, calibration=replace(NOISE, samples=1))
    assert (few.repeats, few.repeatability) == ({}, None)


def test_a_method_that_sees_weights_alone_has_nothing_to_repeat(tiny):
    assert pruning.score(tiny, "magnitude").repeatability is None


@pytest.mark.parametrize(("name", "options"), [("taylor", {}), ("fisher", {}), ("wanda", {"buckets": 1})])
def test_the_figure_is_that_of_two_looks_at_half_of_the_samples_each(tiny, monkeypatch, name, options):
    looked_at, site, each = subject(tiny.unet), "mid_block.resnets.0.conv1", []
    shown = samples.calls(looked_at, samples.settled(looked_at, NOISE))
    found = pruning.score(tiny.unet, name, calibration=NOISE, **options).repeats[site]
    for calls in halves_of(shown, NOISE):
        shown_alone(monkeypatch, calls)
        each.append(pruning.score(tiny.unet, name, calibration=NOISE, **options).whole(site).flatten())
    assert found == pytest.approx(known(*each), abs=0.03)  # of some weights against all


def test_halves_cost_no_pass_and_leave_the_scores_as_they_were(tiny, monkeypatch):
    looked_at, passes = subject(tiny.unet), []
    hook = tiny.unet.register_forward_hook(lambda *_: passes.append(1))
    both = pruning.progress.drained(gradients.gradients(looked_at, NOISE))
    assert len(passes) == 4
    cache.forget()
    monkeypatch.setattr(gradients, "room_for", lambda times, tensors: False)  # gradients have no room twice
    alone = pruning.progress.drained(gradients.gradients(looked_at, NOISE))
    hook.remove()
    assert (alone.halves, len(passes)) == (None, 8)
    assert all(torch.equal(both.mean[name], mean) for name, mean in alone.mean.items())
    assert pruning.score(tiny.unet, "taylor", calibration=NOISE).repeatability is None


def test_memory_that_is_short_is_left_alone(tiny, monkeypatch):
    size = 4 * sum(p.numel() for p in tiny.unet.parameters())
    tensors = dict(tiny.unet.named_parameters())
    for available, once, twice in ((4 * size - 4, False, False), (4 * size, True, False), (8 * size, True, True)):
        monkeypatch.setattr(modes.psutil, "virtual_memory", lambda size=available: SimpleNamespace(available=size))
        assert (modes.room_for(1, tensors), modes.room_for(2, tensors)) == (once, twice)


def test_the_words():
    assert repeats.said(None) == ""
    assert repeats.said(0.91) == "Scores by two halves of the samples agree with a rank correlation of 0.91."
    assert repeats.said(0.554).endswith("of 0.55. More samples make scores steadier.")


def test_the_command_line_shows_it():
    layer = {"name": "conv", "units": 8, "quantiles": [0.0, 1.0, 2.0], "by_timestep": [1.0, 2.0]}
    shown = printed.scored({"layers": [layer | {"repeatability": 0.5}, layer | {"repeatability": None}],
                            "repeatability": 0.5, "timesteps": None})
    assert shown.splitlines()[0].endswith("halves agree")
    assert shown.splitlines()[1].endswith("0.50")
    assert shown.endswith("agree with a rank correlation of 0.50. More samples make scores steadier.")


def test_more_samples_repeat_better():
    pipe = pipeline()
    few, many = (pruning.score(pipe.unet, "fisher", calibration=replace(NOISE, samples=count)).repeatability
                 for count in (2, 16))
    assert many > few + 0.05
