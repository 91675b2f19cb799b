"""Diff-Pruning: which timesteps count, what a channel is worth in both of the authors' codes, and published sizes."""

from dataclasses import replace
from math import ceil, floor

import pytest
import torch
from conftest import ddpm, published, same
from diffusers import UNet2DModel
from PIL import Image
from torch import nn

import pruning
from pruning import cache
from pruning.calibration.call import generator, showing
from pruning.criteria import METHODS
from pruning.errors import Refused
from pruning.network.subject import subject
from pruning.observe import timesteps
from pruning.observe.timesteps import counting
from pruning.planning import preview
from pruning.planning.request import request
from pruning.progress import drained
from pruning.scores.scores import Curve, SiteScores
from pruning.spreads.bundles import Bundles
from pruning.spreads.granularity import ROUNDINGS, step_of
from pruning.surgery.slices import slice_units
from pruning.systems.diff_pruning import DiffPruning
from pruning.types import Calibration, Recipe
from pruning.units.catalog import catalog
from pruning.units.costs import trace
from pruning.units.site import Member, Site

LOSSES = (0.5, 0.3, 0.02, 0.1, 0.01)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Three pictures of 16 x 16."""
    folder = tmp_path_factory.mktemp("album")
    for i, colour in enumerate(("red", "green", "blue")):
        Image.radial_gradient("L").resize((16, 16)).convert("RGB").save(folder / f"{i}.png")
        Image.blend(Image.open(folder / f"{i}.png"), Image.new("RGB", (16, 16), colour), 0.5).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pipe():
    """A small ddpm-cifar10 with 40 timesteps."""
    return ddpm(levels=40)


@pytest.fixture
def looks(album):
    cache.forget()
    return Calibration(samples=3, source=str(album))


def scored(pipe, looks, **options):
    """(site -> score, the curve) by Diff-Pruning with every timestep looked at."""
    looked_at = subject(pipe)
    found = catalog(looked_at.net, "channel", looked_at.example)
    events = list(DiffPruning(**{"every": 4, **options})(looked_at, found, looks))
    curve = next(event for event in events if isinstance(event, Curve))
    return {event.site.name: event.values for event in events if isinstance(event, SiteScores)}, curve


# Which timesteps count.


@pytest.mark.parametrize(("threshold", "gate", "counts"), [
    (0.1, "gate", (1, 1, 0, 1, 0)), (0.1, "prefix", (1, 1, 0, 0, 0)), (0.1, "prefix and one", (1, 1, 1, 0, 0)),
    (0.0, "gate", (1, 1, 1, 1, 1)), (0.0, "prefix", (1, 1, 1, 1, 1)), (0.7, "gate", (1, 0, 0, 0, 0))])
def test_what_counts_by_hand(threshold, gate, counts):
    assert tuple(map(int, counting(LOSSES, threshold, gate))) == counts


def test_the_prefix_compares_with_the_largest_so_far():
    assert counting((0.1, 0.09, 1.0, 0.2), 0.5, "prefix") == (True, True, True, False)
    assert counting((0.1, 0.09, 1.0, 0.2), 0.5, "gate") == (False, False, True, False)


def test_fewer_timesteps_count_at_a_higher_threshold(pipe, looks):
    counts = [sum(scored(pipe, looks, threshold=t)[1].counts) for t in (0.0, 0.3, 0.9, 0.99)]
    assert counts[0] == 10
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= 1


def test_the_losses_are_those_of_the_batch(pipe, looks):
    _, curve = scored(pipe, looks)
    looked_at = subject(pipe)
    shown = drained(showing(looked_at, looks))
    noise = torch.randn(shown.clean.shape, generator=generator("calibration", looks.seed))
    call = shown.at(looked_at.net, range(3), torch.full((3,), 20), noise)
    with torch.no_grad():
        loss = nn.functional.mse_loss(looked_at.net(**call.inputs).sample, noise)
    assert curve.losses[curve.steps.index(20)] == pytest.approx(float(loss), rel=1e-5)
    assert curve.steps == tuple(range(0, 40, 4))
    assert curve.levels == 40


# What a channel is worth.


def test_gradients_are_those_of_the_summed_loss(pipe, looks):
    """In one graph, over the timesteps that count; the sum over timesteps of sizes is another, larger number."""
    looked_at = subject(pipe)
    steps, counts = (0, 8, 30), (True, False, True)
    taken = drained(timesteps.summed(looked_at, looks, steps, counts))
    shown = drained(showing(looked_at, looks))
    noise = torch.randn(shown.clean.shape, generator=generator("calibration", looks.seed))
    net = looked_at.net
    with torch.enable_grad():
        total = sum(nn.functional.mse_loss(net(**call.inputs).sample, noise) for call in (
            shown.at(net, range(3), torch.full((3,), step), noise) for step in (0, 30)))
        grads = torch.autograd.grad(total, list(net.parameters()))
    for (name, weight), grad in zip(net.named_parameters(), grads, strict=True):
        assert torch.allclose(taken.mean[name], grad, atol=1e-5 * float(grad.abs().max()) + 1e-8), name
        row = list(taken.mean).index(name)
        assert float(taken.effects[:, row].sum()) >= float((weight.detach() * grad).abs().sum()) * (1 - 1e-4)
    assert taken.effects[1].abs().sum() == 0  # what does not count has no effect


def test_a_threshold_of_0_is_the_sum_over_all_bit_for_bit(pipe, looks):
    one, _ = scored(pipe, looks, threshold=0.0)
    other, _ = scored(pipe, looks, threshold=0.0, gate="prefix")
    assert all(torch.equal(one[name], other[name]) for name in one)


def by_hand(net, site, effects):
    """The slices of weights of a site: (kind of layer, (units, n))."""
    for member in site.members:
        layer, _, tensor = member.tensor.rpartition(".")
        if tensor == "weight":
            part = effects[member.tensor].movedim(member.axis, 0)[member.offset:][: site.units * member.size]
            yield net.get_submodule(layer), part.reshape(site.units, -1)


@pytest.mark.parametrize("variant", ["diffusers", "ddpm_exp"])
def test_both_codes_of_the_authors_by_hand(pipe, looks, variant):
    looked_at = subject(pipe)
    values, curve = scored(pipe, looks, variant=variant, threshold=0.0)
    taken = drained(timesteps.summed(looked_at, looks, curve.steps, curve.counts))
    effects = {name: tensor.detach() * taken.mean[name] for name, tensor in looked_at.net.named_parameters()}
    for site in catalog(looked_at.net, "channel", looked_at.example):
        parts = list(by_hand(looked_at.net, site, effects))
        layers = [part for layer, part in parts if not isinstance(layer, nn.GroupNorm)]
        if variant == "diffusers":
            mean = torch.stack([part.abs().sum(1) for part in layers]).mean(0)
            expected = mean / mean.mean()
        else:  # at the scale of a loss that is summed over 3 x 16 x 16 values
            expected = sum((part * 768).square().sum(1) for part in layers) + sum(
                (part * 768).abs().sum(1) for layer, part in parts if isinstance(layer, nn.GroupNorm))
        assert torch.allclose(values[site.name], expected, rtol=1e-3), site.name


def test_a_channel_of_zeros_is_worth_nothing_and_goes_first(pipe, looks):
    looked_at = subject(pipe)
    site = next(site for site in catalog(looked_at.net, "channel", looked_at.example) if site.kind == "channel")
    changed = type(pipe)(UNet2DModel.from_config(pipe.unet.config), pipe.scheduler)
    changed.unet.load_state_dict(pipe.unet.state_dict())
    with torch.no_grad():
        for member in site.members:
            changed.unet.get_parameter(member.tensor).index_fill_(member.axis, member.indices(torch.tensor([5])), 0)
    values, _ = scored(changed, looks)
    assert values[site.name][5] == 0
    assert (values[site.name] > 0).sum() >= site.units - 1
    ranked = Bundles.of(site, values[site.name])
    assert 5 in ranked.order[0].tolist()


def test_the_signed_baseline_lets_effects_cancel(pipe, looks):
    each = pruning.score(pipe, "taylor", units="channel", calibration=looks).values
    signed = pruning.score(pipe, "taylor", units="channel", calibration=looks, cancel=True).values
    for name, value in signed.items():
        assert value.mean() == pytest.approx(1, rel=1e-4)
        assert not torch.allclose(value / value.sum(), each[name] / each[name].sum(), rtol=1e-2)


def test_looking_leaves_no_trace_even_when_stopped(pipe, looks):
    before = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    looked_at = subject(pipe)
    found = catalog(looked_at.net, "channel", looked_at.example)
    for stop in (1, 12, 15):
        cache.forget()
        work = DiffPruning(every=4)(looked_at, found, looks)
        for _ in range(stop):
            next(work)
        work.close()
        assert same(before, pipe.unet.state_dict())
        assert all(p.grad is None and p.requires_grad and not p._backward_hooks for p in pipe.unet.parameters())


def test_losses_are_taken_once_for_all_thresholds(pipe, looks):
    passes = []
    losses = scored(pipe, looks, threshold=0.0)[1].losses
    hook = pipe.unet.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    _, curve = scored(pipe, looks, threshold=sorted(losses)[5] / max(losses))
    hook.remove()
    assert passes == [True] * sum(curve.counts) * 2  # either half of the batch is a call of its own
    assert sum(curve.counts) == 4
    assert timesteps.known(subject(pipe), looks, 4) == curve.losses


def test_what_a_model_draws_to_look_at_is_drawn_once(pipe):
    """The losses and the gradients see the same pictures, and so does another threshold."""
    cache.forget(["calibration samples"])
    cache.forget()
    passes = []
    hook = pipe.unet.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    generated = Calibration(samples=1, source="generated")
    losses = scored(pipe, generated, threshold=0.0)[1].losses
    assert passes.count(False) == 20 + len(losses)  # 20 steps of a drawing, and every timestep
    scored(pipe, generated, threshold=sorted(losses)[5] / max(losses))
    assert passes.count(False) == 20 + len(losses)
    hook.remove()


@pytest.mark.parametrize(("options", "words"), [
    ({"threshold": 1.0}, "threshold cannot be 1.0. It runs from 0.0 to 0.99"), ({"gate": "door"}, "gate, prefix"),
    ({"variant": "mine"}, "diffusers, ddpm_exp"), ({"every": 0}, "from 1 to 250")])
def test_options_that_cannot_be(options, words):
    with pytest.raises(Refused) as caught:
        METHODS.make("diff-pruning", options)
    assert words in str(caught.value)


def test_what_has_no_loss_is_refused(tiny):
    with pytest.raises(Refused, match="no loss"):
        pruning.score(tiny, "diff-pruning", component="text_encoder", units="head")


# The whole system.


def test_it_is_asked_in_its_own_ways(pipe, looks):
    recipe = request(pipe, "diff-pruning", 0.3, calibration=looks)
    assert (recipe.units, recipe.protect) == ("channel", ("conv_out",))
    assert (recipe.rounding, recipe.spread) == ("paper", "layer")
    shared = request(pipe, "diff-pruning", 0.3, calibration=looks, spread="global")
    assert shared.rounding == "nearest"  # a rounding is for shares of single layers
    assert request(pipe, "magnitude", 0.3).units == "weight"


def test_it_prunes_for_real(pipe, looks):
    plan = pruning.plan(pipe, "diff-pruning", 0.5, calibration=looks, every=8)
    small = pruning.apply(pipe, plan)
    report = pruning.report(pipe, small, plan)
    assert report.params["pruned"] < 0.35 * report.params["dense"]
    assert small.unet.conv_in.out_channels == 8
    assert small.unet.conv_out.out_channels == 3
    again = pruning.plan(pipe, "diff-pruning", 0.5, calibration=looks, every=8)
    assert again.digest == plan.digest
    *_, drawn = pruning.generate(small, pruning.Shot(steps=2))
    assert drawn.images[0].size == (16, 16)


# Rules of rounding, and the published sizes that come of them.


TABLE = [("paper", 0.1, 35.003, 6.006), ("paper", 0.2, 27.497, 5.115), ("paper", 0.3, 19.8512, 3.3928),
         ("paper", 0.4, 14.318, 2.737), ("paper", 0.44, 14.133, 2.722), ("paper", 0.5, 8.969, 1.521),
         ("paper", 0.6, 8.594, 1.491), ("paper", 0.7, 5.121, 1.077), ("newer", 0.1, 26.981, 4.209),
         ("newer", 0.2, 20.396, 3.436), ("newer", 0.25, 20.131, 3.415), ("newer", 0.3, 13.949, 2.088),
         ("newer", 0.5, 8.969, 1.521)]


def small(net, rounding, ratio):
    """A network without values after a share of every group of channels is cut, whichever they are."""
    looked_at = subject(net)
    kept = {}
    for site in catalog(net, "channel", looked_at.example):
        gone = min(ROUNDINGS[rounding][1](site.units * ratio, site.quota), site.units // site.quota - 1)
        per = site.units // site.quota
        kept[site] = torch.tensor([u for u in range(site.units) if u % per >= gone])
    slice_units(net, kept)
    return trace(net, looked_at.example)


@pytest.mark.parametrize(("rounding", "ratio", "params", "macs"), TABLE)
def test_the_staircase_of_ddpm_cifar10(rounding, ratio, params, macs):
    costs = small(published(32, (1, 2, 2, 2)), rounding, ratio)
    assert costs.count()[0] / 1e6 == pytest.approx(params, abs=6e-4)  # its third digit was rounded from a fourth
    assert costs.as_published() / 1e9 == pytest.approx(macs, rel=1e-3)
    assert costs.count()[1] > costs.as_published()  # ours counts attention


@pytest.mark.parametrize(("side", "times", "dense", "params", "macs"), [
    (32, (1, 2, 2, 2), (35.7463, 6.0655), 19.8512, 3.3928),
    (64, (1, 2, 2, 2, 4), (78.7008, 23.9230), 43.7350, 13.3221),
    (256, (1, 1, 2, 2, 4, 4), (113.6732, 248.6912), 63.2059, 138.8734)])
def test_published_params_and_macs(side, times, dense, params, macs):
    net = published(side, times)
    costs = trace(net, subject(net).example)
    assert round(costs.count()[0] / 1e6, 4) == dense[0]
    assert costs.as_published() / 1e9 == pytest.approx(dense[1], rel=1e-3)
    costs = small(net, "paper", 0.3)
    assert round(costs.count()[0] / 1e6, 4) == params
    assert costs.as_published() / 1e9 == pytest.approx(macs, rel=1e-3)


@pytest.mark.parametrize("ratio", [0.0, 0.05, 0.1, 0.3, 0.31, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(("units", "step"), [(128, 32), (512, 1), (179, 1), (10, 1), (256, 8)])
def test_rules_by_their_formulas(ratio, units, step):
    kept = floor(units * (1 - ratio) + 1e-9)
    assert ROUNDINGS["paper"][1](units * ratio, step) == (units - kept) // step
    assert units - step * ROUNDINGS["newer"][1](units * ratio, step) == step * floor(units // step * (1 - ratio) + 1e-9)
    assert abs(ROUNDINGS["nearest"][1](units * ratio, step) * step - units * ratio) <= step / 2
    assert ROUNDINGS["newer"][1](units * ratio, step) == ceil(units / step * ratio - 1e-9)


def channels(units, quota=1, size=1):
    return Site("a#channels", "channel", units, (Member("a.weight", 0, size),), quota=quota)


def test_the_newer_rule_takes_the_same_places_of_every_norm_group():
    values = torch.tensor([3.0, 1.0, 2.0, 9.0, 1.0, 7.0])  # two groups; by places: 6, 1, 4.5
    assert Bundles.of(channels(6, 2), values, aligned=True).order.tolist() == [[1, 4], [2, 5], [0, 3]]
    assert Bundles.of(channels(6, 2), values).order.tolist() == [[1, 4], [2, 5], [0, 3]]
    values = torch.tensor([3.0, 1.0, 2.0, 0.5, 9.0, 7.0])
    assert Bundles.of(channels(6, 2), values, aligned=True).order[0].tolist() == [0, 3]  # 1.75 on average
    assert Bundles.of(channels(6, 2), values).order[0].tolist() == [1, 3]


def test_a_bundle_of_several_is_as_many_of_each_group():
    values = torch.tensor([4.0, 1.0, 2.0, 3.0, 8.0, 5.0, 6.0, 7.0])
    ranked = Bundles.of(channels(8, 2), values, step=4)
    assert ranked.order.tolist() == [[1, 5, 2, 6], [3, 7, 0, 4]]
    assert ranked.score.tolist() == [3.5, 5.5]
    assert ranked.kept(1) == [0, 3, 4, 7]


@pytest.mark.parametrize(("site", "multiple", "step"), [
    (channels(128, 32), 1, 32), (channels(128, 8), 16, 16), (channels(128, 32), 8, 32), (channels(128, 8), 32, 32),
    (channels(100, 1), 8, 1),  # no multiple itself, so it cannot stay one
    (channels(8, 1, size=40), 16, 2),  # heads of 40 channels
    (channels(8, 1, size=64), 32, 1), (channels(96, 24), 16, 48)])
def test_steps_that_keep_a_width_a_multiple(site, multiple, step):
    assert step_of(site, multiple) == step


@pytest.mark.parametrize("spread", ["layer", "global"])
def test_widths_stay_multiples(pipe, spread):
    plan = pruning.plan(pipe, "magnitude", 0.4, units="channel", spread=spread, multiple=16, protect=())
    small = pruning.apply(pipe, plan)
    widths = {name: m.out_channels for name, m in small.unet.named_modules() if isinstance(m, nn.Conv2d)}
    assert {width % 16 for name, width in widths.items() if name != "conv_out"} == {0}
    dense = {name: m.out_channels for name, m in pipe.unet.named_modules() if isinstance(m, nn.Conv2d)}
    assert widths != dense
    scores = pruning.score(pipe, "magnitude", units="channel")
    counts = preview.counts(scores, plan.recipe)
    free = preview.counts(scores, replace(plan.recipe, multiple=1))
    assert counts != free


def test_snapped_layers_say_so(pipe):
    plan = pruning.plan(pipe, "magnitude", 0.3, units="channel", multiple=16)
    report = pruning.report(pipe, pruning.apply(pipe, plan), plan)
    assert any("multiples of 16: steps of 50.0%" in (layer.reason or "") for layer in report.layers)


@pytest.mark.parametrize(("values", "words"), [
    ({"units": "channel", "multiple": 12}, "multiples of 12"),
    ({"units": "channel", "rounding": "up"}, "no rounding 'up'"),
    ({"rounding": "paper"}, "not for weight units"), ({"multiple": 8}, "not for weight units"),
    ({"units": "channel", "rounding": "paper", "spread": "global"}, "a share of each layer's own units"),
    ({"units": "channel", "rounding": "newer", "of": "macs"}, "a share of each layer's own units"),
    ({"units": "channel", "multiple": True}, "multiples of True")])
def test_roundings_that_cannot_be(pipe, values, words):
    with pytest.raises(Refused, match=words):
        request(pipe, ratio=0.5, **values)


def test_recipes_of_before_there_were_roundings_are_read():
    old = Recipe("emoji-sd", "unet", ratio=0.5).to_dict()
    del old["rounding"], old["multiple"]
    assert Recipe.from_dict(old) == Recipe("emoji-sd", "unet", ratio=0.5)
