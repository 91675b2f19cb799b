"""How well ``emoji-ddpm`` draws what it learnt: its part of ``assets.make.bars``. Nobody asks it for anything.

Distances are taken with ``emoji-clip``, a proxy, to real glyphs in places where it did not learn them. Beside each
stands what other real glyphs reach, blurred ones (8 x 8 pixels), and noise.

A picture is recognised when some glyph that it learnt is as near as real pictures are to others of their own glyph, but
for the farthest twentieth of these.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import pruning
from assets.make import calibration, emoji_ddpm, glyphs
from assets.make.features import KERNEL, PROXY, Eyes, frechet, mmd, width
from assets.make.training import describe
from pruning.types import Shot

FLOOR = {"recognised": 0.5, "glyphs": 22, "plain": 0.9}
SHEET = Path("assets/pictures/emoji-ddpm.png")
SHAPE = (8, 12)  # rows and columns of the sheet
NEAR = 40  # of 255: how far a background's pixels may be from its colour
UNSEEN = 1  # the seed of places where it did not learn the glyphs


@dataclass(frozen=True, eq=False)
class Real:
    """Real glyphs as ``emoji-clip`` sees them: those that the model learnt, and two sets in other places."""

    known: list[glyphs.Glyph]
    eyes: Eyes

    @cached_property
    def learnt(self) -> np.ndarray:
        """(glyphs, ways, colours, px, px, 3) uint8."""
        return glyphs.pictures(self.known, emoji_ddpm.PX, calibration.WAYS, calibration.SEED)

    @cached_property
    def unseen(self) -> list[np.ndarray]:
        """Two sets, (glyphs * colours, px, px, 3) uint8; the centred place is left out, which was learnt."""
        made = glyphs.pictures(self.known, emoji_ddpm.PX, 3, UNSEEN)
        return [made[:, way].reshape(-1, *made.shape[3:]) for way in (1, 2)]

    @cached_property
    def sets(self) -> list[Tensor]:
        """The features of both sets."""
        return [self.eyes(pictures) for pictures in self.unseen]

    @cached_property
    def bank(self) -> Tensor:
        """The features of what was learnt, (glyphs, pictures of each, d)."""
        return self.eyes(self.learnt.reshape(-1, *self.learnt.shape[3:])).unflatten(0, (len(self.known), -1))

    def nearest(self, seen: Tensor) -> Tensor:
        """The cosine with the nearest picture of each glyph, (n, glyphs)."""
        return torch.stack([(seen @ of_glyph.T).amax(1) for of_glyph in self.bank], 1)

    @cached_property
    def near(self) -> float:
        """How near is near enough to be recognised."""
        per_glyph = len(glyphs.COLOURS)
        own = [self.nearest(one).unflatten(0, (-1, per_glyph)).diagonal(dim1=0, dim2=2) for one in self.sets]
        return float(torch.cat([x.flatten() for x in own]).quantile(0.05))

    def recognised(self, seen: Tensor) -> tuple[float, set[int]]:
        """The share of pictures that are recognised, and as which glyphs."""
        cosine, glyph = self.nearest(seen).max(1)
        sure = cosine >= self.near
        return float(sure.double().mean()), set(glyph[sure].tolist())


def draw(pipe: Any, shot: Shot, count: int, batch: int) -> Iterator[Image.Image]:
    """Pictures; picture i starts from ``shot.seed`` + i."""
    for start in range(0, count, batch):
        some = replace(shot, seed=shot.seed + start, images=min(batch, count - start))
        for event in pruning.generate(pipe, some):
            if isinstance(event, pruning.Drawn):
                yield from event.images


def plain(pictures: np.ndarray) -> float:
    """The share of border pixels, two rows and columns a side, that are near the named colour that most are nearest to.

    ``pictures`` are (n, px, px, 3) uint8.
    """
    middle = np.zeros(pictures.shape[1:3], bool)
    middle[2:-2, 2:-2] = True
    shares = []
    for picture in pictures:
        colour = np.array(glyphs.COLOURS[glyphs.border_colour(picture)])
        shares.append((np.linalg.norm(picture[~middle] - colour, axis=1) <= NEAR).mean())
    return float(np.mean(shares))


def spoilt(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """What is worse than anything that one would call a glyph."""
    size, blur = pictures.shape[2:0:-1], Image.Resampling.BOX
    blurred = [np.asarray(Image.fromarray(one).resize((8, 8), blur).resize(size)) for one in pictures]
    noise = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
    return {"blurred": np.stack(blurred), "noise": noise}


def measure(folder: Path, clip_folder: Path, samples: int | None = None, *, sampler: str = "ddim", steps: int = 20,
            batch: int = 48, device: str = "cpu", sheet: Path | None = None,
            known: list[glyphs.Glyph] | None = None) -> dict[str, Any]:
    """The bars. ``samples`` are as many as there are glyphs and colours, unless told."""
    real = Real(emoji_ddpm.KNOWN["often"](glyphs.vocabulary()) if known is None else known, Eyes(clip_folder, device))
    pipe, count = pruning.load(folder, device=device), samples or len(real.unseen[0])
    before = time.perf_counter()
    shot = Shot(steps=steps, sampler=sampler)
    drawn = np.stack([np.asarray(picture) for picture in draw(pipe, shot, count, batch)])
    seconds = time.perf_counter() - before
    if sheet:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(drawn).save(sheet, optimize=True)
    seen, (reference, other) = real.eyes(drawn), real.sets
    sides = {"samples": seen, "real": other, **{name: real.eyes(x) for name, x in spoilt(real.unseen[0]).items()}}
    share, found = real.recognised(seen)
    wide = width(reference)
    return {"sampler": sampler, "steps": steps, "samples": count, "real": len(reference), "proxy": PROXY,
            "frechet": {name: round(frechet(side, reference), 4) for name, side in sides.items()},
            "mmd": {name: round(mmd(side, reference, wide), 5) for name, side in sides.items()}, "kernel": KERNEL,
            "recognised": round(share, 4),
            "recognised_others": {name: round(real.recognised(sides[name])[0], 4) for name in ("real", "blurred")},
            "near": round(real.near, 4), "glyphs": len(found), "learnt": len(real.known),
            "colours": len({glyphs.border_colour(picture) for picture in drawn}),
            "plain": round(plain(drawn), 4), "plain_real": round(plain(real.unseen[0]), 4), "floor": FLOOR,
            "native_px": emoji_ddpm.PX, "seconds": round(seconds, 1), "device": describe(device)}


def contact_sheet(pictures: np.ndarray, side: int = 64, gap: int = 4) -> Image.Image:
    """The first pictures, enlarged pixel by pixel."""
    rows, columns = SHAPE
    step = side + gap
    sheet = Image.new("RGB", (columns * step + gap, rows * step + gap), "white")
    for i, picture in enumerate(pictures[: rows * columns]):
        enlarged = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (i % columns * step + gap, i // columns * step + gap))
    return sheet


def table(bars: dict[str, Any]) -> str:
    """The figures with their floors."""
    rows = [f"{figure:12}{side:10}{value:9.4f}" for figure in ("frechet", "mmd")
            for side, value in bars[figure].items()]
    rows += [f"{figure:12}{'samples':10}{bars[figure]:9.4g}   {floor}" for figure, floor in bars["floor"].items()]
    return "\n".join([f"{'figure':12}{'of':10}{'value':>9}   floor", *rows])
