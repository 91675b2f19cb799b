"""Make ``emoji-sd``: a StableDiffusionPipeline with SD-1.5's block layout, from scratch. ``emoji-clip`` comes first.

    python -m assets.make.emoji_sd --minutes 120

Three stages share the budget: the autoencoder, the U-Net on small pictures, the U-Net on pictures of the native size.
Every stage resumes. Where no checkpoint is left, ``--resume-shipped`` starts the U-Net from the folder's weights.
"""

import argparse
import json
import signal
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from assets.make import autoencoder, glyphs
from assets.make.captions import EMPTY, Captions
from assets.make.emoji_clip import FOLDER as CLIP
from assets.make.folders import furnish
from assets.make.training import Run, describe, fast, write_json
from pruning.network.fingerprint import fingerprint
from pruning.types import digest

FOLDER = Path("assets/models/emoji-sd")
SMALL, NATIVE = 64, 128  # px
SCHEDULE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
    "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 0,
}


def build_unet() -> UNet2DConditionModel:
    """SD-1.5's layout: four levels, two layers each, cross-attention in three of them."""
    return UNet2DConditionModel(
        sample_size=NATIVE // 4, in_channels=4, out_channels=4, block_out_channels=(64, 128, 192, 192),
        layers_per_block=2, cross_attention_dim=192, attention_head_dim=(4, 8, 8, 8), norm_num_groups=8)


def train_unet(run: Run, unet: torch.nn.Module, latents: torch.Tensor, vocabulary: list[glyphs.Glyph],
               text: CLIPTextModel, captions: Captions, *, batch: int, device: str) -> None:
    """v-prediction with a terminal signal-to-noise ratio of zero; some captions are empty.

    ``latents`` are scaled, (glyphs, ways, colours, 4, h, w).
    """
    signal = DDIMScheduler(**SCHEDULE).alphas_cumprod.to(device)
    often = set(glyphs.core_emoji(often=True))
    weights = torch.tensor([4.0 if glyph.emoji in often else 1.5 if glyph.core else 0.35 for glyph in vocabulary])
    for _ in run.steps():
        which = torch.multinomial(weights, batch, replacement=True, generator=run.generator)
        way, colours = (torch.randint(n, (batch,), generator=run.generator) for n in latents.shape[1:3])
        which, way, colours = (chosen.to(device) for chosen in (which, way, colours))
        clean = latents[which, way, colours].float().contiguous(memory_format=torch.channels_last)
        noise = torch.randn(clean.shape, generator=run.noise, device=device)
        spread = (torch.rand(1, generator=run.generator) + torch.arange(batch) / batch) % 1  # evenly over the steps
        step = (spread * 1000).long().to(device)
        level = signal[step].view(-1, 1, 1, 1)
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        wanted = level.sqrt() * noise - (1 - level).sqrt() * clean
        with fast(device):
            with torch.no_grad():
                context = text(captions.pick(which, colours, run.generator, empty=EMPTY)).last_hidden_state
            drawn = unet(noisy, step, context).sample
        run.learn(F.mse_loss(drawn.float(), wanted))


def remembered(work: Path, vae: AutoencoderKL, vocabulary: list[glyphs.Glyph], **rest: Any) -> torch.Tensor:
    """The latents of the whole vocabulary, kept beside the checkpoints: encoding it takes minutes."""
    file = work / f"latents-{digest([fingerprint(vae)[1], len(vocabulary), rest['px'], rest['ways'], rest['seed']])}.pt"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(autoencoder.latents(vae, vocabulary, **rest), file)
    return torch.load(file, weights_only=True)


def write(unet: UNet2DConditionModel, vae: AutoencoderKL, folder: Path, clip: Path = CLIP) -> None:
    """A diffusers folder in half precision; no file reaches 10 MB."""
    text, tokenizer = CLIPTextModel.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip)
    pipe = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=text, tokenizer=tokenizer, scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.to(torch.float16)
    pipe.save_pretrained(folder, max_shard_size="9MB")
    config = folder / "text_encoder" / "config.json"  # float32, or plain from_pretrained mixes types and fails
    config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
    pipe.to(torch.float32)


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--minutes", type=float, default=120, help="wall-clock budget, earlier runs counted in")
    parse.add_argument("--split", type=float, nargs=3, default=(0.18, 0.27, 0.55),
                       help="shares of the budget: autoencoder, small pictures (0 leaves them out), native pictures")
    parse.add_argument("--batch", type=int, default=16, help="more than fits a CPU's cache is slower there")
    parse.add_argument("--compile", action="store_true", help="a minute of compiling first; pays on a GPU")
    parse.add_argument("--ways", type=int, default=1, help="placements of each glyph; one is learned soonest")
    parse.add_argument("--glyphs", type=int, default=0, help="only the first so many of the vocabulary; 0 is all")
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--resume-shipped", action="store_true", help="start from the weights in --out")
    parse.add_argument("--work", type=Path, default=Path("build/emoji-sd"), help="where checkpoints are kept")
    parse.add_argument("--clip", type=Path, default=CLIP, help="the folder of emoji-clip")
    parse.add_argument("--out", type=Path, default=FOLDER)
    parse.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parse.parse_args()
    device, seed = options.device, options.seed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: the checkpoint is kept
    vocabulary = glyphs.vocabulary()[: options.glyphs or None]
    minutes = [share * options.minutes for share in options.split]

    tokenizer = CLIPTokenizer.from_pretrained(options.clip)
    text = CLIPTextModel.from_pretrained(options.clip, dtype=torch.float32).to(device).eval()
    captions = Captions(vocabulary, tokenizer, seed=seed, device=device)
    if options.resume_shipped:
        shipped = StableDiffusionPipeline.from_pretrained(options.out, torch_dtype=torch.float32)
        vae, unet = shipped.vae.to(device), shipped.unet
        stages = json.loads((options.out / "training.json").read_text())["stages"]
    else:
        vae, run = autoencoder.train(options.work, vocabulary, px=NATIVE, minutes=minutes[0],
                                     batch=min(64, options.batch), seed=seed, device=device)
        with torch.no_grad():
            torch._foreach_copy_(run.parameters, run.averages)
        torch.manual_seed(seed)
        unet, stages = build_unet(), {"autoencoder": run.record()}
    vae.eval()
    unet.to(device, memory_format=torch.channels_last)
    if not options.resume_shipped:
        sample = autoencoder.latents(vae, vocabulary[::4], px=NATIVE, ways=1, seed=seed, device=device)
        vae.register_to_config(scaling_factor=round(1 / float(sample.float().std()), 5))

    for px, budget in ((SMALL, minutes[1]), (NATIVE, minutes[2])):
        if not budget or (px == SMALL and options.resume_shipped):
            continue
        run = Run(options.work / f"unet-{'small' if px == SMALL else 'native'}.pt", {"unet": unet}, minutes=budget,
                  rate=6e-4 if px == NATIVE and (options.resume_shipped or minutes[1]) else 8e-4, seed=seed,
                  device=device)
        if px == SMALL and (options.work / "unet-native.pt").exists():
            stages[f"unet at {px} px, {len(vocabulary)} glyphs"] = run.record()
            continue
        encoded = remembered(options.work, vae, vocabulary, px=px, ways=options.ways, seed=seed, device=device)
        train_unet(run, torch.compile(unet, dynamic=False) if options.compile else unet,
                   encoded.to(device) * vae.config.scaling_factor, vocabulary, text, captions, batch=options.batch,
                   device=device)
        stages[f"unet at {px} px, {len(vocabulary)} glyphs"] = run.record()
        with torch.no_grad():
            torch._foreach_copy_(run.parameters, run.averages)
    write(unet, vae, options.out, options.clip)
    furnish(options.out, vocabulary)
    write_json(options.out / "training.json", {
        "command": "python -m assets.make.emoji_sd", "seed": seed, "minutes": options.minutes, "batch": options.batch,
        "ways": options.ways,
        "glyphs": len(vocabulary), "device": describe(device), "stages": stages})


if __name__ == "__main__":
    main()
