"""Models that are not built as usual: shared tensors, sizes that do not fit, attention of another form, NaN."""

import logging
import re

import pytest
import torch
from conftest import ddpm, output, pipeline, same, state, unet
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pruning
from pruning import cache
from pruning.drawing.images import draw_pair
from pruning.network.inputs import Example, arguments
from pruning.network.subject import subject
from pruning.scores.scores import finite
from pruning.types import Shot
from pruning.units.catalog import find, left_out, why_not
from pruning.units.costs import on_meta, trace

ATTENTION = "mid_block.attentions.0.transformer_blocks.0"
ALL = ("weight", "head", "neuron", "channel", "width")


def shared(pipe):
    """Two layers of an attention share one tensor."""
    one = pipe.unet.get_submodule(f"{ATTENTION}.attn1")
    one.to_k.weight = one.to_q.weight
    return pipe


def twice(pipe):
    """One block stands in two places."""
    pipe.unet.mid_block.resnets[1] = pipe.unet.mid_block.resnets[0]
    return pipe


# Tensors and blocks that are shared.


@pytest.mark.parametrize("share", [shared, twice])
@pytest.mark.parametrize("how", [{"units": units} for units in ALL] + [{"pattern": "2:4"}, {"method": "wanda"}])
def test_what_is_shared_stays_shared_and_masked_is_sliced(share, how, tmp_path):
    pipe = share(pipeline())
    before = state(pipe)
    plan = pruning.plan(pipe, **({} if "pattern" in how else {"ratio": 0.5}) | how)
    small, masked = pruning.apply(pipe, plan), pruning.apply(pipe, plan, masked=True)
    assert torch.allclose(output(small, "unet"), output(masked, "unet"), atol=1e-5)
    assert not torch.allclose(output(small, "unet"), output(pipe, "unet"), atol=1e-3)
    assert same(before, state(pipe))
    for pruned in (small, masked):
        mid = pruned.unet.mid_block
        one = pruned.unet.get_submodule(f"{ATTENTION}.attn1")
        assert mid.resnets[0] is mid.resnets[1] if share is twice else one.to_k.weight is one.to_q.weight


def test_a_shared_tensor_is_one_site_and_a_shared_block_is_cut_in_all_its_places():
    pipe, plain = shared(pipeline()), pipeline()
    names = [site.name for site in find(pipe.unet, "weight")]
    assert set(names) == {site.name for site in find(plain.unet, "weight")} - {f"{ATTENTION}.attn1.to_k"}
    heads = {site.name for site in find(plain.unet, "head")} - {site.name for site in find(pipe.unet, "head")}
    assert heads == {f"{ATTENTION}.attn1#heads"}
    assert left_out(pipe.unet, "head") == {"it shares a tensor with other layers": [f"{ATTENTION}.attn1"]}
    pipe = twice(pipeline())
    assert "mid_block.resnets.0#channels" in {site.name for site in find(pipe.unet, "channel")}
    assert not any(site.kind == "stream" for site in find(pipe.unet, "channel"))


@pytest.mark.parametrize("share", [shared, twice])
def test_shared_layers_are_counted_as_often_as_they_run(share):
    net, example = share(pipeline()).unet, Example(16, 8)
    with torch.device("meta"):
        inputs = arguments(net, example)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        on_meta(net)(**inputs)
    costs = trace(net, example)
    assert costs.count() == (sum(p.numel() for p in net.parameters()), counter.get_total_flops() // 2)
    once = trace(unet(), example)
    if share is twice:
        assert costs.uses["mid_block.resnets.0.conv1.weight"] == 2 * once.uses["mid_block.resnets.0.conv1.weight"]
        assert costs.count()[1] == once.count()[1]
    else:
        assert costs.uses[f"{ATTENTION}.attn1.to_q.weight"] == 2 * once.uses[f"{ATTENTION}.attn1.to_q.weight"]


# Sizes and settings at which a model cannot be counted.


def unfit():
    """28 px and four levels: 28, 14, 7, 4 on the way down, and 8 on the way up."""
    return ddpm_of(sample_size=28, block_out_channels=(16, 16, 32, 32), down_block_types=("DownBlock2D",) * 4,
                   up_block_types=("UpBlock2D",) * 4)


def ddpm_of(**changes):
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    pipe = ddpm()
    pipe.unet = UNet2DModel(norm_num_groups=8, layers_per_block=1, **changes).eval()
    return pipe


def with_ip_adapter():
    pipe, processors = pipeline(), {}
    for name in pipe.unet.attn_processors:
        width = pipe.unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
        processors[name] = AttnProcessor2_0() if ".attn1." in name else IPAdapterAttnProcessor2_0(width, 32, (4,))
    pipe.unet.set_attn_processor(processors)
    pipe.unet.config.encoder_hid_dim_type = "ip_image_proj"
    return pipe


@pytest.mark.parametrize(("make", "why"), [
    (unfit, "The MACs are not counted: a pass at its own size .28 wide, 0 tokens. fails with RuntimeError: Sizes of"),
    (with_ip_adapter, "The MACs of a UNet2DConditionModel with these settings are not counted yet")])
def test_a_model_that_cannot_be_counted_is_pruned_and_reported_with_the_reason(make, why):
    pipe = make()
    for units in ("weight", "width", "channel"):
        plan = pruning.plan(pipe, ratio=0.5, units=units)
        report = pruning.report(pipe, pruning.apply(pipe, plan), plan)
        assert report.units["gone"] > 0
        assert report.macs["dense"] is report.speed["theory"] is None
        assert re.match(why, report.speed["why"])
    with pytest.raises(pruning.Refused, match=why):
        pruning.plan(pipe, ratio=0.5, of="macs")
    assert pruning.plan(pipe, ratio=0.5, of="params", units="width").steps


def test_hooks_are_no_reason_to_forget_a_count():
    """What is in the way of a copy is not remembered: once it is gone, the same architecture is counted."""
    import accelerate


    net = unet(layers_per_block=2)
    accelerate.dispatch_model(net, {"": "cpu"}, force_hooks=True)
    assert "hooks of accelerate" in trace(net, Example(16, 8)).why
    accelerate.hooks.remove_hook_from_module(net, recurse=True)
    assert trace(net, Example(16, 8)).known
    cache.forget(["traces"])


# Attention of another form.


class Thin(nn.Module):
    """A projection by two narrow ones."""

    def __init__(self, layer):
        super().__init__()
        self.down, self.up = nn.Linear(layer.in_features, 4, bias=False), nn.Linear(4, layer.out_features)

    def forward(self, x):
        return self.up(self.down(x))


def thin(net):
    for module in list(net.modules()):
        if type(module).__name__ == "Attention":
            module.to_q = Thin(module.to_q)


def other_feed_forward(net):
    class FeedForward(nn.Module):
        """As Z-Image has it: named as that of diffusers, and built otherwise."""

        def __init__(self):
            super().__init__()
            self.w1, self.w2 = nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x):
            return self.w2(self.w1(x))

    for module in list(net.modules()):
        if type(module).__name__ == "BasicTransformerBlock" and module.norm3.normalized_shape == (32,):
            module.ff = FeedForward()


class Processor(AttnProcessor2_0):
    """Somebody's own: what it does with widths, nobody knows."""


@pytest.mark.parametrize(("change", "units", "reason"), [
    (thin, "head", "a projection is a Thin, not a linear layer"),
    (lambda net: net.set_attn_processor(Processor()), "head", "it is run by Processor, which is not known here"),
    (lambda net: setattr(net.get_submodule(f"{ATTENTION}.attn1"), "heads", 1), "head", "has a single head"),
    (lambda net: setattr(net.get_submodule(f"{ATTENTION}.attn1"), "heads", 5), "head", "width of 32 is not a multiple"),
    (lambda net: setattr(net.get_submodule(f"{ATTENTION}.attn1"), "to_k", nn.Linear(32, 16)), "head",
     "its keys and values have fewer heads than its queries"),
    (lambda net: setattr(net.get_submodule(f"{ATTENTION}.attn1"), "norm_q", nn.LayerNorm(32)), "head",
     "a norm goes over all of its 4 heads together"),
    (lambda net: setattr(net.get_submodule(f"{ATTENTION}.ff").net, "2", nn.Sequential(nn.Linear(128, 32))), "neuron",
     "a projection of its FeedForward is not a linear layer"),
    (other_feed_forward, "neuron", "its FeedForward is built otherwise"),
    (lambda net: setattr(net.mid_block.resnets[0], "conv1", nn.Conv2d(32, 32, 3, padding=1, groups=2)), "channel",
     "its ResnetBlock2D has other layers than plain convolutions")])
def test_every_layer_that_is_left_out_has_its_own_reason(change, units, reason):
    net, plain = unet(), unet()
    change(net)
    (found, layers), = ((found, layers) for found, layers in left_out(net, units).items() if reason in found)
    kept = {site.module for site in find(net, units)}
    assert kept.isdisjoint(layers)
    before = {site.module for site in find(plain, units) if site.kind == units and site.module != "time_embedding"}
    assert kept | set(layers) >= before
    for kind in ("weight", "neuron", "head", "channel", "width"):
        if not why_not(net, kind, "This model"):
            pruning.plan(net, ratio=0.5, units=kind)


def test_layers_that_are_left_out_are_told(caplog):
    net = unet()
    net.get_submodule(f"{ATTENTION}.attn1").heads = 1
    with caplog.at_level(logging.INFO, "prunescope"):
        pruning.plan(net, ratio=0.5, units="head")
    assert f"{ATTENTION}.attn1 keeps all of its units: its attention has a single head (1 of such layers" in caplog.text


def test_attention_with_keys_of_its_own_for_the_text_keeps_its_heads():
    """Kandinsky 2.2 and DeepFloyd IF."""
    net = unet(down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), block_out_channels=(16, 32),
               up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), attention_head_dim=8,
               mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=16, encoder_hid_dim=32,
               encoder_hid_dim_type="image_proj", addition_embed_type="image", resnet_time_scale_shift="scale_shift")
    given = {"sample": torch.randn(1, 4, 16, 16), "timestep": torch.tensor([5]), "encoder_hidden_states": None,
             "added_cond_kwargs": {"image_embeds": torch.randn(1, 32)}}
    with pytest.raises(pruning.Refused, match="it is run by AttnAddedKVProcessor2_0"):
        pruning.plan(net, ratio=0.5, units="head")
    plan = pruning.plan(net, ratio=0.5, units="width")
    small, masked = pruning.apply(net, plan), pruning.apply(net, plan, masked=True)
    with torch.no_grad():
        assert torch.allclose(small(**given)[0], masked(**given)[0], atol=1e-5)
        assert not torch.allclose(small(**given)[0], net(**given)[0], atol=1e-3)


def test_residual_streams_stay_where_a_controlnet_adds_to_them(tiny):
    from diffusers import StableDiffusionControlNetPipeline

    parts = {name: part for name, part in tiny.components.items() if name != "image_encoder"}
    pipe = StableDiffusionControlNetPipeline(
        **parts, controlnet=ControlNetModel.from_unet(
            tiny.unet, conditioning_channels=3, controlnet_conditioning_channel_order="rgb",
            conditioning_embedding_out_channels=(16, 32)), requires_safety_checker=False)
    for work in (lambda: pruning.plan(pipe, ratio=0.5, units="channel"),
                 lambda: pruning.apply(pipe, pruning.plan(tiny, ratio=0.5, units="channel"))):
        with pytest.raises(pruning.Refused, match=r'The controlnet of this pipeline adds.*Choose units="width"'):
            work()
    for how in ({"units": "width"}, {"units": "channel", "component": "vae.decoder"}):
        pruning.apply(pipe, pruning.plan(pipe, ratio=0.5, **how))
    small = pruning.apply(pipe, pruning.plan(pipe, ratio=0.5, units="width"))
    picture = torch.rand(1, 3, 32, 32)
    small("a", image=picture, num_inference_steps=1, output_type="np")


def test_a_pipeline_without_a_denoiser_says_what_there_is():
    from diffusers import DiffusionPipeline, PriorTransformer

    class Prior(DiffusionPipeline):
        def __init__(self, prior, text_encoder):
            super().__init__()
            self.register_modules(prior=prior, text_encoder=text_encoder)

    prior = PriorTransformer(num_attention_heads=2, attention_head_dim=4, num_layers=1, embedding_dim=8,
                             num_embeddings=7, additional_embeddings=4)
    pipe = Prior(prior, pipeline().text_encoder)
    with pytest.raises(pruning.Refused, match=r"Prior has no denoiser .unet or transformer.\. It has: text_encoder\. "
                                              r"Give one of its networks by itself, such as pipe\.prior"):
        pruning.plan(pipe, ratio=0.5)
    assert pruning.plan(pipe.prior, ratio=0.5).steps
    pipe = pipeline()
    object.__setattr__(pipe, "unet", object())
    with pytest.raises(pruning.Refused, match="The unet of StableDiffusionPipeline is a object, which is not a torch"):
        pruning.plan(pipe, ratio=0.5)


# NaN and infinity.


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), -float("nan")])
@pytest.mark.parametrize("tensor", ["mid_block.resnets.0.conv1.weight", "mid_block.resnets.0.norm1.bias"])
@pytest.mark.parametrize("how", [
    {}, {"method": "random"}, {"method": "lamp"}, {"units": "width"}, {"units": "head"}, {"method": "wanda"},
    {"pattern": "2:4", "ratio": None}, {"protect": ("mid_block*",)}])
def test_weights_that_are_no_numbers_are_refused_by_name(how, tensor, value):
    pipe = pipeline()
    with torch.no_grad():
        pipe.unet.get_parameter(tensor).view(-1)[0] = value
    with pytest.raises(pruning.Refused, match=f"{tensor} has values that are NaN or infinite"):
        pruning.plan(pipe, **{"ratio": 0.5} | how)


def test_scores_that_are_no_numbers_are_refused_by_name(tiny):
    scores = pruning.score(tiny, "magnitude", units="head")
    name = f"{ATTENTION}.attn1#heads"
    for value in (float("nan"), float("inf"), -1.0):
        scores.values[name][0] = value
        with pytest.raises(pruning.Refused, match=f"The scores of {name} are NaN, infinite or below zero"):
            pruning.plan(tiny, ratio=0.5, units="head", scores=scores)


def test_inputs_that_are_no_numbers_are_told_from_weights_that_are_not():
    pipe = pipeline()
    with torch.no_grad():  # finite weights, whose product is not
        pipe.unet.conv_in.weight.fill_(1e38)
    with pytest.raises(pruning.Refused, match=r"though its weights are not\. What it is given may be too large"):
        pruning.plan(pipe, "wanda", 0.5, calibration=pruning.Calibration(samples=2, source="noise"))


def test_large_weights_are_finite():
    assert finite(torch.full((4,), 3e38))
    assert finite(torch.full((40000,), 6e4).half())
    assert finite(torch.tensor([2**62]))
    assert not finite(torch.tensor([3e38, float("inf")]))
    assert not finite(torch.tensor([float("nan")]).bfloat16())


# An output that does not change.


def test_a_pair_that_is_equal_bit_for_bit_though_much_went_is_suspicious(tiny, caplog):
    plan = pruning.plan(tiny, ratio=0.5)
    smaller = pruning.apply(tiny, plan)
    shot = Shot("a", steps=1)
    with caplog.at_level(logging.WARNING, "prunescope"):
        list(draw_pair(tiny, smaller, shot))
        assert not caplog.text
        smaller.unet.forward = tiny.unet.forward  # as a patch that holds on to the dense one does
        list(draw_pair(tiny, smaller, shot))
    assert "drew bit for bit what the dense one did" in caplog.text


def test_nothing_is_suspicious_where_only_zeros_went(caplog):
    pipe = pipeline()
    with torch.no_grad():
        for name, tensor in pipe.unet.named_parameters():
            if "resnets" in name and name.endswith("conv1.weight"):
                tensor[::2] = 0
    plan = pruning.plan(pipe, ratio=0.5, only=("*resnets*conv1",))
    with caplog.at_level(logging.WARNING, "prunescope"):
        list(draw_pair(pipe, pruning.apply(pipe, plan), Shot("a", steps=1)))
    assert not caplog.text
    assert isinstance(pipe.unet, UNet2DConditionModel)
    assert subject(pipe).component == "unet"
