"""Pictures with captions, as latents: those that are shipped with a model, those of a folder, or drawn by the model."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pruning import canvas, images
from pruning.errors import Refused
from pruning.subject import source_of
from pruning.types import Shot
from pruning.work import Looked

MODELS = Path(__file__).resolve().parent.parent / "assets" / "models"
KINDS = (".png", ".jpg", ".jpeg", ".webp")
STEPS, GUIDANCE = 20, 3.0  # of what a model draws for itself
AT_ONCE = 4

Captioned = list[tuple[Path, str]]
Latents = Generator[Looked, None, list[Tensor]]  # each (1, channels, h, w) float32 on the CPU, as the denoiser has them


def shipped(pipe: Any) -> Path | None:
    """The folder of pictures that comes with a bundled model; None for other models."""
    source = source_of(pipe)
    folder = MODELS / source / "calibration"
    return folder if Path(source).name == source != "" and folder.is_dir() else None


def captioned(folder: Path) -> Captioned:
    """The shipped pictures with their captions."""
    listed = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    return [(folder / name, caption) for name, caption in listed.items()]


def inside(folder: Path, prompts: Sequence[str] = ()) -> Captioned:
    """The pictures of a folder by name, with the text beside each; where there is none, the prompts in turn, or ""."""
    listed = []
    for i, file in enumerate(sorted(file for file in folder.iterdir() if file.suffix.lower() in KINDS)):
        prompt, text = prompts[i % len(prompts)] if prompts else "", file.with_suffix(".txt")
        listed.append((file, text.read_text("utf-8", errors="replace").strip() if text.is_file() else prompt))
    return listed


def opened(file: Path, side: int) -> Image.Image:
    """A picture on white, cropped to a square of ``side`` pixels.

    Raises:
        Refused: it cannot be read.
    """
    try:
        picture = ImageOps.exif_transpose(Image.open(file)).convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow says SyntaxError of a broken PNG
        raise Refused(f"{file} cannot be read as a picture.", "Take it out of the folder.") from error
    return ImageOps.fit(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"),
                        (side, side))


def encoding(pipe: Any, files: Sequence[Path]) -> Latents:
    """Pictures as the means of their latents; as they are, where the denoiser sees pixels."""
    around = canvas.drawing(pipe)
    side = pipe.unet.config.sample_size * around.factor
    latents: list[Tensor] = []
    for start in range(0, len(files), AT_ONCE):
        some = np.stack([np.asarray(opened(file, side)) for file in files[start : start + AT_ONCE]])
        with torch.no_grad():
            latents += around.latents(torch.from_numpy(some).movedim(-1, 1).float() / 255 * 2 - 1).split(1)
        yield Looked(len(latents), len(files), "encoding pictures")
    return latents


@torch.no_grad()
def decodable(vae: Any, latents: Tensor) -> Tensor:
    """What the decoder gets for latents of the denoiser's scale."""
    inputs = (latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)).to(vae.device, vae.dtype)
    return inputs if vae.post_quant_conv is None else vae.post_quant_conv(inputs)


def drawing(pipe: Any, prompts: Sequence[str], seed: int, guidance: float) -> Latents:
    """What the model itself draws, one picture a prompt: 20 DDIM steps at the guidance when that is above 1, else 3.

    A model that takes no prompt draws one picture for each all the same.
    """
    latents: list[Tensor] = []
    for start in range(0, len(prompts), AT_ONCE):
        some = tuple(prompts[start : start + AT_ONCE])
        run = images.Run(pipe, Shot(some, seed=(seed + start) % (1 << 31), steps=STEPS,
                                    guidance=guidance if guidance > 1 else GUIDANCE))
        for index in range(len(run.scheduler.timesteps)):
            run.step(index)
            yield Looked(start * STEPS + (index + 1) * len(some), len(prompts) * STEPS, "drawing pictures to look at")
        latents += run.latents.float().cpu().split(1)
    return latents
