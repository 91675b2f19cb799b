"""Show mode draws what diffusers draws, bit for bit; two draw in turn; stopping leaves no trace."""

import copy
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from conftest import ddpm, same, state
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    StableDiffusionPipeline,
)

import pruning
from pruning.drawing import canvas
from pruning.drawing.images import Drawn, Preview, Stepped, draw, draw_pair, origin, preview_of, scheduler, starts
from pruning.drawing.samplers import SAMPLERS

SHOT = pruning.Shot("a b", steps=3, seed=4)


def drawn(events):
    """The pictures at the end, by side."""
    return {event.side: event for event in events if isinstance(event, Drawn)}


def pixels(images):
    return np.stack([np.asarray(image) for image in images])


def stock(tiny, shot, count):
    """(pictures, latents) by diffusers alone."""
    kind = getattr(diffusers, SAMPLERS[shot.sampler])
    pipe = StableDiffusionPipeline(**{**tiny.components, "scheduler": kind.from_config(tiny.scheduler.config)},
                                   requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    values = {"prompt": list(shot.prompts), "negative_prompt": [shot.negative] * len(shot.prompts),
              "num_inference_steps": shot.steps, "guidance_scale": shot.guidance, "latents": starts(tiny, shot, count),
              "num_images_per_prompt": shot.images, "height": shot.size, "width": shot.size}
    return pixels(pipe(**values).images), pipe(**values, output_type="latent").images


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pictures_are_those_of_diffusers(tiny, sampler, guidance):
    negative = "b" if guidance > 1 else ""
    shot = pruning.Shot("a b", negative, steps=3, seed=4, sampler=sampler, guidance=guidance)
    done = drawn(pruning.generate(tiny, shot))["dense"]
    images, latents = stock(tiny, shot, 1)
    assert torch.equal(done.latents, latents)
    assert np.array_equal(pixels(done.images), images)
    assert images.shape == (1, 32, 32, 3)
    assert images.std() > 1


def test_prompts_images_and_size_are_those_of_diffusers(tiny):
    shot = pruning.Shot(("a", "b b"), negative="a", steps=2, images=2, size=24)
    done = drawn(pruning.generate(tiny, shot))["dense"]
    images, latents = stock(tiny, shot, 4)
    assert torch.equal(done.latents, latents)
    assert np.array_equal(pixels(done.images), images)
    assert images.shape == (4, 24, 24, 3)


def test_everything_in_a_shot_changes_the_picture(tiny):
    plain = drawn(draw(tiny, SHOT))["dense"].latents
    for change in ({"prompts": "b"}, {"negative": "b"}, {"seed": 5}, {"steps": 4}, {"guidance": 1.0},
                   {"sampler": "euler"}):
        values = {**SHOT.to_dict(), **change}
        assert not torch.equal(plain, drawn(draw(tiny, pruning.Shot(**values)))["dense"].latents), change
    assert torch.equal(plain, drawn(draw(tiny, pruning.Shot(**SHOT.to_dict())))["dense"].latents)


def test_samplers_differ_and_keep_the_noise_schedule(tiny):
    assert len({type(scheduler(tiny, name)) for name in SAMPLERS}) == len(SAMPLERS) == 4
    for name in SAMPLERS:
        config = scheduler(tiny, name).config
        assert config.prediction_type == "v_prediction"
        assert config.rescale_betas_zero_snr
        assert config.timestep_spacing == "trailing"
    assert scheduler(tiny, "ddim") is not tiny.scheduler


def test_picture_i_starts_from_seed_plus_i(tiny):
    noise = starts(tiny, pruning.Shot("a", seed=5, images=3), 3)
    assert noise.shape == (3, 4, 16, 16)
    assert torch.equal(noise[1:2], starts(tiny, pruning.Shot("a", seed=6), 1))
    assert not torch.equal(noise[0], noise[2])


def test_a_step_is_an_event(tiny):
    events = list(draw(tiny, SHOT, "pruned"))
    assert [type(event) for event in events] == [Stepped] * 3 + [Drawn]
    assert [(event.index, event.steps) for event in events[:-1]] == [(0, 3), (1, 3), (2, 3)]
    assert {event.side for event in events} == {"pruned"}
    assert all(event.ms > 0 for event in events[:-1])
    assert events[-1].ms == tuple(event.ms for event in events[:-1])
    assert torch.equal(events[-1].latents, events[-2].latents)


def test_a_pair_of_one_pipeline_draws_equal_pictures(tiny):
    done = drawn(draw_pair(tiny, tiny, SHOT))
    assert torch.equal(done["dense"].latents, done["pruned"].latents)
    assert np.array_equal(pixels(done["dense"].images), pixels(done["pruned"].images))
    assert np.array_equal(pixels(done["dense"].images), pixels(drawn(draw(tiny, SHOT))["dense"].images))


def test_a_pair_draws_in_turn_and_the_first_alternates(tiny):
    smaller = pruning.apply(tiny, pruning.plan(tiny, ratio=0.5, units="width"))
    events = list(draw_pair(tiny, smaller, SHOT))
    assert [event.side[0] for event in events] == list("dppddp" + "dp")
    assert [event.index for event in events[:6]] == [0, 0, 1, 1, 2, 2]
    done = drawn(events)
    for side, pipe in (("dense", tiny), ("pruned", smaller)):
        assert torch.equal(done[side].latents, drawn(draw(pipe, SHOT))["dense"].latents)
    assert not torch.equal(done["dense"].latents, done["pruned"].latents)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_stopping_leaves_no_trace(tiny, sampler):
    pipe = copy.copy(tiny)
    pipe.scheduler = DDIMScheduler.from_config(tiny.scheduler.config)  # one that has never been used
    before, kept = state(tiny), copy.deepcopy(vars(pipe.scheduler))
    shot = pruning.Shot("a b", steps=3, sampler=sampler)
    whole = drawn(draw(pipe, shot))["dense"].latents
    for stream in (draw(pipe, shot), draw_pair(pipe, pipe, shot)):
        next(stream)
        next(stream)
        stream.close()
        assert list(stream) == []
    assert same(before, state(tiny))
    assert repr(vars(pipe.scheduler)) == repr(kept)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.unet.modules())
    assert torch.equal(whole, drawn(draw(pipe, shot))["dense"].latents)


def test_drawings_at_the_same_time_do_not_meet(tiny):
    shots = [pruning.Shot("a", steps=4, sampler="dpm++"), pruning.Shot("b b", steps=4, seed=9, sampler="dpm++")]
    alone = [drawn(draw(tiny, shot))["dense"].latents for shot in shots]
    pairs = list(zip(*(draw(tiny, shot) for shot in shots), strict=True))
    for latents, event in zip(alone, pairs[-1], strict=True):
        assert torch.equal(latents, event.latents)


def test_a_picture_says_which_model_made_it(tiny):
    dense = drawn(draw(tiny, SHOT))["dense"].origin
    parts = (tiny.unet, tiny.text_encoder, tiny.vae.decoder)
    assert dense.params == sum(tensor.numel() for part in parts for tensor in part.parameters())
    assert drawn(draw(tiny, SHOT))["dense"].origin == dense
    for how in ({"pattern": "2:4"}, {"ratio": 0.5, "component": "text_encoder"}, {
            "ratio": 0.5, "component": "vae.decoder"}):
        plan = pruning.plan(tiny, **how)
        sparse = pruning.apply(tiny, plan)
        made = drawn(draw(sparse, SHOT))["dense"].origin
        report = pruning.report(tiny, sparse, plan)
        assert made.params == dense.params
        assert made.zeros - dense.zeros == report.params["dense"] - report.params["nonzero"] - zeros(tiny, plan)
        assert made.zeros > dense.zeros
        assert made.weights != dense.weights
    plan = pruning.plan(tiny, ratio=0.5, units="width")
    report = pruning.report(tiny, narrow := pruning.apply(tiny, plan), plan)
    assert origin(narrow).params == dense.params - report.params["dense"] + report.params["pruned"]


def zeros(tiny, plan):
    """Of the dense component."""
    net = pruning.network.subject.subject(tiny, plan.recipe.component).net
    return sum(int((tensor == 0).sum()) for tensor in net.parameters())


def test_a_preview_is_a_linear_map():
    preview = Preview(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 2.0]]))  # red is the latent; green and blue are fixed
    image = np.asarray(preview.image(torch.tensor([[[0.0, 0.2], [1.0, -3.0]]])))
    assert image.tolist() == [[[0, 128, 255], [51, 128, 255]], [[255, 128, 255], [0, 128, 255]]]


def test_a_preview_has_a_pixel_for_each_latent(tiny):
    before = state(tiny)
    preview = preview_of(tiny)
    assert preview.weight.shape == (5, 3)
    assert torch.allclose(preview.weight, preview_of(tiny).weight, atol=1e-4)
    for event in draw(tiny, pruning.Shot("a", steps=2, size=24)):
        assert preview.image(event.latents[0]).size == (12, 12)
    assert same(before, state(tiny))


def test_a_preview_finds_the_map_of_a_linear_decoder():
    """One whose colours we know, from latents in the pipeline's scale; each is two pixels wide."""
    true = torch.tensor([[0.1, 0.0, -0.05], [0.02, 0.1, 0.0], [0.4, 0.5, 0.6]])

    def decode(latents, return_dict):
        colours = torch.einsum("bchw,cr->brhw", latents * 0.5, true[:2]) + true[2, :, None, None]
        return (2 * torch.nn.functional.interpolate(colours, scale_factor=2) - 1,)

    config = SimpleNamespace(latent_channels=2, scaling_factor=0.5)
    vae = SimpleNamespace(config=config, device="cpu", dtype=torch.float32, decode=decode)
    assert torch.allclose(canvas.Prompted(SimpleNamespace(vae=vae)).colours(), true, atol=1e-5)


@pytest.mark.parametrize(("values", "words"), [({"sampler": "plms"}, "There are ddim"),
                                               ({"size": 15}, "multiple of 2")])
def test_shots_that_this_pipeline_cannot_draw_are_refused(tiny, values, words):
    for stream in (draw(tiny, pruning.Shot("a", **values)), draw_pair(tiny, tiny, pruning.Shot("a", **values))):
        with pytest.raises(pruning.Refused, match=words):
            list(stream)


@pytest.mark.parametrize("values", [{"steps": 0}, {"steps": 1001}, {"images": 0}, {"images": 65}, {"guidance": -1},
                                    {"guidance": 51}, {"prompts": ()}, {"size": 0}, {"size": -8}])
def test_shots_that_nothing_can_draw_are_refused(values):
    with pytest.raises(pruning.Refused, match=next(iter(values))):
        pruning.Shot(**values)


@pytest.fixture(scope="module")
def unprompted():
    """A pipeline that takes no prompt."""
    return ddpm()


def test_pictures_without_a_prompt_are_those_of_diffusers(unprompted):
    shot = pruning.Shot(seed=4, images=2, steps=5, guidance=7)  # there is nothing to guide
    done = drawn(pruning.generate(unprompted, shot))["dense"]
    stock = DDIMPipeline(unprompted.unet, DDIMScheduler.from_config(unprompted.scheduler.config))
    stock.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(shot.seed + i) for i in range(2)]
    images = stock(2, noise, num_inference_steps=5).images
    assert np.array_equal(pixels(done.images), pixels(images))
    assert pixels(images).shape == (2, 16, 16, 3)
    assert pixels(images).std() > 1


def test_a_preview_without_an_autoencoder_is_the_picture(unprompted):
    done = drawn(pruning.generate(unprompted, pruning.Shot(steps=3)))["dense"]
    seen = preview_of(unprompted).image(done.latents[0])
    assert np.abs(pixels([seen]).astype(int) - pixels(done.images)).max() <= 1


def test_a_prompt_that_would_go_unheard_is_refused(unprompted):
    for shot in (pruning.Shot("a cat"), pruning.Shot(negative="a cat")):
        with pytest.raises(pruning.Refused, match="it takes no prompt"):
            list(pruning.generate(unprompted, shot))


def test_other_pipelines_are_refused(unprompted):
    with pytest.raises(pruning.Refused, match="DDIMPipeline is not part of this version"):
        list(pruning.generate(DDIMPipeline(unprompted.unet, DDIMScheduler()), SHOT))
