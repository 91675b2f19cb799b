"""How a ratio becomes a decision: exact against a plain sort, nested, and refused where it cannot be."""

import re
from collections import OrderedDict
from math import floor, inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import pruning
from pruning.decisions.kind import gone
from pruning.decisions.pattern import kept_pattern, parse_pattern
from pruning.planning.request import request
from pruning.scores.sketch import Sketch, keys
from pruning.spreads.amount import Share, share
from pruning.spreads.bundles import Bundles, bundles_gone
from pruning.spreads.granularity import Room
from pruning.spreads.isomorphic import kind_of
from pruning.spreads.protect import free_sites, left_alone, protected, ratio_of
from pruning.units.catalog import find
from pruning.units.site import Member, Site, indices, ranges

SMALL = st.lists(st.integers(-3, 3), min_size=28, max_size=28)  # few values, so that most of them are ties
RATIOS = st.floats(0, 0.999)
SPREADS = ("layer", "global")
MOST = 26 / 28  # what can go of both layers, each keeping one weight


def toy(values=range(1, 29)):
    """A linear layer of 12 weights and a convolution of 16 without biases, and a name in two parts."""
    values = torch.tensor(list(values), dtype=torch.float32)
    net = nn.Sequential(OrderedDict(block=nn.Sequential(OrderedDict(
        first=nn.Linear(4, 3, bias=False), last=nn.Conv2d(4, 2, (1, 2), bias=False)))))
    net.block.first.weight = nn.Parameter(values[:12].reshape(3, 4))
    net.block.last.weight = nn.Parameter(values[12:].reshape(2, 4, 1, 2))
    return net


def layers(net):
    """Each weight in the order in which ties go: along rows of input channels."""
    return [net.block.first.weight.detach().flatten(), net.block.last.weight.detach().permute(0, 2, 3, 1).flatten()]


def plainly(parts, ratio, spread):
    """The parts without the lowest weights, found by sorting (size, place) with Python. Each part keeps one."""
    if spread == "layer":
        return [part for one in parts for part in plainly([one], ratio, "global")]
    together = torch.cat(parts).tolist()
    owner = [i for i, part in enumerate(parts) for _ in part]
    left, wanted = [len(part) for part in parts], floor(len(together) * ratio + 0.5)
    for _, place in sorted((abs(value), place) for place, value in enumerate(together)):
        if wanted and left[owner[place]] > 1:
            together[place] = 0.0
            left[owner[place]] -= 1
            wanted -= 1
    return list(torch.tensor(together).split([len(part) for part in parts]))


def kept_units(plan, net):
    """Site -> the units that stay."""
    return {site.name: set(indices(plan.steps[-1].decision.sites.get(site.name, [[0, site.units]])))
            for site in find(net, plan.recipe.units)}


@pytest.mark.parametrize("spread", SPREADS)
@given(values=SMALL, ratio=RATIOS)
def test_weights_go_as_in_a_plain_sort(spread, values, ratio):
    net = toy(values)
    ratio = ratio if spread == "layer" else min(ratio, MOST)
    pruned = pruning.apply(net, pruning.plan(net, ratio=ratio, spread=spread))
    for found, expected in zip(layers(pruned), plainly(layers(net), ratio, spread), strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("ratio", [0.03, 0.5, 0.971])
def test_a_real_network_goes_as_in_a_plain_sort(tiny, ratio):
    sites = list(pruning.score(tiny, "magnitude").catalog)
    pruned = pruning.apply(tiny, pruning.plan(tiny, ratio=ratio, spread="global", protect=()))
    before, after = ([site.rows(pipe.unet.get_parameter(site.tensor).detach()).flatten() for site in sites]
                     for pipe in (tiny, pruned))
    for found, expected in zip(after, plainly(before, ratio, "global"), strict=True):
        assert torch.equal(found, expected)


def test_global_ranks_layers_together_and_layer_does_not():
    net = toy([1] * 12 + [2] * 16)
    together = pruning.apply(net, pruning.plan(net, ratio=11 / 28, spread="global"))
    assert [int(part.count_nonzero()) for part in layers(together)] == [1, 16]
    apart = pruning.apply(net, pruning.plan(net, ratio=0.25))
    assert [int(part.count_nonzero()) for part in layers(apart)] == [9, 12]


def test_of_equal_weights_the_earliest_goes():
    net = toy([1, -1, 1, -1, 2, 2, 2, 2, 3, 3, 3, 3] + [5] * 16)
    pruned = pruning.apply(net, pruning.plan(net, ratio=3 / 28, spread="global"))
    assert pruned.block.first.weight.tolist() == [[0, 0, 0, -1], [2, 2, 2, 2], [3, 3, 3, 3]]


def test_a_layer_is_never_emptied():
    net = toy([1] * 12 + [5] * 16)
    apart = pruning.apply(net, pruning.plan(net, ratio=0.999))
    assert [int(part.count_nonzero()) for part in layers(apart)] == [1, 1]
    together = pruning.apply(net, pruning.plan(net, ratio=0.5, spread="global"))
    assert [int(part.count_nonzero()) for part in layers(together)] == [1, 13]
    with pytest.raises(pruning.Refused, match=r"99\.0% of the units cannot go.*at most 92\.8%"):
        pruning.plan(net, ratio=0.99, spread="global")


def test_no_layer_loses_more_than_it_may():
    net = toy([1] * 12 + [5] * 16)
    plan = pruning.plan(net, ratio=0.5, spread="global", most=0.75)
    assert [int(part.count_nonzero()) for part in layers(pruning.apply(net, plan))] == [3, 11]
    rows = pruning.report(net, pruning.apply(net, plan), plan).layers
    assert [row.gone for row in rows] == [9, 5]
    plan = pruning.plan(net, ratio=0.5, most=0.75, overrides={"*first": 0.8})
    assert [row.reason for row in pruning.report(net, pruning.apply(net, plan), plan).layers] == [
        "loses at most 75%", None]
    for wrong in (0, -1, 1.5, True, nan, "half"):
        with pytest.raises(pruning.Refused, match="most cannot be"):
            pruning.plan(net, ratio=0.5, most=wrong)


@pytest.mark.parametrize(("how", "named"), [
    ({"spread": "layer"}, "40.0"), ({"spread": "row"}, "40.0"), ({"spread": "isomorphic"}, "40.0"),
    ({"spread": "global"}, "35.7"), ({"of": "params"}, "35.7"), ({"of": "params", "spread": "global"}, "35.7"),
    ({"overrides": {"*first": 0.4}}, "40.0"), ({"overrides": {"*first": 0.4}, "of": "params"}, "35.7")])
def test_more_than_any_layer_may_lose_is_refused(how, named):
    with pytest.raises(pruning.Refused, match=rf"50\.0% of the \w+ cannot go.*at most {named}%") as refusal:
        pruning.plan(toy(), ratio=0.5, most=0.4, **how)  # 4 of 12 and 6 of 16, 10 of 28
    assert "most" in refusal.value.remedy
    assert pruning.plan(toy(), ratio=float(named) / 100, most=0.4, **how).steps


@pytest.mark.parametrize("how", [{"units": "head"}, {"units": "width", "spread": "isomorphic"},
                                 {"units": "width", "of": "macs"}, {"units": "neuron", "of": "params"}])
def test_more_than_any_layer_may_lose_is_refused_for_larger_units(tiny, how):
    with pytest.raises(pruning.Refused, match=r"90\.0% of the \w+ cannot go"):
        pruning.plan(tiny, ratio=0.9, most=0.5, **how)


def test_a_largest_share_is_no_matter_where_each_layer_has_its_own():
    assert gone_of_each(toy(), ratio=0.9, most=0.5, overrides={"*": 0.25}) == [3, 4]


def gone_of_each(net, **how):
    return [int((part == 0).sum()) for part in layers(pruning.apply(net, pruning.plan(net, **how)))]


def test_every_row_loses_its_lowest():
    net = toy([1, 2, 3, 4, 8, 7, 6, 5, 2, 2, 2, 2, *[1] * 16])
    pruned = pruning.apply(net, pruning.plan(net, ratio=0.5, spread="row"))
    assert pruned.block.first.weight.tolist() == [[0, 0, 3, 4], [8, 7, 0, 0], [2, 2, 0, 0]]  # of equals the first stay
    assert pruned.block.last.weight.permute(0, 2, 3, 1).reshape(4, 4).tolist() == [[1, 1, 0, 0]] * 4
    with pytest.raises(pruning.Refused, match="Rows are of single weights"):
        pruning.plan(net, ratio=0.5, spread="row", units="head")


@given(st.lists(st.integers(0, 5), min_size=80, max_size=80), st.integers(1, 79))
def test_wide_groups_are_cut_like_narrow_ones(values, n):
    scores = torch.tensor(values, dtype=torch.float32)[None]
    keep = kept_pattern(scores, f"{n}:80")[0]
    order = scores[0].argsort(descending=True, stable=True)
    assert sorted(order[:n].tolist()) == keep.nonzero().flatten().tolist()


def test_isomorphic_ranks_layers_of_one_kind():
    net = nn.ModuleDict({str(i): nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
                         for i in range(2)})
    for i, (a, b) in enumerate([(1.0, 100.0), (10.0, 1000.0)]):
        for name, size in (("a", a), ("b", b)):
            net[str(i)][name].weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]) * size)
    pruned = pruning.apply(net, pruning.plan(net, ratio=0.375, spread="isomorphic"))
    assert {name: int((weight == 0).sum()) for name, weight in pruned.named_parameters()} == {
        "0.a.weight": 3, "0.b.weight": 3, "1.a.weight": 0, "1.b.weight": 0}
    together = pruning.apply(net, pruning.plan(net, ratio=0.375, spread="global"))
    assert {name: int((weight == 0).sum()) for name, weight in together.named_parameters()} == {
        "0.a.weight": 3, "0.b.weight": 0, "1.a.weight": 3, "1.b.weight": 0}


@pytest.mark.parametrize(("name", "kind"), [
    ("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "attn1.to_q"),
    ("up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0", "attn1.to_out"),
    ("mid_block.resnets.0.conv1", "resnets.conv1"), ("up_blocks.0.attentions.0.transformer_blocks.0.attn2#heads",
                                                      "attn2.#heads"), ("conv_in", "conv_in"),
    ("transformer_blocks.3.ff.net.0.proj", "ff.proj"), ("transformer_blocks.3.ff.net.2", "transformer_blocks.ff"),
    ("transformer_blocks.3.ff_context.net.0.proj", "ff_context.proj"),
    ("transformer_blocks.3.ff_context.net.2", "transformer_blocks.ff_context"), ("ff.net#neurons", "ff.#neurons")])
def test_kinds_of_layers(name, kind):
    assert kind_of(Site(name, "weight", 4, (Member("x", 0),))) == kind


@pytest.mark.parametrize("of", ["params", "macs"])
@pytest.mark.parametrize("spread", ["layer", "row", "global", "isomorphic"])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_budgets_in_params_and_macs_are_met_within_one_unit(tiny, of, spread, ratio):
    plan = pruning.plan(tiny, ratio=ratio, of=of, spread=spread)
    scores, decision = pruning.score(tiny, "magnitude"), plan.steps[0].decision
    worth = {site.name: scores.catalog.worth(site, of) for site in scores.catalog}
    total = scores.catalog.costs.count()[of == "macs"]
    found = sum(gone(decision, site) * worth[site.name] for site in scores.catalog)
    groups = len({kind_of(site) for site in scores.catalog}) if spread == "isomorphic" else 1
    step = {"row": max(site.units // site.inputs for site in scores.catalog)}.get(spread, 1)
    assert abs(found - ratio * total) <= max(worth.values()) * groups * step
    report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
    counted = report.params if of == "params" else report.macs
    assert 1 - counted["nonzero"] / counted["pruned"] == pytest.approx(found / total, abs=2e-4)


@pytest.mark.parametrize("of", ["params", "macs"])
@pytest.mark.parametrize("spread", ["layer", "global", "isomorphic"])
def test_budgets_of_width_are_what_is_counted_afterwards(tiny, of, spread):
    plan = pruning.plan(tiny, ratio=0.2, of=of, spread=spread, units="width")
    counted = getattr(pruning.report(tiny, pruning.apply(tiny, plan), plan), of)
    scores = pruning.score(tiny, "magnitude", units="width")
    largest = dict.fromkeys(map(kind_of, scores.catalog), 0)
    for site in scores.catalog:
        largest[kind_of(site)] = max(largest[kind_of(site)], scores.catalog.worth(site, of) * site.quota)
    unit = (min if spread == "isomorphic" else max)(largest.values())  # the kind with the finest takes what is left
    assert abs(counted["dense"] - counted["pruned"] - 0.2 * counted["dense"]) <= unit


def test_what_a_unit_is_worth_is_the_difference_in_the_count(tiny):
    for units in ("width", "weight"):
        catalog = pruning.score(tiny, "magnitude", units=units).catalog
        for site in catalog if units == "width" else ():
            left = catalog.count({site.name: site.units - 1})
            assert [catalog.worth(site, of) for of in ("params", "macs")] == [
                whole - part for whole, part in zip(catalog.costs.count(), left, strict=True)]


def test_a_budget_that_cannot_be_met_names_the_one_that_can(tiny):
    with pytest.raises(pruning.Refused, match=r"95\.0% of the MACs cannot go.*at most") as refusal:
        pruning.plan(tiny, ratio=0.95, of="macs", units="head", spread="global")
    named = float(re.findall(r"at most ([\d.]+)%", refusal.value.message)[0]) / 100
    assert pruning.plan(tiny, ratio=named, of="macs", units="head", spread="layer").steps
    with pytest.raises(pruning.Refused, match="single layers take more than"):
        pruning.plan(tiny, ratio=0.001, of="params", overrides={"mid_block.*": 0.5})
    with pytest.raises(pruning.Refused, match="MACs of a Sequential with these settings are not counted"):
        pruning.plan(toy(), ratio=0.5, of="macs")


def test_ratios_of_all_layers_have_to_come_to_what_is_asked():
    with pytest.raises(pruning.Refused, match=r"together they take 89\.3% of the parameters, not 50\.0%") as refusal:
        pruning.plan(toy(), ratio=0.5, of="params", overrides={"*": 0.9})  # 11 of 12 and 14 of 16
    assert refusal.value.remedy == "Ask for that, or leave one layer free."
    assert gone_of_each(toy(), ratio=0.893, of="params", overrides={"*": 0.9}) == [11, 14]
    assert gone_of_each(toy(), ratio=0.5, overrides={"*": 0.9}) == [11, 14]  # of units, it is for layers without one


@pytest.mark.parametrize("units", ["weight", "width"])
@pytest.mark.parametrize("of", ["params", "macs"])
def test_ratios_of_all_layers_that_come_to_what_is_asked_are_fine(tiny, of, units):
    catalog = pruning.score(tiny, "magnitude", units=units).catalog
    free = free_sites(catalog, request(tiny, ratio=0.2, units=units))
    share = 0.2 * catalog.costs.count()[of == "macs"] / sum(site.units * catalog.worth(site, of) for site in free)
    own = {site.module: share for site in free}
    assert pruning.plan(tiny, ratio=0.2, units=units, of=of, overrides=own).steps
    with pytest.raises(pruning.Refused, match="Every layer has a ratio of its own"):
        pruning.plan(tiny, ratio=0.1, units=units, of=of, overrides=own)


@given(st.lists(st.floats(0, 2.0**100, width=32), min_size=2, max_size=20))
def test_keys_have_the_order_of_scores(values):
    scores = torch.tensor(values)
    assert keys(scores).argsort(stable=True).tolist() == scores.argsort(stable=True).tolist()


@pytest.mark.parametrize("spread", SPREADS)
@given(values=SMALL, low=RATIOS, high=RATIOS)
def test_a_higher_ratio_removes_a_superset_of_weights(spread, values, low, high):
    net = toy([value or 0.5 for value in values])
    some, more = (pruning.apply(net, pruning.plan(net, ratio=min(ratio, MOST), spread=spread))
                  for ratio in sorted((low, high)))
    for a, b in zip(layers(some), layers(more), strict=True):
        assert not (b != 0)[a == 0].any()


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_a_higher_ratio_removes_a_superset_of_units(tiny, spread, method):
    scores = pruning.score(tiny, method, units="width")
    before = None
    for ratio in (0.05, 0.2, 0.25, 0.5, 0.51, 0.75, 0.9, 0.99):
        kept = kept_units(pruning.plan(tiny, method, ratio, units="width", spread=spread, scores=scores), tiny.unet)
        assert before is None or all(kept[name] <= before[name] for name in kept)
        assert before is None or kept != before or ratio == 0.51
        before = kept


def test_kept_pattern_by_hand():
    values = torch.tensor([[4.0, 1.0, 3.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 0.0, 5.0]])
    assert kept_pattern(values, "2:4").int().tolist() == [[1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 1]]
    assert kept_pattern(values, "1:4").int().tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert kept_pattern(values, "1:2").int().tolist() == [[1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1]]


@pytest.mark.parametrize("pattern", ["1:2", "1:4", "2:4", "3:4", "4:8", "7:8"])
@given(values=st.lists(st.integers(0, 3), min_size=32, max_size=32))
def test_exactly_n_of_each_m_stay_and_they_are_the_largest(pattern, values):
    n, m = parse_pattern(pattern)
    groups = torch.tensor(values, dtype=torch.float32).reshape(-1, m)
    keep = kept_pattern(groups.reshape(2, 16), pattern).reshape(-1, m)
    assert (keep.sum(1) == n).all()
    assert torch.equal(groups[keep].reshape(-1, n).sort(1).values, groups.sort(1).values[:, m - n :])


@given(st.lists(st.integers(0, 3), min_size=32, max_size=32))
def test_one_of_four_stays_within_two_of_four(values):
    scores = torch.tensor(values, dtype=torch.float32).reshape(4, 8)
    assert not (kept_pattern(scores, "1:4") & ~kept_pattern(scores, "2:4")).any()


def test_a_pattern_runs_along_input_channels(tiny):
    plan = pruning.plan(tiny, pattern="2:4")
    pruned = pruning.apply(tiny, plan)
    for name in ("down_blocks.1.resnets.0.conv1", "mid_block.resnets.0.conv2"):
        before, after = (pipe.unet.get_parameter(f"{name}.weight").detach() for pipe in (tiny, pruned))
        groups = before.permute(0, 2, 3, 1).reshape(-1, 4)  # (out, kernel row, kernel column, in)
        largest = groups.abs().argsort(dim=1, descending=True, stable=True)[:, :2]
        stays = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, largest, True)
        out, inputs, *kernel = before.shape
        expected = torch.where(stays, groups, 0).reshape(out, *kernel, inputs).permute(0, 3, 1, 2)
        assert torch.equal(after, expected)


def left(net, plan):
    """The sites that a plan leaves alone, with the reason."""
    recipe = plan.recipe
    return {site.name: reason for site in find(net, recipe.units) if (reason := left_alone(site, recipe))}


def test_nothing_asked_for_changes_no_tensor(tiny):
    plan = pruning.plan(tiny, ratio=0.5, overrides={"mid_block.*": 0.0})
    pruned = pruning.apply(tiny, plan)
    name = "mid_block.resnets.0.conv1"
    assert name not in plan.steps[0].decision.sites
    assert pruned.unet.get_parameter(f"{name}.weight") is tiny.unet.get_parameter(f"{name}.weight")


def test_layers_that_the_pattern_does_not_divide_are_named(tiny):
    plan = pruning.plan(tiny, pattern="1:3", protect=())
    assert left(tiny.unet, plan)["conv_in"] == "4 inputs are not a multiple of 3"
    assert set(plan.steps[0].decision.sites) == {"up_blocks.2.resnets.1.conv1", "up_blocks.2.resnets.1.conv_shortcut",
                                                 "up_blocks.3.resnets.0.conv1", "up_blocks.3.resnets.0.conv_shortcut"}
    with pytest.raises(pruning.Refused, match="multiple of 7, so 2:7 removes nothing"):
        pruning.plan(tiny, pattern="2:7")


def test_of_overrides_the_most_specific_wins():
    net = toy()
    overrides = {"*": 0.25, "block.*": 0.5, "block.first": 0.75}
    pruned = pruning.apply(net, pruning.plan(net, ratio=0, overrides=overrides))
    assert [int((part == 0).sum()) for part in layers(pruned)] == [9, 8]
    recipe = request(net, ratio=0.1, overrides=overrides)
    assert [ratio_of(site, recipe) for site in find(net, "weight")] == [0.75, 0.5]


def test_of_overrides_with_equally_long_globs_the_one_that_removes_less_wins():
    for pairs in ([("block.f*", 0.75), ("*.first*", 0.5)], [("*.first*", 0.5), ("block.f*", 0.75)]):
        assert gone_of_each(toy(), ratio=0, overrides=dict(pairs)) == [6, 0]


@pytest.mark.parametrize(("how", "given", "remedy"), [
    ({"overrides": {"nothing*": 0.9}}, "'nothing*' in overrides", "It has conv_in, conv_out, down_blocks.*."),
    ({"overrides": {"mid_blok*": 0.9}}, "'mid_blok*' in overrides", "mid_block.*"),
    ({"overrides": {"mid_block": 0.9}}, "'mid_block' in overrides", "mid_block.*"),
    ({"protect": ("conv_in", "zzz")}, "'zzz' in protect", "conv_in"), ({"protect": "zzz"}, "'zzz' in protect", ""),
    ({"only": ("mid*", "up_blok.1.*")}, "'up_blok.1.*' in only", "up_blocks.1.*")])
def test_globs_that_fit_no_layer_are_refused(tiny, how, given, remedy):
    with pytest.raises(pruning.Refused, match=re.escape(f"The U-Net has no layer that fits {given}.")) as refusal:
        pruning.plan(tiny, ratio=0.5, **how)
    assert remedy in refusal.value.remedy


def test_globs_may_fit_layers_of_other_units(tiny):
    conv = "mid_block.resnets.0.conv1"  # it has no heads
    assert request(tiny, ratio=0.5, units="head", overrides={conv: 0.2}, protect=(conv,)).protect == (conv,)
    assert request(tiny, ratio=0.5, component="text_encoder").protect  # nobody has to know that these name a U-Net


@pytest.mark.parametrize(("values", "words"), [
    ({"overrides": [("mid*", 0.5)]}, "overrides cannot be"), ({"overrides": {1: 0.5}}, "overrides cannot be"),
    ({"overrides": {"ratio": "much"}}, "The ratio for ratio cannot be"), ({"protect": 3}, "protect cannot be 3"),
    ({"only": (3,)}, "only cannot be"), ({"seed": "a"}, "seed cannot be 'a'"), ({"seed": True}, "seed cannot be True"),
    ({"seed": 1.5}, "seed cannot be 1.5"), ({"seed": -1}, "seed cannot be -1")])
def test_values_of_the_wrong_kind_are_refused(values, words):
    with pytest.raises(pruning.Refused, match=words) as refusal:
        pruning.plan(toy(), ratio=0.5, **values)
    assert refusal.value.remedy


def test_what_has_no_override_is_ranked_together_with_the_rest():
    net = toy([9] * 12 + [1] * 16)
    pruned = pruning.apply(net, pruning.plan(net, ratio=0.5, spread="global", overrides={"*first": 0.25}))
    assert [int((part == 0).sum()) for part in layers(pruned)] == [3, 8]


def test_protect_and_only():
    net = toy()
    guarded = pruning.plan(net, ratio=0.5, protect=("*.last",))
    assert (list(guarded.steps[0].decision.sites), left(net, guarded)) == (["block.first"], {"block.last": "protected"})
    wanted = pruning.plan(net, ratio=0.5, only=("*.last",))
    assert (list(wanted.steps[0].decision.sites), left(net, wanted)) == (
        ["block.last"], {"block.first": "outside the layers asked for"})
    with pytest.raises(pruning.Refused, match=r"protect=\(\)"):
        pruning.plan(net, ratio=0.5, protect=("block*",))


def test_the_ends_of_a_denoiser_are_protected_unless_released(tiny):
    plan = pruning.plan(tiny, ratio=0.5)
    assert {name for name, reason in left(tiny.unet, plan).items() if reason == "protected"} == {
        "conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    assert not left(tiny.unet, pruning.plan(tiny, ratio=0.5, protect=()))


def channels(units, quota):
    return Site("conv#channels", "channel", units, (Member("conv.weight", 0),), quota=quota)


def test_a_bundle_takes_one_channel_of_each_norm_group():
    bundles = Bundles.of(channels(6, 2), torch.tensor([3.0, 1.0, 2.0, 9.0, 8.0, 7.0]))
    assert bundles.order.tolist() == [[1, 5], [2, 4], [0, 3]]
    assert bundles.score.tolist() == [4, 5, 6]
    assert [bundles.kept(gone) for gone in (0, 1, 2)] == [[0, 1, 2, 3, 4, 5], [0, 2, 3, 4], [0, 3]]


def test_bundles_of_all_layers_go_in_one_order_and_each_layer_keeps_its_best():
    low = Bundles.of(channels(4, 2), torch.tensor([1.0, 2.0, 1.0, 2.0]))  # bundles of 2 worth 1 and 2
    high = Bundles.of(channels(3, 1), torch.tensor([5.0, 3.0, 4.0]))
    assert [bundles_gone([high, low], [2, 1], [1, 2], ratio * 7) for ratio in (0.2, 0.3, 3 / 7, 0.99)] == [
        [0, 0], [0, 1], [1, 1], [2, 1]]
    assert [Share([Room(high.site, 1, 2, 1)], ratio * 3).alone for ratio in (0.1, 0.2, 0.5, 0.99)] == [0, 1, 2, 2]


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_norm_groups_lose_equally_many(tiny, spread, ratio):
    plan = pruning.plan(tiny, ratio=ratio, units="channel", spread=spread)
    assert plan.steps[0].decision.sites
    for site in find(tiny.unet, "channel"):
        kept = kept_units(plan, tiny.unet)[site.name]
        groups = torch.bincount(torch.tensor(sorted(kept)) // (site.units // site.quota), minlength=site.quota)
        assert len(set(groups.tolist())) == 1


@pytest.mark.parametrize("units", ["head", "neuron", "channel", "width"])
@pytest.mark.parametrize("ratio", [0.1, 0.37, 0.6])
def test_global_meets_the_ratio_within_one_unit(tiny, units, ratio):
    plan = pruning.plan(tiny, ratio=ratio, units=units, spread="global")
    sites = [site for site in find(tiny.unet, units) if not protected(site, plan.recipe)]
    gone = sum(site.units - len(kept_units(plan, tiny.unet)[site.name]) for site in sites)
    target = ratio * sum(site.units for site in sites)
    assert target - max(site.quota for site in sites) < gone <= target + 1e-9
    left = kept_units(plan, tiny.unet)
    assert len({len(left[site.name]) / site.units for site in sites}) > 1


@pytest.mark.parametrize(("units", "spread", "ratio", "words"), [
    ("head", "layer", 0.1, "10.0% of 4 heads per layer is less than one head.*25.0%"),
    ("head", "global", 0.01, "1.0% of 80 units in all layers together is less than one unit.*1.3%"),
    ("channel", "layer", 0.1, "10.0% of 4 channels per layer is less than one channel.*25.0%"),
    ("channel", "global", 0.001, "0.1% of 50 units in all layers together is less than one unit.*2.0%")])
def test_a_ratio_too_coarse_for_the_units_names_one_that_works(tiny, units, spread, ratio, words):
    how = {"units": units, "spread": spread, "only": ("*attn?", "*resnets.?")}  # no channels that meet no norm
    with pytest.raises(pruning.Refused, match=words) as refusal:
        pruning.plan(tiny, ratio=ratio, **how)
    named = float(re.findall(r"([\d.]+)%", refusal.value.remedy)[0]) / 100
    assert pruning.plan(tiny, ratio=named, **how).steps[0].decision.sites


@pytest.mark.parametrize("how", [{"units": "weight"}, {"units": "width"}, {"pattern": "2:4"}])
@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2, "x", True, nan, inf])
def test_impossible_ratios_are_refused(how, ratio):
    with pytest.raises(pruning.Refused, match=re.escape(f"{ratio:.4g}" if "pattern" in how and isinstance(ratio, float)
                                                        else str(ratio))):
        pruning.plan(toy(), ratio=ratio, **how)


@pytest.mark.parametrize("values", [{"ratio": None}, {"ratio": 0.5, "overrides": {"block*": 1.0}}, {
    "ratio": 0.4, "pattern": "2:4"}, {"ratio": 0.5, "units": "nm"}, {"pattern": "2:4", "overrides": {"*": 0.5}}])
def test_requests_that_contradict_themselves_are_refused(values):
    with pytest.raises(pruning.Refused) as refusal:
        pruning.plan(toy(), **values)
    assert refusal.value.remedy


@pytest.mark.parametrize("pattern", ["4:2", "0:4", "4:4", "2", "a:b", "2:128", "", "2:4:8"])
def test_patterns_that_are_none_are_refused(pattern):
    with pytest.raises(pruning.Refused, match="not an N:M pattern"):
        pruning.plan(toy(), pattern=pattern)


@pytest.mark.parametrize(("pattern", "ratio"), [("2:4", 0.5), ("1:4", 0.75), ("4:8", 0.5)])
def test_a_pattern_says_its_ratio(tiny, pattern, ratio):
    plan = pruning.plan(tiny, pattern=pattern)
    assert (plan.recipe.units, plan.recipe.ratio) == ("nm", ratio)
    assert plan == pruning.plan(tiny, ratio=ratio, pattern=pattern)


def test_scores_of_another_kind_are_refused(tiny, other):
    scores = pruning.score(tiny, "random", units="head", seed=1)
    assert pruning.plan(tiny, "random", 0.5, units="head", seed=1, scores=scores)
    for values in ({"method": "magnitude", "seed": 1}, {"method": "random", "seed": 2},
                   {"method": "random", "seed": 1, "units": "neuron"},
                   {"method": "random", "seed": 1, "component": "text_encoder"}):
        with pytest.raises(pruning.Refused, match="These scores"):
            pruning.plan(tiny, **{"ratio": 0.5, "units": "head", "scores": scores} | values)
    with pytest.raises(pruning.Refused, match="another model"):
        pruning.plan(other, "random", 0.5, units="head", seed=1, scores=scores)


def test_scores_given_or_taken_make_the_same_plan(tiny):
    for units, spread in (("weight", "global"), ("width", "layer")):
        scores = pruning.score(tiny, "magnitude", units=units)
        for ratio in (0.3, 0.6):
            assert pruning.plan(tiny, ratio=ratio, units=units, spread=spread, scores=scores) == pruning.plan(
                tiny, ratio=ratio, units=units, spread=spread)


def test_ratio_zero_changes_nothing(tiny):
    for units in ("weight", "width"):
        pruned = pruning.apply(tiny, pruning.plan(tiny, ratio=0, units=units))
        assert all(torch.equal(a, b) for a, b in zip(tiny.unet.parameters(), pruned.unet.parameters(), strict=True))


@pytest.mark.parametrize("how", [{"units": "width", "ratio": 0.5}, {"pattern": "2:4"}, {"ratio": 0.37},
                                 {"ratio": 0.6, "spread": "global"}])
def test_a_decision_says_exactly_how_many_units_go(tiny, how):
    plan = pruning.plan(tiny, **how)
    scores, decision = pruning.score(tiny, "magnitude", units=plan.recipe.units), plan.steps[0].decision
    smaller = pruning.apply(tiny, plan).unet
    for site in scores.catalog:
        left = smaller.get_parameter(site.tensor)
        if decision.kind == "keep":
            lost = (tiny.unet.get_parameter(site.tensor).shape[0] - left.shape[0]) // site.members[0].size
            assert site.members[0].axis == 1 or gone(decision, site) == lost
        else:
            assert gone(decision, site) == int((left == 0).sum() - (tiny.unet.get_parameter(site.tensor) == 0).sum())
    assert sum(gone(decision, site) for site in scores.catalog) > 0


def test_share_rounds_to_the_nearest_and_halves_up():
    assert [share(8, ratio) for ratio in (0, 0.06, 0.0625, 0.5, 0.56, 0.99)] == [0, 0, 1, 4, 4, 8]
    assert share(5, 0.5) == 3


def test_ranges_and_back():
    assert ranges([0, 1, 2, 5]) == [[0, 3], [5, 6]]
    assert indices([[0, 3], [5, 6]]) == [0, 1, 2, 5]
    assert ranges([]) == []


def test_a_sketch_counts_every_score():
    sketch = Sketch.of(torch.tensor([[1.0, 1.0, 2.0, 4.0]]))
    assert int(sketch.counts.sum()) == 4
    edges = sketch.edges()
    assert [int(sketch.counts[(edges[:-1] <= value) & (value < edges[1:])]) for value in (1.0, 2.0, 4.0)] == [2, 1, 1]
