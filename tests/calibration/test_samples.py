"""What components are shown: pictures, prompts and random inputs, by hand and refused in words."""

import copy
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import pipeline
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    UNet2DModel,
)
from PIL import Image
from torch import nn

from pruning import cache
from pruning.calibration import call, pictures, samples
from pruning.drawing import canvas
from pruning.drawing.images import draw
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.notes import note
from pruning.network.subject import subject
from pruning.types import Calibration, Shot


@pytest.fixture(autouse=True)
def nothing_kept():
    """Every test makes its calls anew."""
    cache.forget(["calibration samples"])


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Three pictures, of which the first has a caption."""
    folder = tmp_path_factory.mktemp("album")
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (48, 40), colour).save(folder / f"{i}.png")
    (folder / "0.txt").write_text("a b\n")
    (folder / "notes.md").write_text("not a picture")
    return folder


@pytest.fixture
def shown(tiny, album):
    """The U-Net's calls for some changes of a small calibration."""
    def make(component="unet", pipe=tiny, **changes):
        looked_at = subject(pipe, component)
        return samples.calls(looked_at, samples.settled(
            looked_at, replace(Calibration(samples=4, source=str(album)), **changes)))
    return make


def with_schedule(pipe, **changes):
    other = copy.copy(pipe)
    other.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, **changes)
    return other


def encoded(tiny, folder):
    """The pictures' latents, one after the other."""
    opened = [pictures.opened(folder / f"{i}.png", 32) for i in range(3)]
    return canvas.of(tiny).latents(tiny.image_processor.preprocess(opened)).detach()


# Pictures at their noise levels.


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_target_and_the_noisy_latents_give_the_picture_back(tiny, album, shown, kind):
    pipe = with_schedule(tiny, prediction_type=kind)
    calls, clean = shown(pipe=pipe), encoded(tiny, album)
    for i, one in enumerate(calls):
        signal = DDIMScheduler.from_config(pipe.scheduler.config).alphas_cumprod[one.inputs["timestep"]]
        a, s, x, y = signal.sqrt(), (1 - signal).sqrt(), one.inputs["sample"], one.target
        back = {"epsilon": (x - s * y) / a, "v_prediction": a * x - s * y, "sample": y}[kind]
        assert torch.allclose(back, clean[i % 3 : i % 3 + 1], atol=1e-4)
        assert one.target.dtype == torch.float32
        assert one.target.shape == samples.answer(pipe.unet, one).shape


def test_levels_are_the_middles_of_equal_shares(shown):
    assert [one.level for one in shown()] == [0.125, 0.375, 0.625, 0.875]
    assert [int(one.inputs["timestep"]) for one in shown(samples=2)] == [250, 750]


def test_given_timesteps_come_in_turn(shown):
    assert [int(one.inputs["timestep"]) for one in shown(timesteps=(7, 990), samples=3)] == [7, 990, 7]


def test_guidance_shows_each_sample_with_its_prompt_and_with_none(tiny, shown):
    calls = shown(guidance=3.0, samples=2)
    assert len(calls) == 4
    empty = tiny.encode_prompt("", "cpu", 1, False)[0]
    for with_, without in (calls[:2], calls[2:]):
        assert torch.equal(with_.inputs["sample"], without.inputs["sample"])
        assert torch.equal(without.inputs["encoder_hidden_states"], empty)
        assert with_.level == without.level
    assert not torch.equal(calls[0].inputs["encoder_hidden_states"], empty)
    assert len(shown(guidance=1.0, samples=2)) == 2


def test_captions_stand_beside_pictures_and_prompts_fill_in(album):
    assert [caption for _, caption in pictures.inside(album)] == ["a b", "", ""]
    assert [caption for _, caption in pictures.inside(album, ("x", "y"))] == ["a b", "y", "x"]


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (8, 4), (0, 0, 0, 0)).save(tmp_path / "a.webp")
    assert pictures.opened(tmp_path / "a.webp", 4).getpixel((1, 1)) == (255, 255, 255)


def test_a_file_that_is_no_picture_is_named(tmp_path, shown):
    (tmp_path / "a.png").write_bytes(b"nonsense")
    with pytest.raises(Refused, match=r"a\.png cannot be read as a picture"):
        shown(source=str(tmp_path))


def test_the_same_seed_gives_the_same_calls_and_random_numbers_stay_as_they_were(shown):
    stream = torch.get_rng_state()
    first = shown(seed=3)
    cache.forget(["calibration samples"])
    for one, again, other in zip(first, shown(seed=3), shown(seed=4), strict=True):
        assert torch.equal(one.inputs["sample"], again.inputs["sample"])
        assert torch.equal(one.target, again.target)
        assert not torch.equal(one.inputs["sample"], other.inputs["sample"])
    assert torch.equal(stream, torch.get_rng_state())


def test_half_precision_gets_its_inputs_and_keeps_the_target(album):
    half = pipeline().to(torch.float16)
    one = samples.calls(subject(half), Calibration(samples=1, source=str(album)))[0]
    assert {name: value.dtype for name, value in one.inputs.items()} == {
        "sample": torch.float16, "timestep": torch.int64, "encoder_hidden_states": torch.float16}
    assert one.target.dtype == torch.float32


# What the model draws for itself.


def test_generated_samples_are_what_the_model_draws(tiny):
    looked_at = subject(tiny)
    calls = samples.calls(looked_at, Calibration(("a", "b"), samples=3, timesteps=(0,), seed=5, source="generated"))
    *_, drawn = draw(tiny, Shot(("a", "b"), seed=5))
    signal = DDIMScheduler.from_config(tiny.scheduler.config).alphas_cumprod[0]
    clean = [signal.sqrt() * one.inputs["sample"] - (1 - signal).sqrt() * one.target for one in calls]
    for latents, expected in zip(clean, (0, 1, 0), strict=True):
        assert torch.allclose(latents, drawn.latents[expected], atol=1e-3)


def test_noise_of_calls_is_not_the_noise_that_drawings_began_with(tiny, shown):
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    last = shown(timesteps=(999,), samples=1)[0].inputs["sample"]  # all noise: this schedule ends at zero signal
    assert abs(float((last * start).mean())) < 0.2


# Other components.


def test_a_text_encoder_reads_each_prompt_once(tiny):
    looked_at = subject(tiny, "text_encoder")
    calls = samples.calls(looked_at, Calibration(("a", "b", "a"), guidance=2.0, source="generated"))
    assert [one.inputs["input_ids"].tolist() for one in calls] == [
        [[0, 2, *[1] * 6]], [[0, 3, *[1] * 6]], [[0, *[1] * 7]]]
    assert samples.answer(looked_at.net, calls[0]).shape == (1, 8, 32)
    assert all((one.level, one.target) == (0.0, None) for one in calls)


def test_a_decoder_gets_what_the_autoencoder_hands_it(tiny, album, shown):
    calls, latents = shown("vae.decoder"), encoded(tiny, album)
    assert len(calls) == 3
    with torch.no_grad():
        for one, clean in zip(calls, latents.split(1), strict=True):
            expected = tiny.vae.decode(clean / tiny.vae.config.scaling_factor).sample
            assert torch.allclose(samples.answer(tiny.vae.decoder, one), expected, atol=1e-5)


# Random inputs.


def test_a_bare_denoiser_should_answer_with_the_noise_that_it_is_shown(tiny):
    looked_at = subject(tiny.unet)
    calibration = samples.settled(looked_at, None)
    assert calibration == Calibration(source="noise")
    calls = samples.calls(looked_at, replace(calibration, samples=2))
    assert [one.level for one in calls] == [0.25, 0.75]
    assert calls[0].inputs["sample"].shape == (1, 4, 16, 16)
    assert torch.equal(calls[0].inputs["sample"], calls[0].target)
    assert calls[0].inputs["encoder_hidden_states"].std() > 0.5


def test_a_network_for_a_schedule_of_another_kind_has_no_known_answer(tiny):
    random = Calibration(samples=1, source="noise")
    assert samples.calls(subject(tiny), samples.settled(subject(tiny), random))[0].target is None
    epsilon = with_schedule(tiny, prediction_type="epsilon")
    assert samples.calls(subject(epsilon), random)[0].target is not None


def test_every_kind_of_input_is_filled():
    torch.manual_seed(0)
    flux = FluxTransformer2DModel(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
                                  num_attention_heads=2, joint_attention_dim=8, pooled_projection_dim=8,
                                  axes_dims_rope=(4, 6, 6), guidance_embeds=True)
    dit = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, num_layers=1, sample_size=8, patch_size=2,
                                num_embeds_ada_norm=10, out_channels=8, norm_num_groups=8)
    for net in (flux, dit):
        looked_at = subject(net.eval())
        if net is flux:
            looked_at = replace(looked_at, example=replace(looked_at.example, latent=8, tokens=4))
        one = samples.calls(looked_at, samples.settled(looked_at, Calibration(samples=1, source="noise")))[0]
        answer = samples.answer(net, one)
        assert answer.isfinite().all()
        assert answer[:, : one.target.shape[1]].shape == one.target.shape
    assert answer.shape[1] == 2 * one.target.shape[1]  # DiT's variances follow


@pytest.fixture
def unprompted():
    """A pipeline that takes no prompts, of 8 x 8 pixels and 100 timesteps."""
    torch.manual_seed(0)
    net = UNet2DModel(sample_size=8, block_out_channels=(16, 16), down_block_types=("DownBlock2D",) * 2,
                      up_block_types=("UpBlock2D",) * 2, norm_num_groups=8, layers_per_block=1)
    return subject(DDPMPipeline(net.eval(), DDPMScheduler(num_train_timesteps=100)))


def test_a_pipeline_without_prompts_is_shown_noise(unprompted):
    looked_at = unprompted
    assert samples.sources(looked_at) == ["generated", "noise"]
    calls = samples.calls(looked_at, samples.settled(looked_at, Calibration(samples=2, source="noise")))
    assert [int(one.inputs["timestep"]) for one in calls] == [25, 75]
    assert samples.answer(looked_at.net, calls[0]).shape == (1, 3, 8, 8)


def test_a_pipeline_without_prompts_is_shown_pixels_of_a_folder(unprompted, album):
    looked_at = unprompted
    clean = torch.stack([torch.from_numpy(np.array(pictures.opened(album / f"{i}.png", 8))) for i in range(3)])
    clean = clean.movedim(-1, 1).float() / 255 * 2 - 1
    asked = samples.settled(looked_at, Calibration(samples=4, source=str(album)))
    calls = samples.calls(looked_at, asked)
    for i, one in enumerate(calls):  # the target is the noise: taken away, the picture is left
        assert set(one.inputs) == {"sample", "timestep"}
        signal = looked_at.pipe.scheduler.alphas_cumprod[int(one.inputs["timestep"])]
        back = (one.inputs["sample"] - (1 - signal).sqrt() * one.target) / signal.sqrt()
        assert torch.allclose(back[0], clean[i % 3], atol=1e-3)


def test_a_pipeline_without_prompts_draws_for_itself(unprompted):
    looked_at = unprompted
    calls = samples.calls(looked_at, samples.settled(looked_at, Calibration(samples=3, source="generated")))
    assert [one.inputs["sample"].shape for one in calls] == [(1, 3, 8, 8)] * 3


@pytest.mark.parametrize("changes", [{"prompts": ("a cat",)}, {"guidance": 3.0}])
def test_a_pipeline_without_prompts_is_not_prompted(unprompted, changes):
    with pytest.raises(Refused, match="takes no prompts"):
        samples.settled(unprompted, Calibration(source="generated", **changes))


# What can be asked for.


def test_defaults(tiny):
    assert samples.settled(subject(tiny), None) == Calibration(source="generated")
    bundled = subject(note(copy.copy(tiny), source="emoji-sd"))
    assert samples.settled(bundled, None) == Calibration()
    assert samples.sources(bundled) == ["bundled", "generated", "noise"]
    assert call._captions(bundled, Calibration(samples=1, source="generated")) == ["red heart on a white background"]
    assert samples.settled(bundled, Calibration(samples=3, source="")).source == "bundled"
    assert samples.settled(bundled, Calibration("a cat", source="")).source == "generated"
    assert samples.settled(subject(tiny), Calibration("a cat", timesteps=3, source="generated")) == Calibration(
        ("a cat",), timesteps=(3,), source="generated")


@pytest.mark.parametrize(("changes", "words"), [
    ({"samples": 0}, "The samples of a calibration cannot be 0. It is a whole number from 1 to 1024"),
    ({"samples": 1025}, "from 1 to 1024"), ({"samples": True}, "cannot be True"),
    ({"timesteps": (5, 1000)}, "A timestep of a calibration cannot be 1000. It is a whole number from 0 to 999"),
    ({"guidance": float("nan")}, "guidance of a calibration cannot be nan"), ({"seed": -1}, "seed"),
    ({"prompts": (3,)}, "They are texts"),
    ({"source": "bundled"}, "cannot be shown samples from the source 'bundled'. Choose generated or noise, or"),
    ({"source": "nowhere/at/all"}, "no samples at 'nowhere/at/all'"),
    ({"source": "."}, "no pictures"), ({"source": "noise", "prompts": ("a",)}, "no prompts and no guidance")])
def test_what_cannot_be_is_refused_with_the_remedy(tiny, tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)  # an empty folder
    with pytest.raises(Refused, match=words):
        samples.settled(subject(tiny), Calibration(**{"source": "generated"} | changes))


def test_bundled_pictures_keep_their_captions(tiny):
    with pytest.raises(Refused, match="captions of their own"):
        samples.settled(subject(note(copy.copy(tiny), source="emoji-sd")), Calibration(("a cat",)))


def test_why_not(tiny):
    for component in ("unet", "text_encoder", "vae.decoder"):
        assert samples.why_not(subject(tiny, component), "weights") is None
        assert samples.why_not(subject(tiny, component), "inputs") is None
    assert samples.why_not(subject(tiny), "gradients") is None
    assert samples.why_not(subject(tiny.unet), "gradients") is None
    assert "The text encoder is no denoiser" in samples.why_not(subject(tiny, "text_encoder"), "gradients")
    assert "Linear takes is not known" in samples.why_not(subject(nn.Linear(2, 2)), "inputs")
    with torch.device("meta"):
        shapes = nn.Linear(2, 2)
    assert "shapes and no weights" in samples.why_not(subject(shapes), "inputs")
    lone = with_schedule(tiny)
    lone.tokenizer = None
    assert "random inputs alone" in samples.why_not(subject(lone), "gradients")
    with pytest.raises(Refused, match="sees weights alone"):
        samples.settled(subject(nn.Linear(2, 2)), None)


# Keeping.


def test_calls_are_made_once_and_again_when_anything_is_other(tiny, other, album, shown):
    looked_at, encodings = subject(tiny), []
    watch = tiny.vae.encoder.register_forward_hook(lambda *_: encodings.append(1))
    try:
        first, again = shown(), shown()
        assert len(encodings) == 1
        assert all(one is two for one, two in zip(first, again, strict=True))
        shown(seed=9)
        assert len(encodings) == 2
    finally:
        watch.remove()
    calibration = Calibration(samples=1, source=str(album))
    marks = {samples.mark(one, calibration) for one in (looked_at, subject(other), subject(with_schedule(
        tiny, prediction_type="epsilon")))}
    assert len(marks) == 3
    assert samples.mark(subject(pipeline()), calibration) == samples.mark(looked_at, calibration)  # by content


def test_making_tells_how_far_it_is_and_can_be_abandoned(tiny, album):
    looked_at, before = subject(tiny), fingerprint(tiny.unet)
    calibration = Calibration(("a",) * 5, samples=5, source="generated")
    work = samples.making(looked_at, calibration)
    seen = [next(work) for _ in range(3)]
    assert [(one.done, one.of, one.what) for one in seen] == [(4 * i, 100, "drawing pictures to look at")
                                                              for i in (1, 2, 3)]
    work.close()
    assert not cache.sizes()["calibration samples"]
    assert fingerprint(tiny.unet) == before


# The bundled pictures.


def test_the_bundled_pictures_show_every_colour_and_are_small():
    folder = pictures.MODELS / "emoji-sd" / "calibration"
    listed = json.loads((folder / "captions.json").read_text())
    colours = [caption.split(" on a ")[1] for caption in listed.values()]
    assert len(listed) == len(set(listed.values())) == 24
    assert sorted(colours[:12] * 2) == sorted(colours)
    assert len(set(colours)) == 12
    assert {file.name for file in folder.glob("*.png")} == set(listed)
    assert all(Image.open(folder / name).size == (128, 128) for name in listed)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 200_000


def test_those_without_a_prompt_show_every_glyph_on_every_colour_and_are_small():
    folder = pictures.MODELS / "emoji-ddpm" / "calibration"
    listed = json.loads((folder / "captions.json").read_text())
    pairs = [caption.split(" on a ") for caption in listed.values()]
    glyphs, colours = {glyph for glyph, _ in pairs}, {colour for _, colour in pairs}
    assert (len(glyphs), len(colours)) == (24, 12)
    assert len({tuple(pair) for pair in pairs}) == len(listed) == 24 * 12
    assert {glyph for glyph, _ in pairs[:24]} == glyphs  # few are varied, too
    assert {glyph for glyph, _ in pairs[7::8]} == glyphs  # and those that a recovery keeps apart
    assert {file.name for file in folder.glob("*.png")} == set(listed)
    assert all(Image.open(folder / name).size == (32, 32) for name in listed)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 400_000


@pytest.mark.parametrize("model", ["emoji-sd", "emoji-ddpm"])
def test_the_bundled_pictures_are_made_again_by_one_command(model):
    from assets.make import calibration
    try:
        made = calibration.MAKERS[model]()
    except FileNotFoundError as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    for file, caption in pictures.captioned(pictures.MODELS / model / "calibration"):
        assert list(Image.open(file).getdata()) == list(made[caption].getdata())
