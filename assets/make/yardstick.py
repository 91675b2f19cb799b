"""What a pruned model is held against: real glyphs that nobody trained on, and what the dense model draws.

Everything starts from the same noise, whichever model is judged.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from assets.make.ddpm_bars import draw
from assets.make.features import Eyes, frechet, mmd, width
from pruning.call import showing
from pruning.observe import error, resting
from pruning.quality import likeness
from pruning.subject import subject
from pruning.types import Calibration, Shot
from pruning.work import drained

BATCH = 32


def kept(pictures: Sequence[np.ndarray] | np.ndarray, folder: Path) -> Path:
    """Pictures as files of a folder, for parts that look at folders."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03}.png")
    return folder


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The dense pipeline, the folder of real pictures for the error, and those that samples are compared with."""

    dense: Any
    held: Path
    errors: int  # how many pictures of ``held`` the error is the mean of, each at a timestep of its own
    real: np.ndarray  # (n, px, px, 3) uint8
    eyes: Eyes
    shot: Shot
    samples: int

    @cached_property
    def features(self) -> torch.Tensor:
        """What emoji-clip sees in the real pictures."""
        return self.eyes(self.real)

    @cached_property
    def drawn(self) -> list[Image.Image]:
        """What the dense model draws."""
        return self.draw(self.dense)

    def pace(self) -> float:
        """Seconds that the dense model takes for one picture and step."""
        count = min(BATCH, self.samples)
        with half(self.dense):
            list(draw(self.dense, replace(self.shot, steps=1), count, BATCH))  # the first is slower
            before = time.perf_counter()
            list(draw(self.dense, replace(self.shot, steps=2), count, BATCH))
        return (time.perf_counter() - before) / (2 * count)

    def draw(self, pipe: Any) -> list[Image.Image]:
        """Samples, all of which begin with the same noise in every model; matrices are multiplied in bfloat16."""
        with half(pipe):
            return list(draw(pipe, self.shot, self.samples, BATCH))

    @torch.no_grad()
    def error(self, pipe: Any) -> float:
        """The mean squared error of the noise that is found in real pictures, evenly over the timesteps."""
        shown = drained(showing(subject(self.dense), Calibration(samples=self.errors, source=str(self.held))))
        levels, count = shown.schedule.config.num_train_timesteps, len(shown.clean)
        noise = torch.randn(shown.clean.shape, generator=torch.Generator().manual_seed(0))
        steps = ((torch.arange(count) + 0.5) * levels / count).long()
        with resting(pipe.unet):
            calls = [(len(rows), shown.at(pipe.unet, rows.tolist(), steps[rows], noise[rows]))
                     for rows in torch.arange(count).split(BATCH)]
            return sum(float(error(pipe.unet, call)) * rows for rows, call in calls) / count

    def figures(self, pipe: Any) -> dict[str, float]:
        """Error, distance to the dense model's samples, distance to real glyphs; of one model."""
        drawn = self.draw(pipe) if pipe is not self.dense else self.drawn
        pixels, whole = (np.stack([np.asarray(one) for one in side]) / 255 for side in (drawn, self.drawn))
        seen = self.eyes(list(map(np.asarray, drawn)))
        found = {"error": self.error(pipe), "mse": float(((pixels - whole) ** 2).mean()),
                 "ssim": likeness(self.drawn, drawn)[1], "frechet": frechet(seen, self.features),
                 "mmd": mmd(seen, self.features, width(self.features))}
        return {name: round(value, 6) for name, value in found.items()}


def half(pipe: Any) -> AbstractContextManager[Any]:
    """Matrices multiplied in bfloat16, where a GPU does not multiply quickly anyway."""
    return torch.autocast("cpu", torch.bfloat16) if pipe.unet.device.type == "cpu" else nullcontext()
