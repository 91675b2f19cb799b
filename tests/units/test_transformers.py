"""Heads and neurons of transformers whose pictures and texts attend jointly: SD3 and FLUX, tiny and random."""

import pytest
import torch
from conftest import same
from diffusers import (
    AuraFlowTransformer2DModel,
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
)
from torch import nn

import pruning
from pruning.calibration import samples
from pruning.network.subject import subject
from pruning.types import Calibration
from pruning.units.catalog import catalog, find
from pruning.units.costs import trace

NETS = {
    "sd3": lambda: SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=16, caption_projection_dim=32, pooled_projection_dim=16,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm"),
    "flux": lambda: FluxTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=4,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8)),
    "dit": lambda: DiTTransformer2DModel(sample_size=8, num_layers=2, num_attention_heads=4, attention_head_dim=8,
                                         in_channels=4, out_channels=8, num_embeds_ada_norm=10),
    "pixart": lambda: PixArtTransformer2DModel(sample_size=8, num_layers=2, num_attention_heads=4, attention_head_dim=8,
                                               in_channels=4, out_channels=8, cross_attention_dim=32,
                                               caption_channels=16)}


@pytest.fixture(scope="module", params=NETS)
def net(request):
    torch.manual_seed(0)
    made = NETS[request.param]().eval()
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(torch.randn(tensor.shape) * 0.05)  # what begins as zero would hide what is cut
    return made


def answer(net):
    looked_at = subject(net)
    (call,) = samples.calls(looked_at, samples.settled(looked_at, Calibration(samples=1, source="noise")))
    return samples.answer(net, call)


@pytest.mark.parametrize("units", ["head", "neuron", "width"])
def test_masked_sliced_and_reloaded_are_the_same(net, units, tmp_path):
    plan = pruning.plan(net, "random", 0.5, units=units, protect=())
    small, masked = pruning.apply(net, plan), pruning.apply(net, plan, masked=True)
    assert torch.allclose(answer(small), answer(masked), atol=1e-5)
    assert (answer(small) - answer(net)).abs().max() > 1e-3
    looked_at = subject(net)
    kept = {name: sum(stop - start for start, stop in spans) for name, spans in plan.steps[0].decision.sites.items()}
    assert catalog(net, units, looked_at.example).count(kept) == trace(small, looked_at.example).count()
    again = pruning.load(pruning.save(small, tmp_path / "small"))
    assert same(again.state_dict(), small.state_dict())
    assert torch.allclose(answer(again), answer(small), atol=1e-6)


@pytest.mark.parametrize(("slug", "heads", "of", "neurons"), [
    ("sd3.5-medium", 37, 24, 47), ("flux-schnell", 57, 24, 76), ("dit-xl-2", 28, 16, 28), ("pixart-sigma", 56, 16, 28)])
def test_every_block_of_an_architecture_has_heads_and_neurons(slug, heads, of, neurons):
    whole = subject(pruning.load(slug, weights="meta")).net
    assert [site.units for site in find(whole, "head")] == [of] * heads
    assert len(list(find(whole, "neuron"))) == neurons


def test_a_single_block_of_flux_shares_one_projection():
    torch.manual_seed(0)
    made = NETS["flux"]()
    sites = {site.name: site for units in ("head", "neuron") for site in find(made, units)}
    attention, forward = (sites[f"single_transformer_blocks.0{name}"] for name in (".attn#heads", "#neurons"))
    spans = [(member.offset, member.offset + site.units * member.size) for site in (attention, forward)
             for member in site.members if member.tensor.endswith("proj_out.weight")]
    assert spans == [(0, 64), (64, 320)]
    assert made.single_transformer_blocks[0].proj_out.in_features == 320


def test_a_norm_over_all_heads_is_left_alone():
    net = NETS["sd3"]()
    net.transformer_blocks[0].attn.norm_q = nn.RMSNorm(32)  # over four heads of eight
    assert [site.name for site in find(net, "head")] == [
        "transformer_blocks.0.attn2#heads", "transformer_blocks.1.attn#heads", "transformer_blocks.2.attn#heads"]


@torch.no_grad()
def test_joint_attention_of_other_classes_loses_heads_as_well():
    """AuraFlow's costs are not known here; its heads are."""
    torch.manual_seed(0)
    net = AuraFlowTransformer2DModel(sample_size=8, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
                                     num_attention_heads=4, joint_attention_dim=16, caption_projection_dim=32,
                                     pos_embed_max_size=16).eval()
    for tensor in net.parameters():
        tensor.add_(torch.randn(tensor.shape) * 0.1)
    plan = pruning.plan(net, "random", 0.5, units="head", protect=())
    given = {"hidden_states": torch.randn(1, 4, 8, 8), "encoder_hidden_states": torch.randn(1, 6, 16),
             "timestep": torch.tensor([0.5])}
    small, masked = (pruning.apply(net, plan, masked=masked)(**given).sample for masked in (False, True))
    assert torch.allclose(small, masked, atol=1e-5)
    assert (small - net(**given).sample).abs().max() > 1e-4
