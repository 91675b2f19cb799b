"""Real architectures without weights: known numbers, pipelines of shapes or random values, and unlisted classes."""

import json
import shutil

import pytest
import torch
from conftest import same, state, unet
from diffusers import (
    AuraFlowTransformer2DModel,
    FluxTransformer2DModel,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    StableCascadeUNet,
    UNet2DModel,
)

import pruning
from pruning.__main__ import main
from pruning.errors import Later
from pruning.models import configs, saving
from pruning.models.sources import ARCHITECTURES, SLUGS
from pruning.network.fingerprint import fingerprint
from pruning.network.inputs import Example, tokens_of
from pruning.network.notes import plan_of, source_of
from pruning.network.size import total
from pruning.network.subject import subject
from pruning.units.costs import trace

# Parameters; MACs of convolutions and linear layers; MACs with attention; latent width; tokens. The parameters are
# known from the published weights, but those of sd3.5-medium were measured here. So were most MACs; published in G:
# 6.0655 for ddpm-cifar10 and 99.80 for ldm4-cin256, biases and norms included (Diff-Pruning), 338.6 and 401.6 for
# sd-1.5, 118.64 for dit-xl-2.
KNOWN = {
    "ddpm-cifar10": (35_746_307, 6_053_953_536, 6_221_856_768, 32, 0),
    "ldm4-cin256": (400_920_579, 99_769_810_944, 104_227_160_064, 64, 1),
    "sd-1.5": (859_520_964, 338_610_585_600, 401_636_720_640, 64, 77),
    "sd-2.1-base": (865_910_724, 339_102_597_120, 402_128_732_160, 64, 77),
    "sdxl-base": (2_567_463_684, 2_988_660_490_240, 3_380_618_199_040, 128, 77),
    "sd3.5-medium": (2_243_171_520, 3_508_520_484_864, 5_624_786_853_888, 128, 333),
    "pixart-sigma": (610_856_096, 2_155_185_782_784, 3_316_789_886_976, 128, 300),
    "dit-xl-2": (749_826_464, 114_438_979_584, 118_666_838_016, 32, 0),
    "flux-dev": (11_901_408_320, 29_756_127_707_136, 37_192_326_709_248, 128, 512),
    "flux-schnell": (11_891_178_560, 29_756_117_483_520, 37_192_316_485_632, 128, 512),
}


@pytest.fixture
def inspected(capsys):
    """What ``inspect`` prints for a model that it accepts."""

    def run(*argv):
        assert main(["inspect", *map(str, argv), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def layouts(tiny_folder, tmp_path):
    """The tiny pipeline's folder without its weights."""
    return shutil.copytree(tiny_folder, tmp_path / "layouts", ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.fixture(scope="module")
def ddpm():
    """The smallest architecture with random values."""
    return pruning.load("ddpm-cifar10", weights="random")


# Known numbers.


def test_every_architecture_has_its_folder_and_known_numbers():
    assert set(KNOWN) == set(SLUGS) == {path.name for path in ARCHITECTURES.iterdir() if path.is_dir()}


@pytest.mark.parametrize("slug", KNOWN)
def test_known_numbers(inspected, slug):
    found = inspected(slug)
    params, plain, macs, latent, tokens = KNOWN[slug]
    assert (found["params"], found["macs_linear_conv"], found["macs"]) == (params, plain, macs)
    assert found["input"] == {"latent": latent, "tokens": tokens, "batch": 1}
    assert found["model"] == slug
    config = json.loads((ARCHITECTURES / slug / found["component"] / "config.json").read_text())
    assert found["class"] == config["_class_name"]
    for key in ("params", "macs"):
        assert sum(block[key] for block in found["blocks"]) == found[key]
    assert sum(block["units"]["weight"] for block in found["blocks"]) > 0.9 * params * (slug != "dit-xl-2")


def test_published_figures():
    assert [round(count / 1e9, 1) for count in KNOWN["sd-1.5"][1:3]] == [338.6, 401.6]
    assert KNOWN["dit-xl-2"][2] == pytest.approx(118.64e9, rel=1e-3)
    assert KNOWN["ldm4-cin256"][1] == pytest.approx(99.80e9, rel=1e-3)
    assert KNOWN["ddpm-cifar10"][1] == pytest.approx(6.0655e9, rel=2e-3)


def test_dit_has_the_parameters_of_its_paper_and_a_copy_of_its_embeddings_in_each_block():
    embeddings = 1001 * 1152 + (256 + 1) * 1152 + (1152 + 1) * 1152  # classes and none; two layers for the step
    positions = 256 * 1152  # parameters there, a buffer here
    assert KNOWN["dit-xl-2"][0] == 675_129_632 - positions + 27 * embeddings


@pytest.mark.parametrize(("slug", "products"), [
    ("dit-xl-2", 28 * 2 * 256 ** 2 * 1152),
    ("pixart-sigma", 28 * 2 * (4096 + 300) * 4096 * 1152),  # to itself, and to the text
    ("sd3.5-medium", 24 * 2 * (4096 + 333) ** 2 * 1536 + 13 * 2 * 4096 ** 2 * 1536),  # jointly; 13 layers twice
    ("flux-dev", (19 + 38) * 2 * (4096 + 512) ** 2 * 3072),
])
def test_attention_by_its_formula(slug, products):
    _, plain, macs, _, _ = KNOWN[slug]
    assert macs - plain == products


def test_a_decoder_of_an_architecture(inspected):
    found = inspected("sd-1.5", "--component", "vae.decoder")
    assert (found["class"], found["params"]) == ("Decoder", 49_490_179)
    assert found["macs"] > found["macs_linear_conv"] > 10 ** 12


def test_a_prompt_is_as_long_as_its_tokenizer_gives_but_no_longer_than_usual():
    net = FluxTransformer2DModel(num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=1,
                                 axes_dims_rope=(2, 2, 4), in_channels=4, joint_attention_dim=8,
                                 pooled_projection_dim=8)
    assert [tokens_of(net, longest) for longest in (None, 24, 10 ** 9)] == [512, 24, 512]
    assert [tokens_of(unet(), longest) for longest in (None, 8, 256, 10 ** 9)] == [77, 8, 256, 512]
    assert trace(net, Example(8, 24)).known


@pytest.mark.parametrize(("changes", "known"), [
    ({"num_class_embeds": 3}, True), ({"addition_embed_type": "image", "encoder_hid_dim": 8}, False),
    ({"class_embed_type": "projection", "projection_class_embeddings_input_dim": 8}, False)])
def test_unets_that_want_more_than_a_prompt(changes, known):
    assert trace(unet(**changes), Example(16, 8)).known is known


def test_a_class_conditional_ddpm_is_counted():
    net = UNet2DModel(sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
                      down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=3)
    looked_at = subject(net)
    assert looked_at.example == Example(8, 0)
    assert trace(net, looked_at.example).known


# Pipelines.


@pytest.mark.parametrize("slug", SLUGS)
def test_shapes_only(slug):
    pipe = pruning.load(slug, weights="meta")
    index = json.loads((ARCHITECTURES / slug / "model_index.json").read_text())
    assert type(pipe).__name__ == index["_class_name"]
    assert source_of(pipe) == slug
    for name, part in pipe.components.items():
        assert type(part).__name__ == (index[name][1] or "NoneType")
    assert {tensor.device.type for tensor in subject(pipe).net.state_dict().values()} == {"meta"}
    assert not subject(pipe).net.training


def test_architectures_are_small_and_plain():
    files = [path for path in ARCHITECTURES.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".md"}
    assert sum(path.stat().st_size for path in files) < 50_000
    told = (ARCHITECTURES / "README.md").read_text()
    assert all(slug in told and hub_id in told for slug, hub_id in SLUGS.items())


def test_random_values_follow_the_seed(ddpm, layouts):
    before = torch.get_rng_state()
    again, other = (pruning.load(layouts, weights="random", seed=seed).unet for seed in (5, 6))
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    assert same(state(again), state(pruning.load(layouts, weights="random", seed=5).unet))
    assert not torch.equal(again.conv_in.weight, other.conv_in.weight)
    assert {tensor.dtype for tensor in ddpm.unet.parameters()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in ddpm.unet.parameters())
    assert total(ddpm.unet) == KNOWN["ddpm-cifar10"][0]
    assert type(ddpm.scheduler).__name__ == "DDPMScheduler"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("weights", ["random", "meta"])
def test_the_type_that_was_asked_for(layouts, weights, dtype):
    pipe = pruning.load(layouts, weights=weights, dtype=dtype)
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    assert {tensor.dtype for part in parts for tensor in part.parameters()} == {dtype}
    assert torch.get_default_dtype() == torch.float32


def test_a_random_architecture_is_pruned_saved_and_loaded(ddpm, tmp_path):
    plan = pruning.plan(ddpm, ratio=0.5, units="width")
    small = pruning.apply(ddpm, plan)
    report = pruning.report(ddpm, small, plan)
    assert report.macs["counted_at"] == {"latent": 32, "tokens": 0, "batch": 1}
    assert report.params["pruned"] < 0.7 * report.params["dense"]
    folder = pruning.save(small, tmp_path / "out")
    assert same(state(pruning.load(folder).unet), state(small.unet))
    shapes = pruning.load(folder, weights="meta")
    assert total(shapes.unet) == report.params["pruned"]
    assert plan_of(shapes).steps == plan.steps
    with pytest.raises(pruning.Refused, match="is a pruned model"):
        pruning.load(folder, weights="random")


def test_a_folder_of_configs_gives_a_whole_pipeline(tiny, layouts):
    pipe = pruning.load(layouts, weights="random")
    assert {name: tensor.shape for name, tensor in state(pipe).items()} == {
        name: tensor.shape for name, tensor in state(tiny).items()}
    assert not same(state(pipe), state(tiny))
    *_, drawn = pruning.generate(pipe, pruning.Shot("a", steps=2))
    assert drawn.images[0].size == (32, 32)
    with pytest.raises(pruning.Refused, match="no weights, so it cannot draw"):
        list(pruning.generate(pruning.load(layouts, weights="meta"), pruning.Shot("a")))


def test_what_a_folder_lacks_is_none(layouts, tmp_path):
    shutil.rmtree(layouts / "tokenizer")
    shutil.rmtree(layouts / "text_encoder")
    pipe = pruning.load(layouts, weights="random")
    assert pipe.tokenizer is pipe.text_encoder is None
    assert fingerprint(pipe.unet)[0] == fingerprint(pruning.load(layouts, weights="meta").unet)[0]
    again = pruning.load(pruning.save(pipe, tmp_path / "out"))
    assert again.tokenizer is again.text_encoder is None
    assert same(state(again.unet), state(pipe.unet))
    with pytest.raises(pruning.Refused, match="it has no text_encoder, tokenizer"):
        list(pruning.generate(again, pruning.Shot("a")))


def test_a_bundled_model_and_a_bare_one(layouts):
    assert pruning.load("emoji-sd", weights="meta").unet.device.type == "meta"
    net = pruning.load(layouts / "unet", weights="random", seed=3)
    assert type(net).__name__ == "UNet2DConditionModel"
    assert same(state(net), state(pruning.load(layouts / "unet", weights="random", seed=3)))


# Looking without reading.


def test_configs_are_inspected_as_the_whole_folder_is(inspected, tiny_folder, layouts, monkeypatch):
    monkeypatch.setattr(saving, "read", None)  # no weights are read
    for component in ("unet", "vae.decoder", "text_encoder"):
        one, other = (inspected(folder, "--component", component) for folder in (tiny_folder, layouts))
        assert {**one, "model": ""} == {**other, "model": ""}
    assert inspected(layouts / "unet")["params"] == inspected(layouts)["params"]
    assert inspected("emoji-sd")["input"]["tokens"] == 32


# Refusals.


@pytest.mark.parametrize(("source", "how", "words"), [
    ("sd-1.5", {}, ("configs without weights", 'weights="random" or weights="meta"',
                    "stable-diffusion-v1-5/stable-diffusion-v1-5")),
    ("ldm4-cin256", {}, ("configs without weights", 'weights="meta".')),  # it is on no hub
    ("sd-1.5", {"weights": "rendom"}, ("cannot be 'rendom'", "trained, random or meta")),
    ("sd-1.6", {"weights": "meta"}, ("no model 'sd-1.6'", "sd-1.5")),
    ("emoji-clip", {"weights": "meta"}, ("cannot draw",)),
])
def test_what_cannot_be_loaded(source, how, words):
    with pytest.raises(pruning.Refused) as caught:
        pruning.load(source, **how)
    assert all(word in str(caught.value) for word in words)


def test_a_hub_id_without_its_weights_comes_later():
    with pytest.raises(Later, match="weights='meta' for some/model"):
        pruning.load("some/model", weights="meta")


@pytest.mark.parametrize(("dtype", "figure"), [(None, "47.61 GB in float32"), (torch.bfloat16, "23.8 GB in bfloat16")])
def test_too_large_for_memory(monkeypatch, dtype, figure):
    monkeypatch.setattr(configs.memory, "available", lambda: 20 * 10 ** 9)
    monkeypatch.setattr(configs, "seeded", None)  # nothing is made
    with pytest.raises(pruning.Refused) as caught:
        pruning.load("flux-dev", weights="random", dtype=dtype)
    assert f"flux-dev takes {figure}, and the limit here is 10 GB" in str(caught.value)
    assert 'weights="meta"' in caught.value.remedy


def test_drawing_with_an_architecture():
    with pytest.raises(pruning.Refused, match="it has no text_encoder, tokenizer"):
        list(pruning.generate(pruning.load("sd-1.5", weights="meta"), pruning.Shot("a")))


# Classes that nobody listed.

UNLISTED = {
    AuraFlowTransformer2DModel: {
        "sample_size": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 8,
        "num_attention_heads": 2, "caption_projection_dim": 16, "joint_attention_dim": 16, "pos_embed_max_size": 16},
    LuminaNextDiT2DModel: {
        "sample_size": 8, "hidden_size": 24, "num_layers": 2, "num_attention_heads": 3, "num_kv_heads": 1,
        "multiple_of": 16, "cross_attention_dim": 16},
    Lumina2Transformer2DModel: {
        "sample_size": 8, "hidden_size": 24, "num_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 3,
        "num_kv_heads": 1, "multiple_of": 16, "axes_dim_rope": (4, 2, 2), "cap_feat_dim": 16},
    StableCascadeUNet: {
        "in_channels": 4, "out_channels": 4, "conditioning_dim": 16, "block_out_channels": (16, 32),
        "num_attention_heads": (2, 4), "down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1),
        "down_blocks_repeat_mappers": (1, 1), "up_blocks_repeat_mappers": (1, 1), "switch_level": (False,),
        "block_types_per_layer": (("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
        "clip_text_pooled_in_channels": 16, "clip_text_in_channels": 16},
}

HEADED = (AuraFlowTransformer2DModel, StableCascadeUNet)  # their attention is one that is known


@pytest.fixture(scope="module")
def unlisted():
    """Tiny random networks of classes that no table knows."""
    torch.manual_seed(0)
    return {kind: kind(**settings).eval() for kind, settings in UNLISTED.items()}


@pytest.mark.parametrize("kind", UNLISTED, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", [{"ratio": 0.5}, {"ratio": 0.5, "spread": "global"}, {"pattern": "2:4"}])
def test_weights_of_unlisted_classes_are_pruned(unlisted, kind, how):
    net = unlisted[kind]
    plan = pruning.plan(net, **how)
    small = pruning.apply(net, plan)
    report = pruning.report(net, small, plan)
    assert type(small) is kind
    assert report.units["gone"] == sum(layer.gone for layer in report.layers) > 0.4 * report.units["total"]
    zeros = sum(int((tensor == 0).sum()) for tensor in small.parameters())
    assert zeros == report.params["dense"] - report.params["nonzero"] >= report.units["gone"]
    assert report.macs["dense"] is None


@pytest.mark.parametrize("kind", [k for k in UNLISTED if k not in HEADED], ids=lambda kind: kind.__name__)
def test_width_of_unlisted_classes_is_refused_with_the_reason(unlisted, kind):
    with pytest.raises(pruning.Refused, match=r"known here|fewer heads than its queries|that Prunescope knows"):
        pruning.plan(unlisted[kind], ratio=0.5, units="width")


def test_an_unlisted_class_is_inspected_with_unknown_macs(inspected, unlisted, tmp_path):
    net = unlisted[AuraFlowTransformer2DModel]
    net.save_pretrained(tmp_path / "net")
    found = inspected(tmp_path / "net")
    assert (found["class"], found["params"], found["macs"]) == ("AuraFlowTransformer2DModel", total(net), None)
