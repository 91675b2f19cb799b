"""Measure how well a bundled model does what it is for, and write ``bars.json`` beside its weights.

    python -m assets.make.bars --sheet build/sheet.png  # emoji-clip and emoji-sd
    python -m assets.make.bars emoji-ddpm  # see ``ddpm_bars``

Ends with 1 when a floor is missed. The figures of ``emoji-sd`` are taken with ``emoji-clip``: read them as a proxy.

``top1`` asks for the own caption among 200 that differ in glyph and colour, and the background alone rules out eleven
in twelve: glyphs of 8 x 8 squares reach 0.84. ``glyph1`` asks among 200 captions that all name the asked colour,
so that only the glyph's shape and colours count, and says more. There such squares reach 0.62.

Glyphs are drawn from the whole vocabulary; the figures under ``core`` are of the everyday ones alone.
"""

import argparse
import copy
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw, ImageFont
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from assets.make import ddpm_bars, emoji_clip, emoji_ddpm, emoji_sd, glyphs
from assets.make.autoencoder import psnr
from assets.make.folders import read_vocabulary
from assets.make.training import describe, write_json
from pruning.drawing.images import scheduler, starts
from pruning.drawing.samplers import SAMPLERS
from pruning.types import Shot

FLOORS = {"emoji-clip": {"top1": 0.90}, "emoji-sd": {"psnr": 27.0, "top1": 0.60, "top5": 0.85, "colour": 0.90}}
PROMPTS, CORE_PROMPTS, CANDIDATES = 128, 64, 200
SQUARES = 8  # a side, of blurred glyphs: what reads as well as they do need not show more than blots
CENTRED = glyphs.placements(random.Random(0), 1)[0]


@dataclass(frozen=True)
class Asked:
    """A glyph and the colour it is asked to stand on."""

    glyph: glyphs.Glyph
    colour: str

    @property
    def caption(self) -> str:
        """The plain caption."""
        return glyphs.caption(self.glyph.name, self.colour)

    def picture(self, px: int) -> np.ndarray:
        """The real glyph, (px, px, 3) uint8."""
        return glyphs.on_colour(glyphs.premultiplied(glyphs.render(self.glyph.emoji), px, *CENTRED), self.colour)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What ``emoji-sd`` drew when asked, and what was seen in it."""

    asked: Asked
    picture: np.ndarray  # (px, px, 3) uint8
    rank: int  # how many other candidates fit at least as well as its own caption
    colour: str  # of its background


def questions(vocabulary: list[glyphs.Glyph]) -> list[Asked]:
    """200 different glyphs, each with one colour: always the same. Prompts are the first of them."""
    rng = random.Random(0)
    return [Asked(glyph, rng.choice(list(glyphs.COLOURS))) for glyph in rng.sample(vocabulary, CANDIDATES)]


class Judge:
    """``emoji-clip`` as it is shipped, and the captions it chooses from."""

    def __init__(self, folder: Path, device: str) -> None:
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)
        self.vocabulary = read_vocabulary(folder)
        self.asked = questions(self.vocabulary)

    @property
    def captions(self) -> list[str]:
        """The captions that it chooses from."""
        return [asked.caption for asked in self.asked]

    def about_core(self) -> "Judge":
        """The same judge with questions about everyday glyphs alone."""
        other = copy.copy(self)
        other.asked = questions([glyph for glyph in self.vocabulary if glyph.core])
        return other

    def pixels(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """Pictures of any size as emoji-clip takes them, (n, 3, px, px)."""
        return self.processor([Image.fromarray(picture) for picture in pictures], return_tensors="pt").pixel_values

    def ranks(self, pictures: list[np.ndarray]) -> list[int]:
        """For each picture, asked for in the order of ``questions``, the place of its own caption among all."""
        return emoji_clip.ranks(self.model, self.tokenizer, self.pixels(pictures), self.captions).tolist()

    def glyph_ranks(self, pictures: list[np.ndarray]) -> list[int]:
        """The same among captions of all the glyphs on the picture's own colour."""
        pixels, places = self.pixels(pictures), [0] * len(pictures)
        for colour in glyphs.COLOURS:
            own = [i for i, asked in enumerate(self.asked[: len(pictures)]) if asked.colour == colour]
            if own:
                others = [i for i in range(len(self.asked)) if i not in own]
                captions = [glyphs.caption(self.asked[i].glyph.name, colour) for i in own + others]
                found = emoji_clip.ranks(self.model, self.tokenizer, pixels[own], captions)
                for i, place in zip(own, found.tolist(), strict=True):
                    places[i] = place
        return places

    def figures(self, pictures: list[np.ndarray]) -> tuple[dict[str, Any], list[int]]:
        """Shares of pictures that are read right, and their ranks."""
        ranks, glyph_ranks = self.ranks(pictures), self.glyph_ranks(pictures)
        return {"prompts": len(pictures), "candidates": len(self.asked), "top1": top(ranks, 1), "top5": top(ranks, 5),
                "glyph1": top(glyph_ranks, 1), "glyph5": top(glyph_ranks, 5)}, ranks


def top(ranks: list[int], k: int) -> float:
    """The share of ranks among the best k."""
    return round(sum(rank < k for rank in ranks) / len(ranks), 4)


def draw(pipe: StableDiffusionPipeline, asked: list[Asked], shot: Shot, batch: int) -> Iterator[np.ndarray]:
    """A picture for each caption; picture i starts from ``shot.seed`` + i."""
    pipe.scheduler = scheduler(pipe, shot.sampler)
    pipe.set_progress_bar_config(disable=True)
    latents = starts(pipe, shot, len(asked)).to(pipe.unet.device)
    for at in range(0, len(asked), batch):
        drawn = pipe([one.caption for one in asked[at : at + batch]], latents=latents[at : at + batch],
                     num_inference_steps=shot.steps, guidance_scale=shot.guidance, height=shot.size, width=shot.size,
                     output_type="np").images
        yield from np.round(drawn * 255).astype(np.uint8)


def measure_clip(judge: Judge, prompts: int, px: int) -> dict[str, Any]:
    """Retrieval of real glyphs, composed at ``px``."""
    pictures = [asked.picture(px) for asked in judge.asked[:prompts]]
    figures, _ = judge.figures(pictures)
    blurred, _ = judge.figures([in_squares(picture) for picture in pictures])
    core = judge.about_core()
    of_core, _ = core.figures([asked.picture(px) for asked in core.asked[: min(prompts, CORE_PROMPTS)]])
    return {**figures, "core": of_core, "blurred": blurred, "composed_px": px, "native_px": emoji_clip.PX,
            "floor": FLOORS["emoji-clip"]}


def in_squares(picture: np.ndarray) -> np.ndarray:
    """A picture, (h, w, 3) uint8, as the mean colours of ``SQUARES`` x ``SQUARES`` squares."""
    small = Image.fromarray(picture).resize((SQUARES, SQUARES), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.shape[1::-1], Image.Resampling.NEAREST))


def measure_vae(pipe: StableDiffusionPipeline, listed: list[glyphs.Glyph], px: int, device: str) -> float:
    """Mean PSNR in dB over glyphs, each over one colour."""
    rng = random.Random(1)
    sample = [Asked(glyph, rng.choice(list(glyphs.COLOURS))) for glyph in listed]
    return round(psnr(pipe.vae, np.stack([asked.picture(px) for asked in sample]), device), 2)


def measure_sd(pipe: StableDiffusionPipeline, judge: Judge, prompts: int, shot: Shot, *, batch: int, every: int,
               device: str) -> tuple[dict[str, Any], list[Drawn]]:
    """The figures of ``emoji-sd``, and its pictures."""
    asked, core = judge.asked[:prompts], judge.about_core()
    before = time.perf_counter()
    pictures = list(draw(pipe, asked, shot, batch))
    seconds = time.perf_counter() - before
    figures, ranks = judge.figures(pictures)
    of_core, _ = core.figures(list(draw(pipe, core.asked[: min(prompts, CORE_PROMPTS)], shot, batch)))
    drawn = [Drawn(*row) for row in zip(asked, pictures, ranks, map(glyphs.border_colour, pictures), strict=True)]
    right = sum(one.colour == one.asked.colour for one in drawn) / prompts
    native = pipe.unet.config.sample_size * pipe.vae_scale_factor
    return {"sampler": shot.sampler, "steps": shot.steps, "guidance": shot.guidance, **figures,
            "core": of_core, "colour": round(right, 4),
            "psnr": measure_vae(pipe, judge.vocabulary[::every], native, device),
            "floor": FLOORS["emoji-sd"],
            "native_px": native, "px": shot.size or native, "seconds": round(seconds, 1),
            "device": describe(device)}, drawn


def measure(model_folder: Path, clip_folder: Path, prompts: int = PROMPTS, *, sampler: str = "ddim", steps: int = 20,
            guidance: float = 3.0, px: int | None = None, batch: int = 8, every: int = 1, device: str = "cpu",
            sheet: Path | None = None) -> dict[str, dict[str, Any]]:
    """The bars of both models by name; ``emoji-sd`` is left out while its folder is missing.

    ``px`` draws at another size than the model's own, ``every`` = n rates the autoencoder on every n-th glyph, and
    ``sheet`` is where the pictures go.
    """
    judge = Judge(clip_folder, device)
    if not (model_folder / "model_index.json").exists():
        return {"emoji-clip": measure_clip(judge, prompts, emoji_sd.NATIVE)}
    pipe = StableDiffusionPipeline.from_pretrained(model_folder, torch_dtype=torch.float32).to(device)
    shot = Shot(steps=steps, guidance=guidance, sampler=sampler, size=px)
    bars, drawn = measure_sd(pipe, judge, prompts, shot, batch=batch, every=every, device=device)
    if sheet:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(drawn).save(sheet)
    return {"emoji-clip": measure_clip(judge, prompts, bars["native_px"]), "emoji-sd": bars}


def contact_sheet(drawn: list[Drawn], columns: int = 8, side: int = 112) -> Image.Image:
    """The pictures with their captions; a red frame where emoji-clip reads another, a dot where the colour is wrong."""
    font, red = ImageFont.load_default(10), (220, 40, 40)
    wide, high = side + 16, side + 52
    sheet = Image.new("RGB", (columns * wide, -(-len(drawn) // columns) * high), "white")
    pen = ImageDraw.Draw(sheet)
    for i, one in enumerate(drawn):
        x, y = i % columns * wide + 8, i // columns * high + 8
        sheet.paste(Image.fromarray(one.picture).resize((side, side), Image.Resampling.NEAREST), (x, y))
        pen.rectangle((x - 1, y - 1, x + side, y + side), outline=(200, 200, 200))
        if one.rank:
            pen.rectangle((x - 4, y - 4, x + side + 3, y + side + 3), outline=red, width=3)
        if one.colour != one.asked.colour:
            pen.ellipse((x + side - 14, y + 4, x + side - 4, y + 14), fill=red, outline="white", width=2)
        for line, words in enumerate(wrapped(one.asked.caption, font, side)):
            pen.text((x, y + side + 5 + 11 * line), words, "black", font)
    return sheet


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines no wider than ``width`` pixels, at most three."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines[:3]


def missed(bars: dict[str, dict[str, Any]]) -> list[str]:
    """Which floors were not reached, in words. NaN reaches none."""
    return [f"{model}: {figure} is {of[figure]}, the floor is {floor}"
            for model, of in bars.items() for figure, floor in of["floor"].items() if not of[figure] >= floor]


def table(bars: dict[str, dict[str, Any]]) -> str:
    """The figures with their floors."""
    figures = ("glyph1", "glyph5", "top1", "top5", "colour", "psnr")
    rows = [f"{model:12}{figure:8}{of[figure]:8.4g}{of['core'].get(figure, float('nan')):8.4g}   "
            f"{of['floor'].get(figure, '-')}" for model, of in bars.items() for figure in figures if figure in of]
    return "\n".join([f"{'model':12}{'figure':8}{'value':>8}{'core':>8}   floor", *rows])


def of_sd(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure ``emoji-clip`` and ``emoji-sd``, write and print it."""
    folder = options.model or emoji_sd.FOLDER
    bars = measure(folder, options.clip, options.prompts, sampler=options.sampler, steps=options.steps,
                   guidance=options.guidance, px=options.px, batch=options.batch or 8, device=options.device,
                   sheet=options.sheet)
    for name, place in (("emoji-clip", options.clip), ("emoji-sd", folder)):
        if name in bars:
            write_json(place / "bars.json", bars[name])
        else:
            print(f"{place} is missing; only emoji-clip was measured")
    print(table(bars))
    return bars


def of_ddpm(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure ``emoji-ddpm``, write and print it."""
    folder = options.model or emoji_ddpm.FOLDER
    bars = ddpm_bars.measure(folder, options.clip, options.samples, sampler=options.sampler, steps=options.steps,
                             batch=options.batch or 48, device=options.device,
                             sheet=options.sheet or ddpm_bars.SHEET)
    write_json(folder / "bars.json", bars)
    print(ddpm_bars.table(bars))
    return {"emoji-ddpm": bars}


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("which", nargs="?", choices=("emoji-sd", "emoji-ddpm"), default="emoji-sd")
    parse.add_argument("--prompts", type=int, default=PROMPTS, help=f"of emoji-sd: how many, up to {CANDIDATES}")
    parse.add_argument("--samples", type=int, help="of emoji-ddpm: how many; as many as it learnt if not given")
    parse.add_argument("--sampler", choices=tuple(SAMPLERS), default="ddim")
    parse.add_argument("--steps", type=int, default=20)
    parse.add_argument("--guidance", type=float, default=3.0, help="of emoji-sd")
    parse.add_argument("--px", type=int, help="of emoji-sd: another size than its own")
    parse.add_argument("--batch", type=int)
    parse.add_argument("--model", type=Path, help="another folder than the bundled one")
    parse.add_argument("--clip", type=Path, default=emoji_clip.FOLDER)
    parse.add_argument("--sheet", type=Path, help="where to put a PNG of pictures")
    parse.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parse.parse_args()
    if not 1 <= options.prompts <= CANDIDATES:
        parse.error(f"--prompts runs from 1 to {CANDIDATES}")
    if options.samples is not None and options.samples < 2:
        parse.error("--samples runs from 2")
    bars = (of_sd if options.which == "emoji-sd" else of_ddpm)(options)
    for sentence in missed(bars):
        print(sentence)
    sys.exit(bool(missed(bars)))


if __name__ == "__main__":
    main()
