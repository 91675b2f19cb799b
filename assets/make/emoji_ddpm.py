"""Make ``emoji-ddpm``: a DDPMPipeline with ddpm-cifar10's layout, from scratch. It draws emoji that nobody asked for.

    python -m assets.make.emoji_ddpm --minutes 60

Where no checkpoint is left, ``--resume-shipped`` starts from the folder's weights.
"""

import argparse
import json
import signal
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from assets.make import glyphs
from assets.make.autoencoder import signed
from assets.make.folders import furnish
from assets.make.training import Run, describe, fast, write_json

FOLDER = Path("assets/models/emoji-ddpm")
PX = 32
SCHEDULE = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000,
            "variance_type": "fixed_large", "clip_sample": True}
Listed = list[glyphs.Glyph]
OFTEN = set(glyphs.core_emoji(often=True))
KNOWN: dict[str, Callable[[Listed], Listed]] = {  # an hour of two CPU cores is enough for the first
    "often": lambda listed: [glyph for glyph in listed if glyph.emoji in OFTEN],
    "core": lambda listed: [glyph for glyph in listed if glyph.core], "all": lambda listed: listed}


def build() -> UNet2DModel:
    """ddpm-cifar10's layout at a reduced width, with several heads where it has one."""
    return UNet2DModel(
        sample_size=PX, in_channels=3, out_channels=3, block_out_channels=(64, 64, 128, 128), layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=16,
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6, norm_num_groups=8)


def train(run: Run, unet: torch.nn.Module, pictures: torch.Tensor, *, batch: int, device: str) -> None:
    """The plain loss: the noise that was added. ``pictures`` are (n, px, px, 3) bytes."""
    signal = DDPMScheduler(**SCHEDULE).alphas_cumprod.to(device)
    for _ in run.steps():
        chosen = torch.randint(len(pictures), (batch,), generator=run.generator).to(device)
        clean = signed(pictures[chosen]).contiguous(memory_format=torch.channels_last)
        noise = torch.randn(clean.shape, generator=run.noise, device=device)
        spread = (torch.rand(1, generator=run.generator) + torch.arange(batch) / batch) % 1  # evenly over the steps
        step = (spread * 1000).long().to(device)
        level = signal[step].view(-1, 1, 1, 1)
        with fast(device):
            drawn = unet(level.sqrt() * clean + (1 - level).sqrt() * noise, step).sample
        run.learn(F.mse_loss(drawn.float(), noise))


def write(unet: UNet2DModel, folder: Path) -> None:
    """A diffusers folder in half precision; no file reaches 10 MB."""
    pipe = DDPMPipeline(unet=unet, scheduler=DDPMScheduler(**SCHEDULE))
    pipe.to(torch.float16)
    pipe.save_pretrained(folder, max_shard_size="9MB")
    pipe.to(torch.float32)


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--minutes", type=float, default=60, help="wall-clock budget, earlier runs counted in")
    parse.add_argument("--batch", type=int, default=32)
    parse.add_argument("--compile", action="store_true", help="a minute of compiling first; pays on a GPU")
    parse.add_argument("--ways", type=int, default=3, help="placements of each glyph")
    parse.add_argument("--known", choices=tuple(KNOWN), default="often", help="which glyphs it learns")
    parse.add_argument("--glyphs", type=int, default=0, help="only the first so many of them; 0 is all")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--resume-shipped", action="store_true", help="start from the weights in --out")
    parse.add_argument("--work", type=Path, default=Path("build/emoji-ddpm"), help="where checkpoints are kept")
    parse.add_argument("--out", type=Path, default=FOLDER)
    parse.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parse.parse_args()
    device, seed = options.device, options.seed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the checkpoint is kept
    vocabulary = KNOWN[options.known](glyphs.vocabulary())[: options.glyphs or None]
    torch.manual_seed(seed)
    stages = {}
    if options.resume_shipped:
        unet = UNet2DModel.from_pretrained(options.out / "unet", torch_dtype=torch.float32)
        stages = json.loads((options.out / "training.json").read_text())["stages"]
    else:
        unet = build()
    unet.to(device, memory_format=torch.channels_last)
    run = Run(options.work / "unet.pt", {"unet": unet}, minutes=options.minutes,
              rate=4e-4 if options.resume_shipped else 1e-3, seed=seed, device=device)
    pictures = torch.from_numpy(glyphs.pictures(vocabulary, PX, options.ways, seed)).flatten(0, 2).to(device)
    train(run, torch.compile(unet, dynamic=False) if options.compile else unet, pictures, batch=options.batch,
          device=device)
    with run.averaged():
        write(unet, options.out)
    furnish(options.out, vocabulary)
    write_json(options.out / "training.json", {
        "command": "python -m assets.make.emoji_ddpm", "seed": seed, "minutes": options.minutes,
        "batch": options.batch, "ways": options.ways, "known": options.known, "glyphs": len(vocabulary),
        "device": describe(device), "stages": stages | {f"unet, {len(vocabulary)} glyphs": run.record()}})


if __name__ == "__main__":
    main()
