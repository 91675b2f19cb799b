"""The autoencoder of ``emoji-sd``: 4 latent channels at a quarter of the picture's width."""

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from assets.make import glyphs
from assets.make.training import Run, fast, in_batches

CONFIG = {
    "block_out_channels": (32, 64, 96), "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 8,
}
CROP = 64


def signed(pictures: np.ndarray | torch.Tensor) -> torch.Tensor:
    """(n, px, px, 3) bytes to (n, 3, px, px) in [-1, 1]."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss(vae: AutoencoderKL, pixels: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """L1 + L2 + L1 of the gradients (sharp edges), and a light pull of the latents to a unit Gaussian."""
    posterior = vae.encode(pixels).latent_dist
    some = torch.randn(posterior.mean.shape, generator=noise, device=noise.device).to(posterior.mean)
    drawn = vae.decode(posterior.mean + posterior.std * some).sample.float()
    edges = sum(F.l1_loss(drawn.diff(dim=d), pixels.diff(dim=d)) for d in (2, 3))
    return F.l1_loss(drawn, pixels) + F.mse_loss(drawn, pixels) + edges + 1e-4 * posterior.kl().mean() / 576


def train(work: Path, vocabulary: list[glyphs.Glyph], *, px: int, minutes: float, batch: int, seed: int,
          device: str) -> tuple[AutoencoderKL, Run]:
    """An autoencoder trained on crops of every glyph over every colour."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(**CONFIG, sample_size=px).to(device, memory_format=torch.channels_last)
    run = Run(work / "autoencoder.pt", {"vae": vae}, minutes=minutes, rate=1.5e-3, seed=seed, device=device)
    if run.seconds >= run.budget:
        return vae, run
    data = torch.from_numpy(glyphs.pictures(vocabulary, px, 3, seed)).flatten(0, 2).to(device)  # (n, px, px, 3)
    pick = random.Random(seed + run.step)
    for _ in run.steps():
        chosen = torch.randint(len(data), (batch,), generator=run.generator).to(device)
        top, left = pick.randrange(px - CROP + 1), pick.randrange(px - CROP + 1)
        crops = signed(data[chosen, top : top + CROP, left : left + CROP])
        crops = crops.contiguous(memory_format=torch.channels_last)
        with fast(device):
            value = loss(vae, crops, run.noise)
        run.learn(value)
    return vae, run


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: np.ndarray, device: str) -> float:
    """Mean over pictures of the peak signal-to-noise ratio of what comes back, in dB, at the pictures' own size."""
    def one(bytes_: torch.Tensor) -> torch.Tensor:
        pixels = signed(bytes_).to(device)
        drawn = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
        drawn = (drawn * 127.5 + 127.5).round() / 127.5 - 1
        return -10 * torch.log10(((drawn - pixels) / 2).pow(2).mean((1, 2, 3)).clamp_min(1e-10)).cpu()

    return float(in_batches(one, torch.as_tensor(pictures), 16).mean())


@torch.no_grad()
def latents(vae: AutoencoderKL, vocabulary: list[glyphs.Glyph], *, px: int, ways: int, seed: int,
            device: str) -> torch.Tensor:
    """Every picture as the mean of its latents, unscaled: (glyphs, ways, colours, 4, px/4, px/4) float16."""
    bytes_ = torch.from_numpy(glyphs.pictures(vocabulary, px, ways, seed))
    shape = bytes_.shape[:3]

    def one(part: torch.Tensor) -> torch.Tensor:
        with fast(device):
            return vae.encode(signed(part).to(device, memory_format=torch.channels_last)).latent_dist.mean.half().cpu()

    return in_batches(one, bytes_.flatten(0, 2), 32 if device == "cpu" else 512).unflatten(0, shape)
