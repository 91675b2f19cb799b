"""What can draw and at which size; NaN, gray pictures, other autoencoders, denoisers that want more than a prompt."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import pipeline, unet
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderTiny,
    ConsistencyDecoderVAE,
    DDPMPipeline,
    DDPMScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DModel,
    VQModel,
)
from PIL import Image

import pruning
from pruning.__main__ import main
from pruning.calibration import call, pictures, samples
from pruning.drawing import canvas, images
from pruning.drawing.images import Drawn, draw, draw_pair, preview_of
from pruning.network.subject import subject
from pruning.types import Calibration, Shot


def holding(tiny, **parts):
    pipe = StableDiffusionPipeline(**{**tiny.components, **parts}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(pipe, prompt="a b", **shot):
    *_, done = draw(pipe, Shot(prompt, **{"steps": 2, "seed": 4} | shot))
    return done


def net(**changes):
    torch.manual_seed(0)
    tiny = {"sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 8, "layers_per_block": 1,
            "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    pipe = DDPMPipeline(UNet2DModel(**tiny | changes).eval(), DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


# What is wanted besides.


@pytest.mark.parametrize(("changes", "words"), [
    ({"in_channels": 9}, "is for inpainting: it takes 9 channels, and latents have 4"),
    ({"in_channels": 8}, "edits pictures"), ({"in_channels": 7}, "takes 7 channels"),
    ({"out_channels": 5}, "gives 5 channels"), ({"num_class_embeds": 3}, "is told a class"),
    ({"class_embed_type": "timestep"}, "is told a class"),
    ({"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80},
     "added_cond_kwargs, 'text_time'"),
    ({"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 32}, "is shown a picture besides the prompt"),
    ({"cross_attention_dim": 24}, "takes prompts of 24 values a token, and the text encoder gives 32"),
])
def test_a_unet_that_wants_more_than_a_prompt_is_refused(tiny, tmp_path, capsys, changes, words):
    pipe = holding(tiny, unet=unet(**changes))
    with pytest.raises(pruning.Refused, match=words):
        picture(pipe)
    with pytest.raises(pruning.Refused, match=words):
        pruning.measure(pipe, pipe, Shot("a"))
    assert words in str(canvas.why_not(pipe))
    assert "generated" not in samples.sources(subject(pipe))
    if samples.sources(subject(pipe)):  # random inputs at least
        with pytest.raises(pruning.Refused, match=words):
            pruning.plan(pipe, method="wanda", ratio=0.5, calibration=Calibration(samples=1, source=str(tmp_path)))
    assert pruning.plan(pipe, ratio=0.5).recipe.ratio == 0.5  # planned all the same
    if "in_channels" in changes:
        pipe.save_pretrained(tmp_path / "model")
        assert main(["generate", str(tmp_path / "model"), "--prompt", "a", "-o", str(tmp_path / "out")]) == 1
        assert words in capsys.readouterr().err


def test_an_unprompted_unet_that_wants_a_class_or_has_other_channels_is_refused(tiny):
    for changes, words in (({"num_class_embeds": 3}, "is told a class"), ({"in_channels": 4, "out_channels": 4},
                           "Pictures of 4 channels cannot be shown"), ({"out_channels": 5}, "gives 5 channels")):
        for work in (lambda pipe: picture(pipe, ""), preview_of):
            with pytest.raises(pruning.Refused, match=words):
                work(net(**changes))
    with pytest.raises(pruning.Refused, match="reads a prompt, and DDPMPipeline gives none"):
        picture(DDPMPipeline(tiny.unet, DDPMScheduler()), "")


def test_what_a_pipeline_lacks_or_hides_is_named(tiny):
    for name in ("vae", "unet", "scheduler"):
        pipe = copy.copy(tiny)
        setattr(pipe, name, None)
        with pytest.raises(pruning.Refused, match=f"it has no {name}"):
            picture(pipe)
    deleted = copy.copy(tiny)
    del deleted.vae
    with pytest.raises(pruning.Refused, match="it has no vae"):
        picture(deleted)
    wrapped = copy.copy(tiny)
    wrapped.unet = torch.nn.DataParallel(tiny.unet)
    with pytest.raises(pruning.Refused, match=r"a DataParallel, .*pipe\.unet = pipe\.unet\.module"):
        picture(wrapped)


def test_a_tokenizer_that_gives_more_than_the_text_encoder_reads_is_refused(tiny):
    reader = copy.deepcopy(tiny.tokenizer)
    reader.model_max_length = 77
    with pytest.raises(pruning.Refused, match=r"up to 77 tokens .*, and the text encoder reads 8"):
        picture(holding(tiny, tokenizer=reader))


# Guidance as an embedding.


@pytest.mark.parametrize("guidance", [1.0, 8.0])
def test_a_unet_that_is_told_its_guidance_draws_as_in_diffusers(tiny, guidance):
    pipe = holding(tiny, unet=unet(time_cond_proj_dim=16), scheduler=LCMScheduler())
    pipe.scheduler = images.scheduler(pipe, "ddim")
    expected = pipe("a b", num_inference_steps=2, guidance_scale=guidance, output_type="latent",
                    generator=[torch.Generator().manual_seed(4)]).images
    assert torch.equal(picture(pipe, guidance=guidance).latents, expected)
    assert not torch.equal(picture(pipe, guidance=guidance + 1).latents, expected)


def test_samples_for_a_unet_that_is_told_its_guidance_have_it_and_come_once(tiny):
    looked_at = subject(holding(tiny, unet=unet(time_cond_proj_dim=16)))
    calls = {of: samples.calls(looked_at, Calibration(("a", "b"), samples=2, guidance=of, source="generated"))
             for of in (0.0, 5.0)}
    assert [len(found) for found in calls.values()] == [2, 2]
    told = {of: found[0].inputs["timestep_cond"] for of, found in calls.items()}
    assert torch.equal(told[5.0], looked_at.pipe.get_guidance_scale_embedding(torch.tensor([4.0]), 16))
    assert torch.equal(told[0.0], looked_at.pipe.get_guidance_scale_embedding(torch.tensor([2.0]), 16))


# Sizes and channels.


def test_gray_pictures_are_drawn_shown_and_learnt_from(tmp_path):
    pipe = net(in_channels=1, out_channels=1)
    done = picture(pipe, "", images=2)
    assert [one.mode for one in done.images] == ["L", "L"]
    expected = (done.latents[0, 0] * 0.5 + 0.5).clamp(0, 1) * 255
    assert np.array_equal(np.asarray(done.images[0]), expected.round().byte().numpy())
    assert preview_of(pipe).image(torch.zeros(1, 2, 2)).getpixel((0, 0)) == (128, 128, 128)
    Image.new("RGB", (20, 20), (30, 30, 30)).save(tmp_path / "a.png")
    seen = samples.calls(subject(pipe), Calibration(samples=1, timesteps=(0,), source=str(tmp_path)))[0]
    assert seen.inputs["sample"].shape == (1, 1, 16, 16)
    assert float(seen.inputs["sample"].mean()) == pytest.approx(30 / 255 * 2 - 1, abs=0.02)
    pair = [event for event in draw_pair(pipe, pruning.apply(pipe, pruning.plan(pipe, ratio=0.5)), Shot(steps=2))
            if isinstance(event, Drawn)]
    from pruning.metrics.quality import compared
    assert 0 < compared(*pair, [""], [], None).ssim < 1


def test_a_rectangle_is_drawn_as_by_diffusers(tiny, tmp_path):
    pipe = net(sample_size=(16, 24))
    done = picture(pipe, "")
    pipe.scheduler = images.scheduler(pipe, "ddim")
    stock = pipe(generator=[torch.Generator().manual_seed(4)], num_inference_steps=2).images
    assert np.array_equal(np.asarray(done.images[0]), np.asarray(stock[0]))
    assert done.images[0].size == (24, 16)
    wide = holding(tiny, unet=unet(sample_size=(16, 24)))
    assert picture(wide).images[0].size == (48, 32)
    Image.new("RGB", (100, 100), "red").save(tmp_path / "a.png")
    shown = Calibration(samples=1, source=str(tmp_path))
    assert samples.calls(subject(wide), shown)[0].inputs["sample"].shape == (1, 4, 16, 24)


def test_without_a_size_of_its_own_the_shot_says_it(tiny):
    pipe = holding(tiny, unet=unet(sample_size=None))
    with pytest.raises(pruning.Refused, match="no size of its own"):
        picture(pipe)
    assert picture(pipe, size=32).images[0].size == (32, 32)
    assert "generated" not in samples.sources(subject(pipe))


def test_sizes_that_do_not_fit_the_levels_are_refused_with_the_nearest():
    deep = {"block_out_channels": (16,) * 4, "down_block_types": ("DownBlock2D",) * 4,
            "up_block_types": ("UpBlock2D",) * 4}
    pipe = net(**deep, sample_size=28)
    with pytest.raises(pruning.Refused, match=r"28 px wide: its U-Net halves a picture 3 times.*such as 24 or 32"):
        picture(pipe, "")
    with pytest.raises(pruning.Refused, match="28 px wide"):
        list(draw(net(**deep, sample_size=32), Shot(size=28)))
    for size in (8, 24, 32):
        assert picture(pipe, "", size=size).images[0].size == (size, size)
    for size, near in ((1, "8"), (4, "8"), (31, "24 or 32")):
        with pytest.raises(pruning.Refused, match=f"such as {near}"):
            picture(pipe, "", size=size)
    assert "generated" not in samples.sources(subject(pipe))


# Other autoencoders.


def autoencoder(kind):
    torch.manual_seed(0)
    usual = {"latent_channels": 4, "norm_num_groups": 8}
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    match kind:
        case "AutoencoderTiny":
            made = AutoencoderTiny(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
                                   num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), latent_channels=4)
        case "AsymmetricAutoencoderKL":
            made = AsymmetricAutoencoderKL(down_block_out_channels=(16, 32), up_block_out_channels=(16, 32), **levels,
                                           **usual)
        case "VQModel":
            made = VQModel(block_out_channels=(16, 32), num_vq_embeddings=16, **levels, **usual)
        case "VQModel, spatial":
            made = VQModel(block_out_channels=(32, 32), num_vq_embeddings=16, norm_type="spatial", latent_channels=4,
                           **levels)
        case _:
            made = ConsistencyDecoderVAE(
                encoder_block_out_channels=(32, 32), encoder_down_block_types=("DownEncoderBlock2D",) * 2,
                encoder_layers_per_block=1, decoder_block_out_channels=(32, 32), decoder_layers_per_block=1,
                decoder_down_block_types=("ResnetDownsampleBlock2D",) * 2, decoder_norm_num_groups=8,
                decoder_up_block_types=("ResnetUpsampleBlock2D",) * 2)
    return made.eval()


AUTOENCODERS = ("AutoencoderTiny", "AsymmetricAutoencoderKL", "VQModel", "VQModel, spatial", "ConsistencyDecoderVAE")


@pytest.fixture(params=AUTOENCODERS)
def other(request, tiny):
    """A pipeline with another autoencoder."""
    return holding(tiny, vae=autoencoder(request.param))


def test_another_autoencoder_draws_as_in_diffusers(other):
    torch.manual_seed(5)
    stream, done = torch.get_rng_state(), picture(other)
    assert torch.equal(stream, torch.get_rng_state())
    assert np.array_equal(np.asarray(done.images[0]), np.asarray(picture(other).images[0]))
    other.scheduler = images.scheduler(other, "ddim")
    if not isinstance(other.vae, VQModel):  # which its pipeline cannot call: decode takes no generator
        stock = other("a b", negative_prompt="", num_inference_steps=2, guidance_scale=3.0,
                      generator=[torch.Generator().manual_seed(4)]).images
        assert np.array_equal(np.asarray(done.images[0]), np.asarray(stock[0]))
    assert preview_of(other).weight.isfinite().all()
    assert done.origin.params > sum(p.numel() for p in other.unet.parameters())


def test_another_autoencoder_encodes_and_hands_its_decoder_what_that_takes(other, tmp_path):
    Image.effect_noise((40, 40), 60).convert("RGB").save(tmp_path / "a.png")
    shown = Calibration(samples=1, source=str(tmp_path))
    around, opened = canvas.of(other), pictures.opened(tmp_path / "a.png", 32)
    pixels = other.image_processor.preprocess(opened)
    with torch.no_grad():
        found, encoded = around.latents(pixels), other.vae.encode(pixels)
        raw = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
        assert torch.allclose(found, raw * other.vae.config.scaling_factor)
        assert samples.calls(subject(other), shown)[0].inputs["sample"].shape == (1, 4, 16, 16)
        if hasattr(other.vae, "decoder"):
            decoded = other.vae.decode(found / other.vae.config.scaling_factor, return_dict=False)[0]
            own = other.vae.decoder(**pictures.decodable(other.vae, found))
            assert torch.allclose(own, decoded, atol=1e-5)


def test_a_tiny_autoencoder_is_calibrated_and_recovered_with(tiny, tmp_path):
    pipe = holding(tiny, vae=autoencoder("AutoencoderTiny"))
    Image.effect_noise((40, 40), 60).convert("RGB").save(tmp_path / "a.png")
    shown = Calibration(samples=1, source=str(tmp_path))
    for component in ("unet", "vae.decoder"):
        assert pruning.plan(pipe, method="wanda", ratio=0.5, component=component, calibration=shown).steps
    with torch.no_grad():
        assert call.place(pruning.recover(pruning.apply(pipe, pruning.plan(pipe, ratio=0.5)), pipe, steps=1, batch=1,
                                          calibration=shown).unet)


# NaN.


def broken(where, value=float("nan")):
    pipe = pipeline()
    weight = {"unet": pipe.unet.mid_block.resnets[0].conv1.weight, "decoder": pipe.vae.decoder.conv_in.weight,
              "text encoder": [*pipe.text_encoder.parameters()][-1]}[where]
    with torch.no_grad():
        weight.view(-1)[0] = value
    return pipe


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["unet", "text encoder"])
def test_a_drawing_stops_at_the_step_that_is_nan(where, value):
    events = draw(broken(where, value), Shot("a", steps=5))
    with pytest.raises(pruning.Refused, match="this model became NaN or infinite at step 1 of 5"):
        next(events)


def test_a_later_step_is_named_and_nothing_comes_after_it(tiny):
    """A hook that breaks the third call."""
    pipe, calls = copy.copy(tiny), []
    pipe.unet = copy.deepcopy(tiny.unet)
    pipe.unet.register_forward_hook(lambda net, given, out: (calls.append(1), (out[0] / (len(calls) != 3),))[1])
    events, seen = draw(pipe, Shot("a", steps=5, guidance=1)), []
    with pytest.raises(pruning.Refused, match="at step 3 of 5"):
        seen.extend(events)
    assert (len(seen), len(calls)) == (2, 3)


def test_a_decoder_that_gives_nan_draws_no_black_picture():
    with pytest.raises(pruning.Refused, match="decoder of this model gives NaN or infinity, so there is no picture"):
        picture(broken("decoder"))


def test_the_side_that_is_broken_is_named_and_no_verdict_is_given(tiny, tmp_path, capsys):
    good = pruning.apply(tiny, pruning.plan(tiny, ratio=0.5))
    with pytest.raises(pruning.Refused, match="The output of the pruned model became NaN"):
        list(draw_pair(tiny, broken("unet"), Shot("a", steps=2)))
    with pytest.raises(pruning.Refused, match="The output of the dense model became NaN"):
        list(draw_pair(broken("unet"), good, Shot("a", steps=2)))
    broken("unet").save_pretrained(tmp_path / "nan")
    assert main(["--json", "generate", str(tmp_path / "nan"), "--prompt", "a", "-o", str(tmp_path / "out")]) == 1
    assert "NaN" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not list(tmp_path.glob("out/*.png"))


def test_samples_that_a_broken_model_draws_are_refused():
    with pytest.raises(pruning.Refused, match="became NaN"):
        samples.calls(subject(broken("unet")), Calibration(("a",), samples=1, source="generated"))


# Prompts that are longer than what is read.


def test_what_is_not_read_of_a_prompt_is_said(tiny, tmp_path, capsys):
    assert picture(tiny, "a b a b a b").notes == ()  # six tokens between the first and the last
    cut = picture(tiny, "a b a b a b b a")
    assert cut.notes == ("The prompt was cut after 8 tokens: “b a” was not read.",)
    assert torch.equal(cut.latents, picture(tiny, "a b a b a b").latents)
    both = picture(tiny, ("a", "a b a b a b b"), negative="b a b a b a a", guidance=2.0).notes
    assert both == ("Prompt 2 was cut after 8 tokens: “b” was not read.",
                    "The negative prompt was cut after 8 tokens: “a” was not read.")
    assert picture(tiny, "a", negative="b a b a b a a", guidance=1.0).notes == ()  # nobody reads it
    tiny.save_pretrained(tmp_path / "model")
    flags = ["--prompt", "a b a b a b b a", "--steps", "1", "--size", "16", "-o", str(tmp_path / "out")]
    assert main(["--json", "generate", str(tmp_path / "model"), *flags]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == list(cut.notes)
    assert main(["generate", str(tmp_path / "model"), *flags]) == 0
    assert cut.notes[0] in capsys.readouterr().out
    assert Image.open(tmp_path / "out/image_0.png").size == (16, 16)


def test_captions_that_are_cut_are_counted(tiny, caplog):
    with caplog.at_level("WARNING", "prunescope"):
        samples.calls(subject(tiny), Calibration(("a b a b a b b", "b"), samples=2, seed=8, source="generated"))
    assert "1 of 2 captions are longer than the text encoder reads" in caplog.text
