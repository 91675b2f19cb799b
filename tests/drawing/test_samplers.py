"""Samplers follow a pipeline's own noise schedule as diffusers does, whatever its class, or say why not."""

import inspect

import diffusers
import numpy as np
import pytest
import torch
from conftest import ddpm
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)

import pruning
from pruning.drawing import canvas, images, samplers
from pruning.drawing.images import Drawn, draw, draw_pair
from pruning.drawing.samplers import SAMPLERS

LEVELS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CLASSES = sorted(name for name in dir(diffusers) if name.endswith("Scheduler"))


def with_scheduler(tiny, scheduler):
    pipe = StableDiffusionPipeline(**{**tiny.components, "scheduler": scheduler}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def latents(pipe, **shot):
    *_, done = draw(pipe, pruning.Shot(**{"prompts": "a b", "steps": 3, "seed": 4} | shot))
    return done.latents


def of_diffusers(pipe, sampler, **values):
    """What diffusers draws after the usual change of the scheduler."""
    own = getattr(diffusers, SAMPLERS[sampler]).from_config(pipe.scheduler.config)
    generators = [torch.Generator().manual_seed(4 + i) for i in range(2)]
    return with_scheduler(pipe, own)("a b", negative_prompt="", num_images_per_prompt=2, generator=generators,
                                     output_type="latent", **values).images


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", [
    PNDMScheduler(**LEVELS), PNDMScheduler(**LEVELS, skip_prk_steps=True, steps_offset=1), LCMScheduler(**LEVELS),
    EulerDiscreteScheduler(**LEVELS), EulerDiscreteScheduler(**LEVELS, use_karras_sigmas=True),
    EulerAncestralDiscreteScheduler(**LEVELS), DDPMScheduler(**LEVELS), DDIMScheduler(**LEVELS),
    DDIMScheduler(**LEVELS, clip_sample=True, thresholding=True),
    DDPMScheduler(num_train_timesteps=100, trained_betas=[0.01] * 100),
    DPMSolverMultistepScheduler(**LEVELS, algorithm_type="sde-dpmsolver++"),
    DPMSolverMultistepScheduler(**LEVELS, algorithm_type="sde-dpmsolver", final_sigmas_type="sigma_min"),
], ids=lambda schedule: type(schedule).__name__)
def test_latents_are_those_of_diffusers_whatever_the_pipelines_scheduler(tiny, schedule, sampler):
    pipe = with_scheduler(tiny, schedule)
    found = latents(pipe, images=2, sampler=sampler)
    assert torch.equal(found, of_diffusers(pipe, sampler, num_inference_steps=3, guidance_scale=3.0))


@pytest.mark.parametrize("name", CLASSES)
def test_every_scheduler_of_diffusers_is_followed_or_refused(tiny, name):
    """Followed is: the same noise levels, and a finite picture."""
    try:
        schedule = getattr(diffusers, name)()
    except (TypeError, ImportError) as error:
        pytest.skip(f"cannot be made alone: {str(error).strip()[:60]}")
    pipe = with_scheduler(tiny, schedule)
    for sampler in SAMPLERS:
        try:
            found = latents(pipe, sampler=sampler, steps=2)
        except pruning.Refused as error:
            assert f"follows {name}" in str(error)  # noqa: PT017
        else:
            assert found.isfinite().all()
            own = images.scheduler(pipe, sampler)
            assert torch.allclose(own.alphas_cumprod, schedule.alphas_cumprod.float(), rtol=0, atol=1e-6)
            assert own.config.prediction_type == schedule.config.get("prediction_type", "epsilon")


def test_settings_of_stable_diffusion_stand_in_for_those_that_a_config_lacks(tiny):
    for kind in (EulerDiscreteScheduler, PNDMScheduler, LCMScheduler, DDIMScheduler):
        config = images.scheduler(with_scheduler(tiny, kind(**LEVELS)), "ddim").config
        assert (config.clip_sample, config.steps_offset) == (False, 1)
    pipe = with_scheduler(tiny, DDIMScheduler(**LEVELS))
    pipe.scheduler = DDIMScheduler(**LEVELS, clip_sample=True, steps_offset=2)  # said, after it was made
    config = images.scheduler(pipe, "ddim").config
    assert (config.clip_sample, config.steps_offset) == (True, 2)


def test_pixels_are_clipped_as_their_own_config_says():
    assert images.scheduler(ddpm(), "ddim").config.clip_sample
    pipe = ddpm()
    pipe.scheduler = DDPMScheduler(clip_sample=False)
    assert not images.scheduler(pipe, "ddim").config.clip_sample


@pytest.mark.parametrize("schedule", [DDPMScheduler(beta_schedule="sigmoid"), DDPMScheduler(beta_schedule="laplace")],
                         ids=["sigmoid", "laplace"])
def test_a_schedule_that_a_sampler_has_no_name_for_is_taken_over_by_its_values(schedule):
    pipe = ddpm()
    pipe.scheduler = schedule
    for sampler in SAMPLERS:
        own = images.scheduler(pipe, sampler)
        assert torch.allclose(own.alphas_cumprod, schedule.alphas_cumprod, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("schedule", "why"), [
    (FlowMatchEulerDiscreteScheduler(), "no table of noise levels"),
    (DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True), "it is a flow"),
    (DPMSolverMultistepScheduler(prediction_type="flow_prediction"), "predicts 'flow_prediction'"),
    (EulerDiscreteScheduler(timestep_type="continuous", prediction_type="v_prediction"), "noise levels"),
])
def test_schedules_of_another_kind_are_refused(tiny, schedule, why):
    pipe = with_scheduler(tiny, schedule)
    with pytest.raises(pruning.Refused, match=f"No sampler of this version follows {type(schedule).__name__}.*{why}"):
        latents(pipe)
    assert why in str(canvas.why_not(pipe))


def test_noise_that_a_sampler_adds_belongs_to_the_picture(tiny):
    """The same with every drawing, on both sides, and however many pictures are drawn at once."""
    pipe = with_scheduler(tiny, DPMSolverMultistepScheduler(**LEVELS, algorithm_type="sde-dpmsolver++"))
    stream = torch.get_rng_state()
    two = latents(pipe, sampler="dpm++", images=2)
    assert torch.equal(two, latents(pipe, sampler="dpm++", images=2))
    assert torch.allclose(two[1:], latents(pipe, sampler="dpm++", seed=5), atol=1e-4)
    sides = [event.latents for event in draw_pair(pipe, pipe, pruning.Shot("a b", steps=3, sampler="dpm++"))
             if isinstance(event, Drawn)]
    assert torch.equal(*sides)
    plain = with_scheduler(tiny, DPMSolverMultistepScheduler(**LEVELS))
    assert not torch.allclose(two, latents(plain, sampler="dpm++", images=2), atol=1e-2)
    assert torch.equal(stream, torch.get_rng_state())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_the_most_steps_are_named_and_can_be_taken(sampler, spacing, offset):
    schedule = DDIMScheduler(num_train_timesteps=12, timestep_spacing=spacing, steps_offset=offset)
    refused = set()
    for steps in range(1, 15):
        scheduler = samplers.made(schedule, sampler, {})
        try:
            samplers.start(scheduler, sampler, steps, "cpu")
        except pruning.Refused as error:
            most = int(str(error).rpartition("Choose ")[2].split()[0])
            assert most < steps
            samplers.start(scheduler, sampler, most, "cpu")
            refused.add(steps)
        else:
            assert len(scheduler.timesteps) == steps
            assert 0 <= scheduler.timesteps.min() <= scheduler.timesteps.max() < 12
    assert {13, 14} <= refused or (sampler, spacing) == ("euler", "linspace")  # it draws between levels, too
    assert not refused & set(range(1, 4)) or offset == 3  # which leads beyond the last level even there


def test_too_many_steps_are_refused_before_anything_is_drawn():
    with pytest.raises(pruning.Refused, match=r"60 steps are too many for ddim .* of 50 levels\. Choose 50 or fewer"):
        list(draw(ddpm(levels=50), pruning.Shot(steps=60)))


def test_a_pair_draws_along_one_schedule(tiny):
    other = with_scheduler(tiny, DDIMScheduler(**LEVELS))
    with pytest.raises(pruning.Refused, match=r"different noise schedules: .*prediction_type is"):
        list(draw_pair(tiny, other, pruning.Shot("a", steps=1)))


def test_both_sides_of_a_pair_draw_pictures_of_one_size(tiny):
    small = ddpm()
    small.unet.register_to_config(sample_size=8)
    with pytest.raises(pruning.Refused, match=r"latents of \(3, 16, 16\), the pruned one of \(3, 8, 8\)"):
        list(draw_pair(ddpm(), small, pruning.Shot(steps=1)))


def test_settings_that_a_sampler_does_not_take_are_said(tiny, monkeypatch):
    def picky(config, **changes):
        raise ValueError("these exclude each other")

    monkeypatch.setattr(DDIMScheduler, "from_config", picky)
    with pytest.raises(pruning.Refused, match=r"does not take the settings of .*: these exclude each other"):
        latents(tiny)


def test_learned_variances_are_left_out_whatever_the_channels():
    for channels in (1, 3):
        torch.manual_seed(0)
        net = type(ddpm().unet)(sample_size=16, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1,
                                in_channels=channels, out_channels=2 * channels, attention_head_dim=8,
                                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                                up_block_types=("AttnUpBlock2D", "UpBlock2D")).eval()
        pipe = diffusers.DDPMPipeline(net, DDPMScheduler(variance_type="learned_range"))
        half = diffusers.DDPMPipeline(_halved(net, channels), DDPMScheduler())
        for sampler in SAMPLERS:
            found, expected = (latents(one, prompts="", sampler=sampler) for one in (pipe, half))
            assert found.shape == (1, channels, 16, 16)
            assert torch.allclose(found, expected, atol=1e-4)


def _halved(net, channels):
    """The same network without the channels for variances."""
    plain = type(net).from_config(net.config, out_channels=channels).eval()
    state = {name: value[:channels] if name.startswith("conv_out") else value
             for name, value in net.state_dict().items()}
    plain.load_state_dict(state)
    return plain


def test_samplers_take_a_generator_where_they_can_be_random():
    kinds = {name: getattr(diffusers, kind) for name, kind in SAMPLERS.items()}
    assert {name for name, kind in kinds.items() if "generator" in inspect.signature(kind.step).parameters} == {
        "ddim", "dpm++", "euler"}
    assert np.isfinite(samplers._betas(torch.tensor([0.9, 0.5, 0.0]))).all()
