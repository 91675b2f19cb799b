"""Coupled channels: who goes with whom (Torch-Pruning is the oracle), what is left, and figures that were published."""

import copy
from math import floor

import pytest
import torch
from conftest import exact_in_half, output, pipeline, published, same, state, unet
from diffusers import UNet2DModel
from torch import nn

import pruning
from benchmarks import width
from pruning.decisions.keep import kept_units
from pruning.models.sources import ARCHITECTURES
from pruning.network.subject import module_at, subject
from pruning.planning import request
from pruning.spreads.protect import protected
from pruning.types import Recipe
from pruning.units import stream
from pruning.units.catalog import catalog, find, why_not
from pruning.units.costs import on_meta

RATIOS = (0.25, 0.5, 0.75)


def ddpm(**changes):
    """A U-Net without text, with every kind of block that there is for one, and with attention of one head."""
    torch.manual_seed(0)
    tiny = {"sample_size": 16, "block_out_channels": (16, 32, 32), "layers_per_block": 2, "norm_num_groups": 8,
            "attention_head_dim": None, "num_class_embeds": 5,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
            "up_block_types": ("ResnetUpsampleBlock2D", "AttnUpBlock2D", "UpBlock2D")}
    return exact_in_half(UNet2DModel(**tiny | changes))


@pytest.fixture(scope="module")
def plain():
    return ddpm()


@torch.no_grad()
def answer(net, batch=3):
    """What a network answers to fixed inputs."""
    if not isinstance(net, UNet2DModel):
        return output(net)
    noise = torch.Generator().manual_seed(5)
    return net(torch.randn(batch, 3, 16, 16, generator=noise), torch.arange(batch) * 300,
               class_labels=torch.arange(batch) % 5).sample


def planned(net, ratio=0.5, **how):
    return pruning.plan(net, **{"method": "random", "units": "channel", "protect": (), "seed": 2} | how, ratio=ratio)


# Groups: the same as traced ones.


def owned(site):
    """(tensor, axis) -> the indices that each unit of a site owns."""
    out = {}
    for member in site.members:
        if not member.tensor.endswith("bias"):
            out.setdefault((member.tensor, member.axis), []).extend(member.indices(torch.arange(site.units)).tolist())
    return {place: sorted(indices) for place, indices in out.items()}


def traced(graph, net, site):
    """The same as Torch-Pruning's graph has it."""
    names = {module: name for name, module in net.named_modules()}
    out = {}
    for dep, indices in width.group_of(graph, net, site, list(range(site.units))):
        module = dep.target.module
        if module in names:
            into = "in_channels" in dep.handler.__name__ and isinstance(module, nn.Linear | nn.Conv2d)
            axis = 1 if into or isinstance(module, nn.Embedding) else 0
            out.setdefault((f"{names[module]}.weight", axis), set()).update(indices)
    return {place: sorted(indices) for place, indices in out.items()}


NETS = {"text": unet, "linear": lambda: unet(use_linear_projection=True, transformer_layers_per_block=2),
        "plain": ddpm, "scaled": lambda: ddpm(resnet_time_scale_shift="scale_shift", num_class_embeds=None),
        "decoder": lambda: pipeline().vae.decoder}


@pytest.mark.parametrize("kind", NETS)
def test_groups_are_those_that_a_trace_finds(kind):
    net = NETS[kind]()
    given = {"sample": torch.randn(1, 4, 8, 8)} if kind == "decoder" else width.inputs(net)
    graph = width.traced(net, given)
    found = list(find(net, "channel"))
    assert sum(site.kind == "stream" for site in found) >= 3
    for site in found:
        assert owned(site) == traced(graph, net, site), site.name


@pytest.mark.parametrize("kind", ["text", "plain"])
def test_the_smaller_model_is_torch_prunings_bit_for_bit(kind):
    net = NETS[kind]()
    plan, twin = planned(net), copy.deepcopy(net)
    width.cut(width.traced(twin, width.inputs(net)), twin, kept_units(net, plan.steps[0]))
    width.check(pruning.apply(net, plan), twin)


# Published figures.


@pytest.mark.parametrize(("side", "times", "groups", "params"), [
    (32, (1, 2, 2, 2), 50, 19_851_157),  # 19.8512 M
    (64, (1, 2, 2, 2, 4), 61, 43_735_002),  # 43.7350 M
    (256, (1, 1, 2, 2, 4, 4), 71, 63_205_897)])  # 63.2059 M
def test_published_sizes(side, times, groups, params):
    """Diff-Pruning at 0.3, by its rule: n = C - floor(0.7 C) channels go of a group, rounded down to norm groups."""
    net = published(side, times)
    sites = catalog(net, "channel", subject(net).example)
    assert len(sites.sites) == groups
    left = {site.name: site.units - (site.units - floor(site.units * 0.7 + 1e-9)) // site.quota * site.quota
            for site in sites}
    assert sites.count(left)[0] == params


def test_a_ratio_of_30_percent_is_the_published_model():
    net = published(32, (1, 2, 2, 2))
    assert module_at(net, "conv_in").out_channels == 128
    real = UNet2DModel.from_config(net.config)
    plan = planned(real, 0.3)
    small = pruning.apply(real, plan)
    report = pruning.report(real, small, plan)
    assert report.params["pruned"] == 19_851_157
    assert {layer.units - layer.gone for layer in report.layers} == {96, 192, 179, 358}
    with torch.no_grad():
        for batch in (1, 3):
            assert small(torch.randn(batch, 3, 32, 32), 7).sample.shape == (batch, 3, 32, 32)


# What is left.


@pytest.mark.parametrize("spread", ["layer", "global"])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("of", ["plain", "text", "decoder"])
def test_masked_is_sliced(tiny, plain, of, ratio, spread):
    net = {"plain": plain, "text": tiny.unet, "decoder": tiny.vae.decoder}[of]
    plan = planned(net, ratio, spread=spread)
    dense, zeroed, smaller = map(answer, (net, pruning.apply(net, plan, masked=True), pruning.apply(net, plan)))
    scale = float(dense.abs().max())
    assert float((zeroed - smaller).abs().max()) <= 1e-5 * scale
    assert float((dense - smaller).abs().max()) > 1e-3 * scale


@pytest.mark.parametrize("ratio", RATIOS)
def test_modules_know_their_sizes(plain, tiny, ratio):
    for net in (plain, tiny.unet):
        small = pruning.apply(net, planned(net, ratio))
        for module in small.modules():
            match module:
                case nn.Linear():
                    assert tuple(module.weight.shape) == (module.out_features, module.in_features)
                case nn.Conv2d():
                    assert tuple(module.weight.shape[:2]) == (module.out_channels, module.in_channels)
                case nn.GroupNorm():
                    assert module.num_channels == len(module.weight)
                    assert module.num_channels % module.num_groups == 0
                case nn.LayerNorm():
                    assert module.normalized_shape == tuple(module.weight.shape)
        assert small.conv_out.out_channels == net.conv_out.out_channels
        assert small.conv_in.in_channels == net.conv_in.in_channels
        assert small.conv_in.out_channels < net.conv_in.out_channels


def test_any_batch_goes_through(plain):
    small = pruning.apply(plain, planned(plain))
    whole = answer(small, 4)
    assert all(torch.allclose(answer(small, batch), whole[:batch], atol=1e-5) for batch in (1, 2, 4))


@pytest.mark.parametrize("component", ["unet", "vae.decoder"])
def test_a_saved_folder_is_the_same_model(tiny, tmp_path, component):
    plan = planned(tiny, component=component)
    small = pruning.apply(tiny, plan)
    again = pruning.load(pruning.save(small, tmp_path / "out"))
    assert same(state(small), state(again))
    assert torch.equal(output(small, component), output(again, component))
    shapes = pruning.load(tmp_path / "out", weights="meta")
    assert {name: tensor.shape for name, tensor in state(shapes).items()} == {
        name: tensor.shape for name, tensor in state(small).items()}


def test_a_bare_model_with_one_head_is_saved_and_loaded(plain, tmp_path):
    small = pruning.apply(plain, planned(plain))
    again = pruning.load(pruning.save(small, tmp_path / "out"))
    assert torch.equal(answer(small), answer(again))


def test_a_pruned_stream_can_be_pruned_again(plain):
    once = pruning.apply(plain, planned(plain, 0.25))
    plan = planned(once, 0.5, seed=4)
    twice = pruning.apply(once, plan)
    assert same(state(twice), state(pruning.apply(plain, plan)))
    masked = pruning.apply(once, planned(once, 0.5, seed=4), masked=True)
    assert torch.allclose(answer(masked), answer(twice), atol=1e-5)


@pytest.mark.parametrize("spread", ["layer", "global", "isomorphic"])
def test_a_higher_ratio_removes_a_superset(plain, spread):
    some, more = ({site: set(units.tolist()) for site, units in kept_units(
        plain, planned(plain, ratio, spread=spread).steps[0]).items()} for ratio in (0.3, 0.6))
    assert all(more[site] <= units for site, units in some.items())


# Counting.


@pytest.mark.parametrize("of", ["params", "macs"])
@pytest.mark.parametrize("spread", ["layer", "global", "isomorphic"])
def test_budgets_are_met_within_one_step(tiny, of, spread):
    plan = pruning.plan(tiny, ratio=0.4, of=of, spread=spread, units="channel")
    report = pruning.report(tiny, pruning.apply(tiny, plan), plan)
    counted = getattr(report, of)
    sites = catalog(tiny.unet, "channel", subject(tiny).example)
    step = max(sites.worth(site, of) * site.quota for site in sites if not protected(site, plan.recipe))
    assert abs(counted["dense"] - counted["pruned"] - 0.4 * counted["dense"]) <= step
    assert counted["dense"] - counted["pruned"] == sum(getattr(layer, f"{of}_gone") for layer in report.layers)


def test_a_budget_that_cannot_be_met_names_one_that_can(tiny):
    with pytest.raises(pruning.Refused, match=r"95\.0% of the MACs cannot go.*at most"):
        pruning.plan(tiny, ratio=0.95, of="macs", units="channel")
    with pytest.raises(pruning.Refused, match="single layers take more than"):
        pruning.plan(tiny, ratio=0.01, of="params", units="channel", overrides={"mid_block.*": 0.75})
    with pytest.raises(pruning.Refused, match="less than the smallest step"):
        pruning.plan(tiny, ratio=1e-6, of="params", units="channel")


# Who may go.


@pytest.mark.parametrize(("protect", "stays", "goes"), [
    ((), (), ("down_blocks.0.resnets.0.conv2#stream", "time_embedding#channels")),
    (("conv_in", "conv_out"), (), ("down_blocks.0.resnets.0.conv2#stream",
                                   "up_blocks.3.resnets.1.conv_shortcut#stream")),
    (("mid_block*",), ("down_blocks.2.downsamplers.0.conv#stream", "mid_block.resnets.0#channels",
                       "mid_block.attentions.0.proj_in#stream"), ("down_blocks.0.resnets.0.conv2#stream",)),
    (("up_blocks.3",), ("down_blocks.0.resnets.0.conv2#stream",), ("down_blocks.2.downsamplers.0.conv#stream",)),
    (("*embed*",), ("time_embedding.linear_2#stream", "time_embedding#channels"),
     ("down_blocks.0.resnets.0.conv2#stream",))])
def test_a_protected_block_protects_the_streams_through_it(tiny, protect, stays, goes):
    """All but the two ends: their outputs and inputs follow the stream."""
    sites = {site.name: site for site in find(tiny.unet, "channel")}
    recipe = Recipe(protect=protect)
    assert all(protected(sites[name], recipe) for name in stays)
    assert not any(protected(sites[name], recipe) for name in goes)


def test_width_is_of_inner_dimensions_alone(tiny):
    assert {site.kind for site in find(tiny.unet, "width")} == {"head", "neuron", "channel"}
    assert {site.kind for site in find(tiny.unet, "channel")} == {"channel", "stream"}


@pytest.mark.parametrize("slug", ["dit-xl-2", "pixart-sigma", "sd3.5-medium", "flux-dev"])
def test_transformers_keep_their_stream(slug):
    net = pruning.load(slug, weights="meta").transformer
    assert "adds to one stream of tokens, which stays whole" in why_not(net, "channel", "The transformer")


def test_a_block_that_nobody_knows_is_named():
    net = ddpm(down_block_types=("SkipDownBlock2D",) * 3, up_block_types=("SkipUpBlock2D",) * 3)
    assert stream.why_not(net) == "its SkipDownBlock2D is not one that Prunescope can follow"
    assert {site.kind for site in find(net, "channel")} == {"channel"}  # inside of blocks


@pytest.mark.parametrize("slug", ["ddpm-cifar10", "ldm4-cin256", "sd-1.5", "sd-2.1-base", "sdxl-base"])
def test_real_architectures_have_streams(slug):
    net = pruning.load(slug, weights="meta").unet
    assert (ARCHITECTURES / slug).is_dir()
    assert stream.why_not(net) is None
    owners = {}
    for site in find(on_meta(net), "channel"):
        assert site.units % site.quota == 0
        for member in site.members:
            for index in member.indices(torch.arange(site.units)).tolist():
                assert owners.setdefault((member.tensor, member.axis, index), site.name) == site.name


def test_every_layer_of_the_list_may_have_a_ratio_of_its_own(tiny):
    """The inside of the time embedding among them, which is no layer of single weights or of width."""
    modules = {site.module for site in pruning.score(tiny, "magnitude", units="channel").catalog}
    assert "time_embedding" in modules
    for module in modules:
        asked = request.request(tiny, ratio=0.5, units="channel", overrides={module: 0.25})
        assert asked.overrides == ((module, 0.25),)
