"""How well ``emoji-ddpm`` draws what it learnt: its part of ``assets.make.bars``. Nobody asks it for anything.

Distances between sets are taken with ``emoji-clip``, a proxy, to real glyphs in places where it did not learn them.
Beside each stands what other real glyphs reach, blurred ones (8 x 8 pixels), and noise.

A picture is recognised when its outlines fit some glyph that it learnt as well as those of real pictures fit their own
glyph, but for the worst twentieth of these. emoji-clip cannot tell: a background between the colours that it knows
moves a picture farther than another glyph does.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
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
NEAR = 24  # of 255: how far a background's pixels may be from its colour
UNSEEN = 1  # the seed of places where it did not learn the glyphs
PLACES = 16  # of each glyph, that pictures are compared with
SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8


@torch.no_grad()
def outlines(pictures: np.ndarray) -> Tensor:
    """How steep the colours are at each pixel, smoothed; as unit vectors, so that contrast does not count.

    ``pictures`` are (n, px, px, 3) uint8, the outcome is (n, 3 * px * px).
    """
    values = torch.from_numpy(np.ascontiguousarray(pictures)).float().movedim(-1, 1).flatten(0, 1).unsqueeze(1)
    slopes = F.conv2d(values / 255, torch.stack([SOBEL, SOBEL.T]).unsqueeze(1), padding=1)  # (n * 3, 2, px, px)
    steep = F.avg_pool2d(slopes.norm(dim=1), 3, 1, 1).unflatten(0, (-1, 3)).flatten(1)
    return F.normalize(steep - steep.mean(1, keepdim=True))


@dataclass(frozen=True, eq=False)
class Real:
    """Real glyphs: those that the model learnt, in many places, and two sets in other places."""

    known: list[glyphs.Glyph]

    @cached_property
    def unseen(self) -> list[np.ndarray]:
        """Two sets, (glyphs * colours, px, px, 3) uint8; the centred place is left out, which was learnt."""
        made = glyphs.pictures(self.known, emoji_ddpm.PX, 3, UNSEEN)
        return [made[:, way].reshape(-1, *made.shape[3:]) for way in (1, 2)]

    @cached_property
    def bank(self) -> Tensor:
        """The outlines of every glyph, (glyphs, pictures of each, values); in the places that were learnt, and more."""
        made = glyphs.pictures(self.known, emoji_ddpm.PX, PLACES, calibration.SEED)
        return torch.stack([outlines(of_glyph.reshape(-1, *of_glyph.shape[2:])) for of_glyph in made])

    def fit(self, pictures: np.ndarray) -> Tensor:
        """How well pictures fit each glyph at best, (n, glyphs): cosines of outlines."""
        seen = outlines(pictures)
        return torch.stack([(seen @ of_glyph.T).amax(1) for of_glyph in self.bank], 1)

    @cached_property
    def enough(self) -> float:
        """How well is well enough to be recognised."""
        each = [self.fit(pictures).unflatten(0, (len(self.known), -1)) for pictures in self.unseen]
        return float(torch.cat([fit.diagonal(dim1=0, dim2=2).flatten() for fit in each]).quantile(0.05))

    def recognised(self, pictures: np.ndarray) -> tuple[float, set[int]]:
        """The share of pictures that are recognised, and as which glyphs."""
        fit, glyph = self.fit(pictures).max(1)
        sure = fit >= self.enough
        return float(sure.double().mean()), set(glyph[sure].tolist())


def draw(pipe: Any, shot: Shot, count: int, batch: int) -> Iterator[Image.Image]:
    """Pictures; picture i starts from ``shot.seed`` + i."""
    for start in range(0, count, batch):
        some = replace(shot, seed=shot.seed + start, images=min(batch, count - start))
        for event in pruning.generate(pipe, some):
            if isinstance(event, pruning.Drawn):
                yield from event.images


def plain(pictures: np.ndarray) -> float:
    """The share of border pixels, two rows and columns a side, that are near the median of their picture's border.

    ``pictures`` are (n, px, px, 3) uint8.
    """
    edge = np.ones(pictures.shape[1:3], bool)
    edge[2:-2, 2:-2] = False
    border = pictures[:, edge].astype(float)  # (n, pixels, 3)
    return float((np.linalg.norm(border - np.median(border, 1, keepdims=True), axis=2) <= NEAR).mean())


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
    real = Real(emoji_ddpm.KNOWN["often"](glyphs.vocabulary()) if known is None else known)
    pipe, count = pruning.load(folder, device=device), samples or len(real.unseen[0])
    before = time.perf_counter()
    drawn = np.stack([np.asarray(one) for one in draw(pipe, Shot(steps=steps, sampler=sampler), count, batch)])
    seconds = time.perf_counter() - before
    if sheet:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(drawn).save(sheet, optimize=True)
    share, found = real.recognised(drawn)
    others = {"real": real.unseen[1], **spoilt(real.unseen[0])}
    return {"sampler": sampler, "steps": steps, "samples": count, "real": len(real.unseen[0]), "proxy": PROXY,
            **distances({"samples": drawn, **others}, real.unseen[0], Eyes(clip_folder, device)), "kernel": KERNEL,
            "recognised": round(share, 4), "enough": round(real.enough, 4),
            "recognised_others": {name: round(real.recognised(of)[0], 4) for name, of in others.items()},
            "glyphs": len(found), "learnt": len(real.known),
            "colours": len({glyphs.border_colour(picture) for picture in drawn}),
            "plain": round(plain(drawn), 4), "plain_real": round(plain(real.unseen[0]), 4), "floor": FLOOR,
            "native_px": emoji_ddpm.PX, "seconds": round(seconds, 1), "device": describe(device)}


def distances(sides: Mapping[str, np.ndarray], real: np.ndarray, eyes: Eyes) -> dict[str, dict[str, float]]:
    """Both distances of each set of pictures to the real ones."""
    reference, seen = eyes(real), {name: eyes(pictures) for name, pictures in sides.items()}
    wide = width(reference)
    return {"frechet": {name: round(frechet(of, reference), 4) for name, of in seen.items()},
            "mmd": {name: round(mmd(of, reference, wide), 5) for name, of in seen.items()}}


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
