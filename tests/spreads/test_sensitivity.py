"""How much the output changes with each layer, measured again by hand, and ratios of the same amount that follow."""

import copy
import re
from contextlib import closing
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from conftest import pipeline, same, state, unet
from diffusers import UNet2DConditionModel
from torch import nn

import pruning
from pruning.calibration import samples
from pruning.calibration.call import Call
from pruning.network.notes import plan_of
from pruning.network.subject import shell, subject
from pruning.planning import resolve
from pruning.planning.request import request as asked
from pruning.progress import drained
from pruning.spreads import sensitivity
from pruning.spreads.granularity import Room, step_of
from pruning.spreads.sensitivity import Walked, blocks
from pruning.types import Calibration, Recipe
from pruning.units.site import Member, Site

NOISE = Calibration(samples=2, source="noise")
ATTENTION = "mid_block.attentions.0.transformer_blocks.0"
QUERY, KEY = f"{ATTENTION}.attn1.to_q", f"{ATTENTION}.attn1.to_k"


def request(pipe, method="magnitude", ratio=0.5, **changes):
    return asked(pipe, method, ratio, **{"spread": "sensitivity", "calibration": NOISE} | changes)


def scored(pipe, recipe):
    return drained(resolve.scoring(pipe, recipe))


def measured(pipe, recipe):
    return drained(sensitivity.measuring(subject(pipe), recipe, scored(pipe, recipe))).errors


# What is measured.


def less_of(net, name, share):
    """A copy of a network without the smallest of one layer's weights."""
    less = copy.deepcopy(net)
    weight = less.get_submodule(name).weight
    with torch.no_grad():
        weight.view(-1)[weight.abs().flatten().argsort(stable=True)[: int(weight.numel() * share)]] = 0
    return less


def missed(net, less, calls):
    pairs = [(samples.answer(net, call), samples.answer(less, call)) for call in calls]
    return sum(float((a - b).square().sum()) for a, b in pairs) / sum(float(a.square().sum()) for a, _ in pairs)


def test_two_layers_by_hand(tiny):
    errors = measured(tiny, request(tiny, only=(QUERY, KEY)))
    calls = samples.calls(subject(tiny), NOISE)
    assert set(errors) == {QUERY, KEY}
    for name, trials in errors.items():
        assert [share for share, _ in trials] == [0.25, 0.5]
        for share, error in trials:
            assert error == pytest.approx(missed(tiny.unet, less_of(tiny.unet, name, share), calls), rel=1e-5)
        assert 0 < trials[0][1] < trials[1][1]


def test_few_calls_are_looked_at_evenly_over_the_noise(tiny, monkeypatch):
    calibration = replace(NOISE, samples=10, timesteps=(900, 100, 500, 300, 700))
    monkeypatch.setattr(sensitivity, "LOOKS", 3)
    errors = measured(tiny, request(tiny, only=(QUERY,), calibration=calibration))
    calls = sorted(samples.calls(subject(tiny), calibration), key=lambda call: call.level)
    assert [round(call.level, 1) for call in calls] == [0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.7, 0.7, 0.9, 0.9]
    expected = missed(tiny.unet, less_of(tiny.unet, QUERY, 0.5), [calls[1], calls[5], calls[8]])
    assert errors[QUERY][-1] == (0.5, pytest.approx(expected, rel=1e-5))


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


def test_what_was_tried_says_what_every_ratio_would_be(block):
    """Twice the ratio takes more of each layer, of steep ones the least more; nothing is measured again."""
    scores = block["weight"]
    rises = {name: sensitivity.Rise(rise.size, 2.0 if i % 2 else 4.0)
             for i, (name, rise) in enumerate(made_up(scores).items())}
    some, more = (sensitivity.suggested(recipe_of("weight", ratio), scores, rises) for ratio in (0.05, 0.1))
    free = [name for name in some if more[name] < 0.99]
    assert len(free) > 100
    gains = {exponent: {round(more[name] / some[name], 5) for name in free if rises[name].exponent == exponent}
             for exponent in (2.0, 4.0)}
    (flat,), (steep,) = gains[2.0], gains[4.0]
    assert steep**3 == pytest.approx(flat, rel=1e-3)  # both rise as much for a little more
    assert flat > steep > 1


def test_apart_by_hand():
    whole = [torch.tensor([3.0, 4.0]), torch.tensor([0.0])]
    assert sensitivity.apart(whole, [torch.tensor([3.0, 3.0]), torch.tensor([2.0])]) == (1 + 4) / 25
    assert sensitivity.apart(whole, whole) == 0
    assert sensitivity.apart([torch.zeros(2)], [torch.zeros(2)]) == 0


@pytest.mark.parametrize("units", ["weight", "width"])
def test_what_is_tried_does_not_depend_on_the_rest_of_the_request(tiny, units):
    """The ratio, of what it is a share, its spread, ratios of single layers and what is adjusted come later."""
    only = (f"{ATTENTION}*",) if units == "width" else (QUERY, KEY)
    plain = request(tiny, only=only, units=units)
    other = replace(plain, ratio=0.07, of="params", overrides=((KEY, 0.1),), update=units == "weight", most=0.2)
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


@pytest.mark.parametrize(("units", "step", "shares"), [
    (4, 1, [0.25, 0.5]), (3, 1, [1 / 3, 2 / 3]), (2, 1, [0.5]), (1, 1, []), (5, 1, [0.2, 0.6]), (8, 8, []),
    (16, 8, [0.5]), (32, 8, [0.25, 0.5]), (24, 8, [1 / 3, 2 / 3]), (1000, 1, [0.25, 0.5])])
def test_what_is_tried_is_in_whole_steps_and_never_all(units, step, shares):
    site = Site("a", "channel", units, (Member("a.weight", 0),), quota=step)
    assert sensitivity.tried(Room(site, step, units // step - 1, 1)) == pytest.approx(shares)


def test_one_step_of_two(tiny):
    """Of two heads one is tried, and its error rises like that of the other layers."""
    errors = measured(unet(attention_head_dim=2), request(unet(attention_head_dim=2), units="width",
                                                          only=(f"{ATTENTION}*",)))
    assert [share for share, _ in errors[f"{ATTENTION}.attn1#heads"]] == [0.5]
    rises = sensitivity.Sensitivity(errors).rises()
    assert len(errors[f"{ATTENTION}.ff#neurons"]) == 2
    assert rises[f"{ATTENTION}.attn1#heads"].exponent == rises[f"{ATTENTION}.ff#neurons"].exponent


def test_layers_that_may_give_nothing_do_not(tiny):
    """Of four heads, none may go when at most a fifth goes of any layer; neurons can."""
    recipe = request(tiny, ratio=0.15, units="width", only=(f"{ATTENTION}*",), most=0.2)
    scores = scored(tiny, recipe)
    rises = drained(sensitivity.measuring(subject(tiny), recipe, scores)).rises()
    ratios = sensitivity.suggested(recipe, scores, rises)
    assert ratios[f"{ATTENTION}.attn1"] == ratios[f"{ATTENTION}.attn2"] == 0
    assert ratios[f"{ATTENTION}.ff"] > 0.15


# Errors that rise with the share that goes.


@pytest.mark.parametrize(("errors", "exponent"), [((1, 8), 3), ((1, 4), 2), ((1, 3), 1.58496), ((1, 1), 1.5),
                                                  ((2, 1), 1.5), ((1, 1e6), 6)])
def test_the_exponent_goes_through_both_trials_within_bounds(errors, exponent):
    trials = [(0.25, errors[0] * 1e-3), (0.5, errors[1] * 1e-3)]
    rise = sensitivity.Sensitivity({"a": trials}).rises()["a"]
    assert rise.exponent == pytest.approx(exponent, rel=1e-5)
    assert rise.size * 0.5**rise.exponent == pytest.approx(errors[1] * 1e-3)  # the larger share is always met


def test_rises_of_layers_with_one_trial_or_none_or_no_error():
    """One trial: the median of the others' exponents; no error: as small as can be told from rounding."""
    errors = {"a": [(0.25, 1.0), (0.5, 4.0)], "b": [(0.25, 0.25), (0.5, 2.0)], "c": [(0.25, 1.0), (0.5, 16.0)],
              "two": [(0.5, 1.0)], "one": [], "idle": [(0.25, 0.0), (0.5, 0.0)]}
    rises = sensitivity.Sensitivity(errors).rises()
    assert {name: rise.exponent for name, rise in rises.items()} == {
        "a": 2, "b": 3, "c": 4, "two": 3, "idle": 3}
    assert rises["two"].size == 8
    assert rises["idle"].size == pytest.approx(16e-6 * 8)
    alone = sensitivity.Sensitivity({"two": [(0.5, 1.0)]}).rises()["two"]
    assert (alone.exponent, alone.size) == (3, 8)
    assert sensitivity.Sensitivity({"idle": [(0.5, 0.0)]}).rises()["idle"].size > 0


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
    """A rise for each layer: errors over three orders of magnitude, exponents of 1.5 to 4."""
    draw = torch.Generator().manual_seed(0)
    sizes, exponents = torch.rand(2, len(scores.catalog.sites), generator=draw).tolist()
    return {name: sensitivity.Rise(10 ** (-3 * size), 1.5 + 2.5 * exponent)
            for name, size, exponent in zip(scores.catalog.sites, sizes, exponents, strict=True)}


def cubes(errors):
    return {name: sensitivity.Rise(error, 3.0) for name, error in errors.items()}


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
    """By the sum of errors: what one layer gives for another costs more."""
    scores, recipe = block[units], recipe_of(units, 0.15, of, most=0.6)
    rises = made_up(scores)
    ratios = sensitivity.suggested(recipe, scores, rises)
    given, by_module = amounts(recipe, scores, ratios), {site.module: rises[site.name] for site in scores.catalog}
    whole = {name: given[name] / ratio for name, ratio in ratios.items()}
    free = [name for name in ratios if 1e-3 < ratios[name] < 0.4][:12]
    assert len(free) > 4

    def cost(name, amount):
        return by_module[name].size * (amount / whole[name]) ** by_module[name].exponent

    for one, other in permutations(free, 2):
        moved = 0.01 * min(given[one], given[other])
        before = cost(one, given[one]) + cost(other, given[other])
        assert cost(one, given[one] - moved) + cost(other, given[other] + moved) > before


def test_by_hand(block):
    """Four layers of equal size and cubic errors, of which one is four times another: half its ratio."""
    names = [f"{ATTENTION}.{part}" for part in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q")]
    errors = dict(zip(names, (1.0, 4.0, 4.0, 16.0), strict=True))
    ratios = sensitivity.suggested(recipe_of("weight", 0.225, only=tuple(names)), block["weight"], cubes(errors))
    assert ratios == {name: pytest.approx(ratio) for name, ratio in zip(names, (0.4, 0.2, 0.2, 0.1), strict=True)}


def test_a_layer_that_is_missed_more_gives_less(block):
    scores, recipe = block["weight"], recipe_of("weight", 0.3)
    rises = made_up(scores)
    twice = replace(rises[QUERY], size=rises[QUERY].size * 2)
    before = sensitivity.suggested(recipe, scores, rises)
    after = sensitivity.suggested(recipe, scores, rises | {QUERY: twice})
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
def test_layers_without_an_error(block, errors):
    """All alike, or, of two, the one without as far as it goes."""
    rises = sensitivity.Sensitivity({name: [(0.25, error / 8), (0.5, error)] for name, error in errors.items()}).rises()
    ratios = sensitivity.suggested(recipe_of("weight", 0.3, only=(QUERY, KEY)), block["weight"], rises)
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


TRIED: dict = {}


@pytest.fixture
def tried_once(monkeypatch):
    """Layers are tried once for all requests that have the same trials, as the page does."""
    real = sensitivity.measuring

    def measuring(looked_at, recipe, scores):
        key = sensitivity.BySensitivity().looks(recipe)
        if key not in TRIED:
            TRIED[key] = yield from real(looked_at, recipe, scores)
        return TRIED[key]

    monkeypatch.setattr(sensitivity, "measuring", measuring)


@pytest.mark.parametrize("of", ["params", "macs"])
@pytest.mark.parametrize("changes", [{"ratio": 0.3}, {"ratio": 0.6, "most": 0.8}, {"ratio": 0.15, "multiple": 8},
                                     {"ratio": 0.3, "overrides": {"conv_in": 0.25}}])
def test_channels_that_cross_reach_what_is_asked(tiny, tried_once, of, changes):
    """What a channel saves depends on what else goes, so the count decides; the plan says the same when read again."""
    how = {"units": "channel", "of": of, "protect": ("conv_out",)} | changes
    plan = pruning.plan(tiny, spread="sensitivity", calibration=NOISE, **how)
    report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
    counts = {"params": report.params, "macs": report.macs}[of]
    scores = pruning.score(tiny, "magnitude", units="channel")
    step = max(scores.catalog.worth(site, of) * step_of(site, how.get("multiple", 1)) for site in scores.catalog)
    assert abs(counts["dense"] - counts["pruned"] - how["ratio"] * counts["dense"]) <= step
    assert len({ratio for _, ratio in plan.recipe.overrides}) > 2
    again = pruning.plan(tiny, **how | {"overrides": dict(plan.recipe.overrides)})
    assert again.steps[0].decision == plan.steps[0].decision


def test_channels_that_cross_and_cannot_give_so_much(tiny, tried_once):
    how = {"units": "channel", "of": "macs", "protect": ("conv_out",), "spread": "sensitivity", "calibration": NOISE}
    with pytest.raises(pruning.Refused, match="cannot go: the layers that may be pruned have at most"):
        pruning.plan(tiny, ratio=0.9, most=0.3, **how)
    with pytest.raises(pruning.Refused, match="less than the smallest step"):
        pruning.plan(tiny, ratio=1e-6, **how)
    assert pruning.plan(tiny, ratio=0.0, **how).steps[0].decision.sites == {}


@pytest.mark.parametrize("of", ["params", "macs"])
def test_own_ratios_of_all_crossing_channels_have_to_come_to_the_request(tiny, of):
    scores = pruning.score(tiny, "magnitude", units="channel")
    own = {site.module: 0.5 for site in scores.catalog}
    with pytest.raises(pruning.Refused, match="Every layer has a ratio of its own: together they take") as refusal:
        pruning.plan(tiny, ratio=0.2, units="channel", of=of, overrides=own, protect=(), scores=scores)
    taken = float(re.search(r"take ([\d.]+)%", refusal.value.message)[1]) / 100
    plan = pruning.plan(tiny, ratio=taken, units="channel", of=of, overrides=own, protect=(), scores=scores)
    report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
    counts = {"params": report.params, "macs": report.macs}[of]
    assert 1 - counts["pruned"] / counts["dense"] == pytest.approx(taken, abs=6e-4)


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
    with closing(resolve.resolving(tiny, recipe, scored(tiny, recipe))) as work:
        told = [next(work) for _ in range(events)]
    assert [(event.done, event.of, event.what) for event in told] == [
        (i + 1, 8, "pruning one layer at a time (2 samples)") for i in range(events)]  # two shares of four layers
    assert same(before, state(tiny))
    assert not [module for module in tiny.unet.modules() if module._forward_hooks or module._forward_pre_hooks]
