"""Tiny random pipelines of the real classes, one thread, and nothing that leaves this machine."""

import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers; tests of the hub serve their own

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from hypothesis import settings
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.served import QUIET
from pruning.network.subject import module_at
from pruning.registry import knob

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
settings.register_profile("here", deadline=None, database=None, derandomize=True, max_examples=40)
settings.load_profile("here")

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("unet", "vae", "text_encoder")
WORDS = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3, "a": 4, "b": 5}


def unet(seed=0, **changes):
    """Four levels as in SD-1.5; every self-attention has 4 heads, every norm 8 groups."""
    torch.manual_seed(seed)
    tiny = {"sample_size": 16, "block_out_channels": (16, 32, 32, 32), "layers_per_block": 1, "norm_num_groups": 8,
            "cross_attention_dim": 32, "attention_head_dim": 4}  # the number of heads, whatever its name says
    return exact_in_half(UNet2DConditionModel(**tiny | changes))


def exact_in_half(net):
    """Weights that float16 holds exactly, and norms and biases that tell their channels apart."""
    with torch.no_grad():
        for tensor in net.parameters():
            if tensor.ndim == 1:
                tensor.add_(torch.randn(tensor.shape) * 0.2)
            tensor.copy_(tensor.half())
    return net.eval()


def pipeline(seed=0):
    """A StableDiffusionPipeline of half a million weights: latents of 16 x 16, pictures of 32 x 32, 8 tokens."""
    net = unet(seed)
    vae = AutoencoderKL(block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2,
                        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8, latent_channels=4, sample_size=32)
    text = CLIPTextConfig(vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                          num_attention_heads=4, max_position_embeddings=8, bos_token_id=0, eos_token_id=1)
    pipe = StableDiffusionPipeline(
        unet=net, vae=exact_in_half(vae), text_encoder=exact_in_half(CLIPTextModel(text)),
        tokenizer=CLIPTokenizer(vocab=WORDS, merges=[], model_max_length=8), safety_checker=None,
        scheduler=DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, steps_offset=1,
                                timestep_spacing="trailing", clip_sample=False),
        feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def ddpm(levels=1000, seed=0):
    """A DDPMPipeline in the layout of ddpm-cifar10, with pictures of 16 x 16 and 8 norm groups."""
    torch.manual_seed(seed)
    net = UNet2DModel(sample_size=16, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1,
                      down_block_types=("DownBlock2D", "AttnDownBlock2D"), attention_head_dim=8,
                      up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    return DDPMPipeline(exact_in_half(net), DDPMScheduler(num_train_timesteps=levels))


def published(side, times):
    """The DDPM of Diff-Pruning's table for a picture of a size, without values."""
    levels = [side >> i == 16 for i in range(len(times))]
    with torch.device("meta"):
        return UNet2DModel(
            sample_size=side, block_out_channels=tuple(128 * n for n in times), layers_per_block=2, norm_num_groups=32,
            norm_eps=1e-6, attention_head_dim=None, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
            down_block_types=tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in levels),
            up_block_types=tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(levels)))


@pytest.fixture(scope="session")
def tiny():
    """The dense pipeline; nobody may change it."""
    return pipeline()


@pytest.fixture(scope="session")
def other():
    """The same architecture with other weights."""
    return pipeline(seed=1)


@pytest.fixture(scope="session")
def tiny_folder(tiny, tmp_path_factory):
    """The dense pipeline as diffusers saves it."""
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    tiny.save_pretrained(folder)
    return folder


@torch.no_grad()
def output(pipe, component=""):
    """What one component answers to a fixed input."""
    net, noise = module_at(pipe, component), torch.Generator().manual_seed(5)
    match type(net).__name__:
        case "UNet2DConditionModel":
            return net(torch.randn(2, 4, 16, 16, generator=noise), torch.tensor([7, 700]),
                       encoder_hidden_states=torch.randn(2, 8, 32, generator=noise)).sample
        case "Decoder":
            return net(torch.randn(2, 4, 8, 8, generator=noise))
        case "CLIPTextModel":
            return net(torch.tensor([[0, 2, 3, 5, 2, 1, 1, 1], [0, 4, 4, 3, 1, 1, 1, 1]])).last_hidden_state
    raise AssertionError(f"no input for {type(net).__name__}")


def state(pipe):
    """Every tensor of a pipeline or model, copied."""
    if isinstance(pipe, torch.nn.Module):
        return {name: tensor.clone() for name, tensor in pipe.state_dict().items()}
    return {f"{part}.{name}": tensor.clone() for part in PARTS
            for name, tensor in getattr(pipe, part).state_dict().items()}


def same(one, two):
    """Whether two states are equal bit for bit."""
    return one.keys() == two.keys() and all(
        tensor.dtype == two[name].dtype and torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.fixture(scope="session")
def url():
    """The address of the running page, served once for all tests that visit it."""
    import app

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _, address, _ = app.demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", server_port=port, quiet=True)
    yield address
    app.demo.close()
    for _ in range(600):  # Python aborts when it ends while a thread is inside of torch
        if not working():
            break
        time.sleep(0.1)


def working():
    """Threads that run code of ours, beside this one."""
    own = threading.get_ident()
    return [ident for ident, frame in sys._current_frames().items() if ident != own and any(
        called.f_code.co_filename.startswith((f"{ROOT}/ui", f"{ROOT}/pruning"))
        for called, _ in traceback.walk_stack(frame))]


@dataclass(frozen=True)
class Knobs:
    """One of each."""

    norm: str = knob("l1", "which norm", choices=("l1", "l2"))
    exact: bool = knob(True, "exactly or not")
    names: str = knob("a, b", "some names")
    buckets: int = knob(4, "how many", low=1, high=16, step=1)


@pytest.fixture(scope="module")
def browser():
    """Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is missing: apt-get install chromium")
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield started
        started.close()
