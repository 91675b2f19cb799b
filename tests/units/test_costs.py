"""Counting: by hand, against the torch counter on models that were really cut, and as the report tells it."""

import pytest
import torch
from conftest import unet
from diffusers import UNet2DConditionModel, UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

import pruning
from pruning import cache
from pruning.network.inputs import Example, arguments
from pruning.network.subject import shell, subject
from pruning.spreads.protect import left_alone
from pruning.surgery.slices import slice_units
from pruning.units.catalog import find
from pruning.units.costs import on_meta, trace

SHAPES = ("unet", "vae.decoder", "text_encoder")
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def counted(net, example):
    """(params, MACs) of a model as it is, by torch's own counter."""
    twin = on_meta(net)
    with torch.device("meta"):
        inputs = arguments(net, example)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(**inputs)
    return sum(tensor.numel() for tensor in net.parameters()), counter.get_total_flops() // 2


def some(site, noise):
    """A random choice of a site's units, equally many of each norm group, at least one."""
    size = site.units // site.quota
    count = int(torch.randint(1, size + 1, (), generator=noise))
    return torch.cat([group * size + torch.randperm(size, generator=noise)[:count].sort().values
                      for group in range(site.quota)])


@pytest.mark.parametrize("component", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_counting_by_shapes_is_counting_what_was_cut(tiny, component, seed):
    looked_at = subject(tiny, component)
    noise = torch.Generator().manual_seed(seed)
    kept = {site: some(site, noise) for site in find(looked_at.net, "width") if torch.rand((), generator=noise) < 0.8}
    net = shell(looked_at.net)
    slice_units(net, kept)
    costs = trace(looked_at.net, looked_at.example)
    expected = counted(net, looked_at.example)
    assert costs.count({site: len(units) for site, units in kept.items()}) == expected
    assert trace(net, looked_at.example).count() == expected
    assert expected < costs.count() == counted(looked_at.net, looked_at.example)


def test_macs_by_hand(tiny):
    costs = trace(tiny.unet, Example(8, 8))
    assert costs.macs_of("conv_in.weight") == 4 * 16 * 3 * 3 * 8 * 8
    assert costs.macs_of("down_blocks.0.downsamplers.0.conv.weight") == 16 * 16 * 3 * 3 * 4 * 4  # stride 2
    assert costs.macs_of("time_embedding.linear_1.weight") == 16 * 64  # one position, whatever the picture's size
    assert costs.macs_of(f"{BLOCK}.attn1.to_q.weight") == 16 * 16 * 64
    assert costs.macs_of(f"{BLOCK}.attn2.to_k.weight") == 32 * 16 * 8  # 8 tokens
    assert costs.macs_of("conv_in.bias") == 0
    text = trace(tiny.text_encoder, Example(tokens=8))
    assert text.macs_of("encoder.layers.0.mlp.fc1.weight") == 32 * 64 * 8


def test_attention_by_its_formula(tiny):
    """Two products of queries x keys x width: the scores, and the weighted sum."""
    costs = trace(tiny.unet, Example(8, 8))
    assert costs.attention[f"{BLOCK}.attn1"] == 2 * 64 * 64 * 16
    assert costs.attention[f"{BLOCK}.attn2"] == 2 * 64 * 8 * 16
    assert costs.attention["mid_block.attentions.0.transformer_blocks.0.attn1"] == 2 * 1 * 1 * 32
    assert len(costs.attention) == sum(1 for _ in find(tiny.unet, "head"))
    text = trace(tiny.text_encoder, Example(tokens=8))
    assert text.attention == {f"encoder.layers.{i}.self_attn": 2 * 8 * 8 * 32 for i in (0, 1)}
    decoder = trace(tiny.vae.decoder, Example(8))
    assert decoder.attention == {"mid_block.attentions.0": 2 * 64 * 64 * 32}


def test_counting_needs_no_values_and_touches_none(tiny):
    with torch.device("meta"):
        net = UNet2DConditionModel(**{key: value for key, value in tiny.unet.config.items() if key[0] != "_"})
    assert trace(net, Example(8, 8)).count() == trace(tiny.unet, Example(8, 8)).count()
    assert not any(module._forward_pre_hooks for module in tiny.unet.modules())
    assert {tensor.device.type for tensor in tiny.unet.parameters()} == {"cpu"}


def test_a_class_that_nobody_listed_has_parameters_only():
    costs = trace(torch.nn.Sequential(torch.nn.Linear(3, 2)), Example())
    assert (costs.known, costs.count()) == (False, (8, 0))


# The report.


def made(pipe, **how):
    plan = pruning.plan(pipe, **how)
    pruned = pruning.apply(pipe, plan)
    return plan, pruned, pruning.report(pipe, pruned, plan)


def test_the_report_has_the_keys_of_the_design(tiny):
    _, _, report = made(tiny, ratio=0.5, units="width")
    value = report.to_dict()
    assert {key: set(part) for key, part in value.items() if key not in ("layers", "adjusted", "recovered")} == {
        "requested": {"ratio", "of"}, "units": {"total", "gone"}, "params": {"dense", "pruned", "nonzero"},
        "macs": {"dense", "pruned", "nonzero", "published", "counted_at"}, "bytes": {"dense", "pruned", "dtype"},
        "speed": {"theory", "reachable", "measured", "why"}, "fingerprint": {"dense", "pruned"}}
    assert {key for layer in value["layers"] for key in layer} == {
        "name", "kind", "units", "gone", "params_gone", "macs_gone", "requested", "reason", "error"}
    assert value["adjusted"] is value["recovered"] is None
    assert value["macs"]["counted_at"] == {"latent": 16, "tokens": 8, "batch": 1}
    assert value["requested"] == {"ratio": 0.5, "of": "units"}
    assert value["speed"]["measured"] is None


@pytest.mark.parametrize(("component", "units"), [("unet", "head"), ("unet", "neuron"), ("unet", "channel"),
                                                  ("unet", "width"), ("vae.decoder", "channel"),
                                                  ("text_encoder", "width")])
@pytest.mark.parametrize("spread", ["layer", "global"])
def test_a_width_report_adds_up(tiny, component, units, spread):
    _, pruned, report = made(tiny, ratio=0.5, component=component, units=units, spread=spread)
    dense, smaller = subject(tiny, component), subject(pruned, component)
    assert (report.params["dense"], report.macs["dense"]) == counted(dense.net, dense.example)
    assert (report.params["pruned"], report.macs["pruned"]) == counted(smaller.net, smaller.example)
    assert report.params["dense"] - report.params["pruned"] == sum(layer.params_gone for layer in report.layers)
    assert report.macs["dense"] - report.macs["pruned"] == sum(layer.macs_gone for layer in report.layers)
    assert report.units["gone"] == sum(layer.gone for layer in report.layers)
    free = [layer for layer in report.layers if layer.reason != "protected"]  # all but the time embedding
    assert report.units["total"] == sum(layer.units for layer in free)
    assert report.bytes["pruned"] == 2 * report.params["pruned"]
    assert report.speed["theory"] == report.speed["reachable"] == report.macs["dense"] / report.macs["pruned"]
    assert report.fingerprint["dense"] != report.fingerprint["pruned"]
    assert all(0 <= layer.gone < layer.units for layer in report.layers)
    assert {layer.requested for layer in free} == {0.5}
    assert [layer.reason for layer in free if layer.share != 0.5 and spread == "global"].count(None) == sum(
        layer.share != 0.5 and spread == "global" for layer in free)  # nobody asked for a share of one layer


@pytest.mark.parametrize("how", [{"ratio": 0.5}, {"ratio": 0.3, "spread": "global"}, {"pattern": "2:4"}])
def test_a_report_of_weights_adds_up(tiny, how):
    plan, pruned, report = made(tiny, **how)
    assert report.params["dense"] == report.params["pruned"]
    assert report.params["pruned"] - report.params["nonzero"] == sum(
        int((tensor == 0).sum()) for tensor in pruned.unet.parameters())
    assert report.macs["dense"] == report.macs["pruned"]
    natural = report.params["dense"] - report.params["nonzero"] - sum(layer.params_gone for layer in report.layers)
    assert 0 <= natural < 0.01 * report.params["dense"]  # zeros of the dense model in layers that were left alone
    by_layer = sum(layer.macs_gone for layer in report.layers)
    assert 0 <= report.macs["dense"] - report.macs["nonzero"] - by_layer < 0.001 * report.macs["dense"]
    assert abs(report.units["gone"] / report.units["total"] - plan.recipe.ratio) < 1e-3
    assert report.bytes["dense"] == report.bytes["pruned"] == 2 * report.params["dense"]
    assert report.speed["theory"] == report.macs["dense"] / report.macs["nonzero"]
    assert report.speed["reachable"] in (1.0, None)
    untouched = {layer.name: layer for layer in report.layers if layer.reason}
    sites = find(tiny.unet, plan.recipe.units)
    assert set(untouched) == {site.name for site in sites if left_alone(site, plan.recipe)} >= {"conv_in", "conv_out"}
    assert all((layer.gone, layer.requested) == (0, 0.0) for layer in untouched.values())
    total = sum(layer.units for layer in report.layers if layer.name not in untouched)
    assert report.units["total"] == total


def test_a_masked_model_has_as_many_weights_left_as_the_cut_one(tiny):
    for units in ("neuron", "channel"):  # not heads: masked, their products are still made
        plan = pruning.plan(tiny, ratio=0.5, units=units)
        masked, cut = (pruning.report(tiny, pruning.apply(tiny, plan, masked=masked), plan) for masked in (True, False))
        assert masked.params["pruned"] == masked.params["dense"] > cut.params["pruned"]
        assert (masked.params["nonzero"], masked.macs["nonzero"]) == (cut.params["nonzero"], cut.macs["nonzero"])


def test_overrides_and_snapping_are_told(tiny):
    _, _, report = made(tiny, ratio=0.3, units="head", overrides={"mid_block*": 0.75})
    layers = {layer.name: layer for layer in report.layers}
    mid = layers["mid_block.attentions.0.transformer_blocks.0.attn1#heads"]
    assert (mid.requested, mid.gone, mid.reason) == (0.75, 3, None)
    down = layers[f"{BLOCK}.attn1#heads"]
    assert (down.requested, down.gone, down.reason) == (0.3, 1, "snapped to whole heads: steps of 25.0%")
    _, _, report = made(tiny, ratio=0.6, units="channel")
    hidden = [layer for layer in report.layers if "resnets" in layer.name and layer.kind == "channel"]
    assert {layer.reason for layer in hidden} == {"snapped to whole channels of 8 norm groups"}
    assert {(layer.units, layer.gone) for layer in hidden} == {(16, 8), (32, 16)}
    _, _, report = made(tiny, ratio=0.99, units="head")
    assert {(layer.gone, layer.reason) for layer in report.layers} == {
        (3, "keeps its best, so that something is left")}


def test_layers_that_a_pattern_does_not_divide_count_in_the_total(tiny):
    _, _, report = made(tiny, pattern="1:3")
    odd = [layer for layer in report.layers if layer.reason and layer.reason != "protected"]
    assert len(odd) > 5
    assert all("not a multiple of 3" in layer.reason for layer in odd)
    assert report.units["total"] == sum(layer.units for layer in report.layers if layer.reason != "protected")
    assert report.units["gone"] == sum(layer.units * 2 // 3 for layer in report.layers if layer.reason is None)


def test_a_second_width_step_is_reported_from_where_it_began(tiny):
    _, once, _ = made(tiny, ratio=0.25, units="width")
    second, twice, from_once = made(once, ratio=0.5, units="width")
    report = pruning.report(tiny, twice, second)
    assert report.layers == from_once.layers
    assert report.units == from_once.units
    assert report.units["gone"] > 0
    assert report.params["dense"] == sum(tensor.numel() for tensor in tiny.unet.parameters())
    assert (report.params["pruned"], report.bytes["pruned"]) == (from_once.params["pruned"], from_once.bytes["pruned"])


def test_a_pattern_after_a_width_step_is_reported_on_the_small_layers(tiny):
    _, narrow, _ = made(tiny, ratio=0.5, units="width")
    plan, both, _ = made(narrow, pattern="2:4")
    report = pruning.report(tiny, both, plan)
    conv = next(layer for layer in report.layers if layer.name == "mid_block.resnets.0.conv2")
    assert (conv.units, conv.gone) == (16 * 32 * 9, 16 * 32 * 9 // 2)
    assert report.params["dense"] > report.params["pruned"] > report.params["nonzero"]
    assert report.macs["dense"] > report.macs["pruned"] > report.macs["nonzero"]
    assert report.speed["reachable"] == report.macs["dense"] / report.macs["pruned"] > 1
    assert report.speed["theory"] == report.macs["dense"] / report.macs["nonzero"]
    assert "smaller" in report.speed["why"]
    assert "Zeros" in report.speed["why"]


@pytest.mark.parametrize("component", ["unet", "vae.decoder", "text_encoder"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_counted_as_single_is(tiny_folder, tiny, component, dtype):
    cache.forget(["traces"])  # a trace in float32 would be found
    half = subject(pruning.load(tiny_folder, dtype=dtype), component)
    count = trace(half.net, half.example).count()
    cache.forget(["traces"])
    assert count == trace(subject(tiny, component).net, half.example).count()


def test_a_rectangle_has_no_mac_count_but_can_be_planned():
    net = UNet2DModel(sample_size=[16, 32], block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
                      down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    plan = pruning.plan(net, ratio=0.5)
    assert pruning.report(net, pruning.apply(net, plan), plan).macs["dense"] is None


def test_a_bare_model_is_reported_as_a_pipeline_is(tiny):
    net = unet()
    _, _, bare = made(net, ratio=0.5, units="width")
    _, _, whole = made(tiny, ratio=0.5, units="width")
    assert (bare.params, bare.units, bare.bytes) == (whole.params, whole.units, whole.bytes)
    assert bare.macs["counted_at"] == {"latent": 16, "tokens": 77, "batch": 1}
    assert bare.macs["dense"] > whole.macs["dense"]


def test_macs_that_are_not_counted_are_not_told():
    net = torch.nn.Sequential(torch.nn.Linear(8, 4))
    _, _, report = made(net, ratio=0.5)
    assert report.macs == {"dense": None, "pruned": None, "nonzero": None, "published": None,
                           "counted_at": None}
    assert (report.speed["theory"], report.speed["reachable"]) == (None, None)
    assert (report.units, report.layers[0].macs_gone) == ({"total": 32, "gone": 16}, None)
