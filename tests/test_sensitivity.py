"""How much the answer misses each layer, measured again by hand, and ratios of the same amount that follow from it."""

import copy
from contextlib import closing
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from conftest import pipeline, same, state, unet
from diffusers import UNet2DConditionModel
from torch import nn

import pruning
from pruning import planning, samples, sensitivity
from pruning.call import Call
from pruning.sensitivity import Walked, blocks
from pruning.subject import plan_of, shell, subject
from pruning.types import Calibration, Recipe
from pruning.work import drained

NOISE = Calibration(samples=2, source="noise")
ATTENTION = "mid_block.attentions.0.transformer_blocks.0"
QUERY, KEY = f"{ATTENTION}.attn1.to_q", f"{ATTENTION}.attn1.to_k"


def request(pipe, method="magnitude", ratio=0.5, **changes):
    return planning.request(pipe, method, ratio, **{"spread": "sensitivity", "calibration": NOISE} | changes)


def scored(pipe, recipe):
    return drained(planning.scoring(pipe, recipe))


def measured(pipe, recipe):
    return drained(sensitivity.measuring(subject(pipe), recipe, scored(pipe, recipe))).errors


# What is measured.


def halved(net, name):
    """A copy of a network without the smaller half of one layer's weights."""
    less = copy.deepcopy(net)
    weight = less.get_submodule(name).weight
    with torch.no_grad():
        weight.view(-1)[weight.abs().flatten().argsort(stable=True)[: weight.numel() // 2]] = 0
    return less


def missed(net, less, calls):
    pairs = [(samples.answer(net, call), samples.answer(less, call)) for call in calls]
    return sum(float((a - b).square().sum()) for a, b in pairs) / sum(float(a.square().sum()) for a, _ in pairs)


@pytest.mark.parametrize("ratio", [0.5, 0.3])
def test_two_layers_by_hand(tiny, ratio):
    errors = measured(tiny, request(tiny, only=(QUERY, KEY)))
    calls = samples.calls(subject(tiny), NOISE)
    assert set(errors) == {QUERY, KEY}
    for name, error in errors.items():
        assert error == pytest.approx(missed(tiny.unet, halved(tiny.unet, name), calls), rel=1e-5)
        assert error > 0


def test_few_calls_are_looked_at_evenly_over_the_noise(tiny, monkeypatch):
    calibration = replace(NOISE, samples=10, timesteps=(900, 100, 500, 300, 700))
    monkeypatch.setattr(sensitivity, "LOOKS", 3)
    errors = measured(tiny, request(tiny, only=(QUERY,), calibration=calibration))
    calls = sorted(samples.calls(subject(tiny), calibration), key=lambda call: call.level)
    assert [round(call.level, 1) for call in calls] == [0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.7, 0.7, 0.9, 0.9]
    expected = missed(tiny.unet, halved(tiny.unet, QUERY), [calls[1], calls[5], calls[8]])
    assert errors[QUERY] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [unet, lambda: pipeline().vae.decoder, lambda: pipeline().text_encoder])
def test_a_copy_starts_where_it_differs_and_answers_the_same(make):
    """Whatever block a layer is in, what is said again is what would be computed again, bit for bit."""
    net = make().eval()
    call = Call(inputs_of(net), 0.5, None)
    walked = Walked(net, call)
    assert torch.equal(walked.answer, samples.answer(net, call))
    names = [name for name, module in net.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    skipped = 0
    for name in names[:: max(1, len(names) // 12)]:
        less = shell(net)
        layer = less.get_submodule(name)
        layer.weight = nn.Parameter(layer.weight.detach() * 0.5)
        skipped += len(walked.before([f"{name}.weight"]))
        assert torch.equal(walked.again(less), samples.answer(less, call)), name
        assert not any("forward" in vars(module) for module in less.modules())
    assert skipped or len(blocks(net)) < 3


def inputs_of(net):
    torch.manual_seed(1)
    if isinstance(net, UNet2DConditionModel):
        return {"sample": torch.randn(1, 4, 16, 16), "timestep": torch.tensor([500]),
                "encoder_hidden_states": torch.randn(1, 8, 32)}
    return {"input_ids": torch.tensor([[0, 2, 3, 1]])} if hasattr(net, "get_input_embeddings") else {
        "sample": torch.randn(1, 4, 16, 16)}


def test_a_large_network_is_judged_by_few_calls_on_smaller_latents(monkeypatch):
    net = unet()
    calls = [Call({"sample": torch.full((1, 4, 32, 32), float(i)), "timestep": torch.tensor([i])}, i / 8, None)
             for i in range(8)]
    assert sensitivity.judging(net, calls) == [calls[1], calls[3], calls[5], calls[7]]
    monkeypatch.setattr(sensitivity, "LARGE", 1000)
    few = sensitivity.judging(net, calls)
    assert [call.level for call in few] == [2 / 8, 6 / 8]
    assert [tuple(call.inputs["sample"].shape) for call in few] == [(1, 4, 16, 16)] * 2


def test_a_ratio_that_was_tried_says_what_others_would_be(block):
    """Twice the ratio takes twice of each layer, as far as it has it; nothing is measured again."""
    scores = block["weight"]
    missed = sensitivity.Missed(0.3, made_up(scores))
    some, more = (dict(missed.divided(recipe_of("weight", ratio), scores).overrides) for ratio in (0.1, 0.2))
    free = [name for name in some if more[name] < 0.99]
    assert len(free) > 100
    scale = {round(more[name] / some[name], 6) for name in free}
    assert len(scale) == 1
    assert scale.pop() >= 2  # what full layers cannot give, the others do


def test_apart_by_hand():
    whole = [torch.tensor([3.0, 4.0]), torch.tensor([0.0])]
    assert sensitivity.apart(whole, [torch.tensor([3.0, 3.0]), torch.tensor([2.0])]) == (1 + 4) / 25
    assert sensitivity.apart(whole, whole) == 0
    assert sensitivity.apart([torch.zeros(2)], [torch.zeros(2)]) == 0


@pytest.mark.parametrize("units", ["weight", "width"])
def test_what_a_layer_is_pruned_at_does_not_depend_on_the_rest_of_the_request(tiny, units):
    """Of what the ratio is a share, how it is spread, ratios of single layers and what is adjusted come later."""
    only = (f"{ATTENTION}*",) if units == "width" else (QUERY, KEY)
    plain = request(tiny, only=only, units=units)
    other = replace(plain, of="params", overrides=((KEY, 0.1),), update=units == "weight")
    assert measured(tiny, other) == measured(tiny, plain)


def test_nothing_is_left_to_chance():
    """Dropout rests, and goes on afterwards."""
    net = unet(dropout=0.5)
    recipe = request(net, only=("mid_block.resnets.0.conv1",))
    resting = measured(net, recipe)
    net.train()
    assert measured(net, recipe) == resting
    assert all(module.training for module in net.modules())


# Larger units come in steps, of which the ratio may be less than one.


def test_a_ratio_below_one_unit(tiny):
    """One of four heads is removed in place of a tenth, and counts (0.1 / 0.25)^3 of what the answer then misses."""
    few = {"units": "head", "only": (f"{ATTENTION}.attn1",)}
    quarter, tenth = (measured(tiny, request(tiny, ratio=ratio, **few)) for ratio in (0.25, 0.1))
    assert tenth == {name: pytest.approx(error * 0.4**3) for name, error in quarter.items()}
    assert measured(tiny, request(tiny, ratio=0.0, **few)) == {f"{ATTENTION}.attn1#heads": 0}


def test_layers_that_can_give_nothing_are_not_missed(tiny):
    """Of four heads, none may go when at most a fifth goes of any layer; neurons can."""
    recipe = request(tiny, ratio=0.15, units="width", only=(f"{ATTENTION}*",), most=0.2)
    errors = measured(tiny, recipe)
    assert errors[f"{ATTENTION}.attn1#heads"] == errors[f"{ATTENTION}.attn2#heads"] == 0
    assert errors[f"{ATTENTION}.ff#neurons"] > 0
    ratios = sensitivity.suggested(recipe, scored(tiny, recipe), errors)
    assert ratios[f"{ATTENTION}.attn1"] == ratios[f"{ATTENTION}.attn2"] == 0


@pytest.mark.parametrize("how", [{"ratio": 0.1}, {"ratio": 0.02, "of": "params"}, {"ratio": 0.12, "most": 0.2}])
def test_width_is_divided(tiny, how):
    few = {"units": "width", "only": (f"{ATTENTION}*", "mid_block.resnets.0")}
    plan = pruning.plan(tiny, spread="sensitivity", calibration=NOISE, **few, **how)
    report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
    scores = pruning.score(tiny, "magnitude", units="width")
    sites = [site for site in scores.catalog if site.module in dict(plan.recipe.overrides)]
    worth = {site.name: scores.catalog.worth(site, plan.recipe.of) for site in sites}
    found = sum(layer.gone * worth.get(layer.name, 0) for layer in report.layers)
    whole = sum(site.units for site in sites) if plan.recipe.of == "units" else report.params["dense"]
    assert abs(found - how["ratio"] * whole) <= sum(worth[site.name] * site.quota for site in sites)
    assert found > 0


# Ratios that follow.


@pytest.fixture(scope="module")
def block(tiny):
    """Scores of the middle block: weights, and larger units."""
    return {units: pruning.score(tiny, "magnitude", units=units) for units in ("weight", "width")}


def recipe_of(units, ratio, of="units", **changes):
    return replace(Recipe(component="unet", units=units, ratio=ratio, of=of, spread="sensitivity", calibration=NOISE),
                   **changes)


def made_up(scores):
    """An error for each layer, over three orders of magnitude."""
    draw = torch.Generator().manual_seed(0)
    return {name: float(10 ** (-3 * torch.rand((), generator=draw))) for name in scores.catalog.sites}


def amounts(recipe, scores, ratios):
    """What each layer gives, in what ``of`` counts."""
    return {site.module: ratios[site.module] * site.units * scores.catalog.worth(site, recipe.of)
            for site in scores.catalog if site.module in ratios}


def total(recipe, scores, ratios):
    if recipe.of == "units":
        return sum(site.units for site in scores.catalog if site.module in ratios)
    return scores.catalog.costs.count()[recipe.of == "macs"]


@pytest.mark.parametrize("of", ["units", "params", "macs"])
@pytest.mark.parametrize("units", ["weight", "width"])
def test_the_amount_is_the_one_asked_for(block, units, of):
    scores, recipe = block[units], recipe_of(units, 0.2, of)
    ratios = sensitivity.suggested(recipe, scores, made_up(scores))
    assert sum(amounts(recipe, scores, ratios).values()) == pytest.approx(0.2 * total(recipe, scores, ratios))
    assert all(0 < ratio < 1 for ratio in ratios.values())
    protected = {site.module for site in scores.catalog if site.module.startswith(("conv_in", "conv_out"))}
    assert not protected & set(ratios)
    assert len(set(ratios.values())) > len(ratios) / 2


@pytest.mark.parametrize("of", ["units", "params", "macs"])
@pytest.mark.parametrize("units", ["weight", "width"])
def test_no_other_division_of_that_amount_costs_less(block, units, of):
    """By the sum of errors, each growing with the cube of its layer's ratio: what one gives for another costs more."""
    scores, recipe = block[units], recipe_of(units, 0.15, of, most=0.6)
    errors = made_up(scores)
    ratios = sensitivity.suggested(recipe, scores, errors)
    given, by_module = amounts(recipe, scores, ratios), {site.module: errors[site.name] for site in scores.catalog}
    whole = {name: given[name] / ratio for name, ratio in ratios.items()}
    free = [name for name in ratios if ratios[name] < 0.4][:12]
    assert len(free) > 4

    def cost(name, amount):
        return by_module[name] * (amount / whole[name]) ** 3

    for one, other in permutations(free, 2):
        moved = 0.01 * min(given[one], given[other])
        before = cost(one, given[one]) + cost(other, given[other])
        assert cost(one, given[one] - moved) + cost(other, given[other] + moved) > before


def test_by_hand(block):
    """Four layers of equal size, of which the answer misses one four times as much as another: half its ratio."""
    names = [f"{ATTENTION}.{part}" for part in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q")]
    errors = dict(zip(names, (1.0, 4.0, 4.0, 16.0), strict=True))
    ratios = sensitivity.suggested(recipe_of("weight", 0.225, only=tuple(names)), block["weight"], errors)
    assert ratios == {name: pytest.approx(ratio) for name, ratio in zip(names, (0.4, 0.2, 0.2, 0.1), strict=True)}


def test_a_layer_that_is_missed_more_gives_less(block):
    scores, recipe = block["weight"], recipe_of("weight", 0.3)
    errors = made_up(scores)
    before = sensitivity.suggested(recipe, scores, errors)
    after = sensitivity.suggested(recipe, scores, errors | {QUERY: errors[QUERY] * 2})
    assert after[QUERY] < before[QUERY]
    rest = [name for name in before if name != QUERY and before[name] < 0.999]  # the others are full
    assert len(rest) > 100
    assert all(after[name] > before[name] for name in rest)


@pytest.mark.parametrize("units", ["weight", "width"])
def test_no_layer_gives_more_than_it_may(block, units):
    scores, recipe = block[units], recipe_of(units, 0.5, most=0.6)
    ratios = sensitivity.suggested(recipe, scores, made_up(scores))
    assert sum(amounts(recipe, scores, ratios).values()) == pytest.approx(0.5 * total(recipe, scores, ratios))
    assert max(ratios.values()) <= 0.6
    assert sum(ratio > 0.5 for ratio in ratios.values()) > 3  # many are full
    with pytest.raises(pruning.Refused, match="cannot go"):
        sensitivity.suggested(replace(recipe, ratio=0.7), scores, made_up(scores))


def test_layers_with_a_ratio_of_their_own_keep_it(block):
    scores = block["weight"]
    recipe = recipe_of("weight", 0.3, overrides=(("mid_block.attentions.0*", 0.7), (KEY, 0.0)))
    ratios = sensitivity.suggested(recipe, scores, made_up(scores))
    assert not [name for name in ratios if name.startswith("mid_block.attentions.0")]
    assert sum(amounts(recipe, scores, ratios).values()) == pytest.approx(0.3 * total(recipe, scores, ratios))


@pytest.mark.parametrize("errors", [dict.fromkeys((QUERY, KEY), 0.0), {QUERY: 0.0, KEY: 1.0}])
def test_layers_that_are_not_missed_at_all(block, errors):
    """All alike, or, of two, the one that is not missed as far as it goes."""
    ratios = sensitivity.suggested(recipe_of("weight", 0.3, only=(QUERY, KEY)), block["weight"], errors)
    assert ratios[QUERY] + ratios[KEY] == pytest.approx(0.6)
    assert ratios[KEY] == pytest.approx(0.3 if errors[KEY] == 0 else 0.6 / 1001)


# The plan.


@pytest.mark.parametrize("how", [{"ratio": 0.4}, {"ratio": 0.002, "of": "params"}, {"ratio": 1e-4, "of": "macs"},
                                 {"ratio": 0.4, "method": "wanda", "overrides": {KEY: 0.1}, "most": 0.5}])
def test_the_plan_has_a_ratio_for_each_layer(tiny, how):
    few = (f"{ATTENTION}.attn1*",)
    plan = pruning.plan(tiny, spread="sensitivity", only=few, calibration=NOISE, **how)
    own, recipe = dict(plan.recipe.overrides), plan.recipe
    report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
    layers = {layer.name: layer for layer in report.layers if layer.name in own}
    assert (recipe.spread, recipe.ratio, recipe.of) == ("layer", how["ratio"], how.get("of", "units"))
    assert set(own) == {f"{ATTENTION}.attn1.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")}
    assert {name: layer.requested for name, layer in layers.items()} == own
    for layer in layers.values():
        assert abs(layer.gone - own[layer.name] * layer.units) <= 1
        assert layer.share <= recipe.most
    scores = pruning.score(tiny, "magnitude")
    fixed = how.get("overrides", {})
    free = [site for site in scores.catalog if site.name in layers and site.name not in fixed]
    whole = sum(site.units for site in free) if recipe.of == "units" else scores.catalog.costs.count()[
        recipe.of == "macs"]
    worth = {site.name: scores.catalog.worth(site, recipe.of) for site in free}
    found = sum(layers[name].gone * each for name, each in worth.items())
    assert abs(found - how["ratio"] * whole) <= sum(worth.values())
    assert {name: own[name] for name in fixed} == fixed
    assert len(set(own.values())) == 4


def test_the_plan_is_like_any_other(tiny, tmp_path):
    """Its ratios are written down, so that nothing is measured again."""
    plan = pruning.plan(tiny, ratio=0.5, spread="sensitivity", only=(QUERY, KEY), calibration=NOISE)
    by_hand = pruning.plan(tiny, ratio=0.5, overrides=dict(plan.recipe.overrides), only=(QUERY, KEY))
    assert plan.steps[0].decision == by_hand.steps[0].decision
    assert pruning.Plan.from_json(plan.to_json()) == plan
    pruned = pruning.apply(tiny, plan)
    again = pruning.load(pruning.save(pruned, tmp_path / "out"))
    assert plan_of(again) == plan
    assert same(state(again), state(pruned))
    assert same(state(pruned), state(pruning.apply(tiny, by_hand)))


def test_equal_requests_make_equal_plans(tiny):
    one, two = (pruning.plan(tiny, "wanda", 0.5, spread="sensitivity", only=(QUERY, KEY), calibration=NOISE)
                for _ in range(2))
    assert one == two
    assert same(one.tensors, two.tensors)


@pytest.mark.parametrize("how", [{"pattern": "2:4"}, {"ratio": 1.0}])
def test_requests_that_are_refused(tiny, how):
    with pytest.raises(pruning.Refused):
        pruning.plan(tiny, spread="sensitivity", calibration=NOISE, **how)


# The network.


@pytest.mark.parametrize("units", ["weight", "width"])
def test_the_network_stays_as_it_was(tiny, units):
    before, versions = state(tiny), [tensor._version for tensor in tiny.unet.parameters()]
    measured(tiny, request(tiny, units=units, only=(f"{ATTENTION}.attn1*",)))
    assert same(before, state(tiny))
    assert versions == [tensor._version for tensor in tiny.unet.parameters()]
    assert plan_of(tiny) is None


@pytest.mark.parametrize("events", [1, 2])
def test_work_that_is_abandoned_leaves_nothing(tiny, events):
    before, recipe = state(tiny), request(tiny, only=(f"{ATTENTION}.attn1*",))
    with closing(planning.resolving(tiny, recipe, scored(tiny, recipe))) as work:
        told = [next(work) for _ in range(events)]
    assert [(event.done, event.of, event.what) for event in told] == [
        (i + 1, 4, "pruning one layer at a time (2 samples)") for i in range(events)]
    assert same(before, state(tiny))
    assert not [module for module in tiny.unet.modules() if module._forward_hooks or module._forward_pre_hooks]
