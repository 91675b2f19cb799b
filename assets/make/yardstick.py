"""What a pruned model is held against: real glyphs that nobody trained on, and what the dense model draws.

Everything starts from the same noise, whichever model is judged.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assets.make.ddpm_bars import draw
from assets.make.features import Eyes, frechet, mmd, width
from pruning.calibration.call import showing
from pruning.calibration.samples import answer
from pruning.metrics.pictures import likeness
from pruning.network.subject import subject
from pruning.observe.modes import resting
from pruning.progress import drained
from pruning.types import Calibration, Shot

BATCH = 32
BINS = ((0, 100), (100, 400), (400, 1000))  # timesteps whose errors are shown apart, of a schedule of 1000


class Reader(Protocol):
    """Who says which glyph a picture is: ``ddpm_bars.Real``."""

    @property
    def enough(self) -> float:
        """How well a picture has to fit a glyph to be recognised."""

    def fit(self, pictures: np.ndarray) -> Tensor:
        """How well pictures fit each glyph, (n, glyphs)."""


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
    others: np.ndarray  # real pictures, too: what samples would reach if they were perfect
    reader: Reader
    eyes: Eyes
    shot: Shot
    samples: int
    half: bool = False  # whether matrices are multiplied in bfloat16 when drawing

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
        with self._multiplying():
            list(draw(self.dense, replace(self.shot, steps=1), count, BATCH))  # the first is slower
            before = time.perf_counter()
            list(draw(self.dense, replace(self.shot, steps=2), count, BATCH))
        return (time.perf_counter() - before) / (2 * count)

    def draw(self, pipe: Any) -> list[Image.Image]:
        """Samples, all of which begin with the same noise in every model."""
        with self._multiplying():
            return list(draw(pipe, self.shot, self.samples, BATCH))

    def _multiplying(self) -> AbstractContextManager[Any]:
        device = self.dense.unet.device.type
        return torch.autocast(device, torch.bfloat16) if self.half else nullcontext()

    @cached_property
    def glyphs(self) -> Tensor:
        """Which glyph each of the dense model's pictures is, (samples,); -1 for one that is not recognised."""
        return self.read(np.stack([np.asarray(one) for one in self.drawn]))

    def read(self, pictures: np.ndarray) -> Tensor:
        """Which glyph each picture is, (n,); -1 for one that is not recognised."""
        fit, glyph = self.reader.fit(pictures).max(1)
        return glyph.where(fit >= self.reader.enough, -1)

    @torch.no_grad()
    def errors_of(self, pipe: Any) -> tuple[Tensor, Tensor]:
        """(timesteps, mean squared errors of the noise that is found there), (pictures,) each, timesteps ascending."""
        shown = drained(showing(subject(self.dense), Calibration(samples=self.errors, source=str(self.held))))
        levels, count = shown.schedule.config.num_train_timesteps, len(shown.clean)
        noise = torch.randn(shown.clean.shape, generator=torch.Generator().manual_seed(0))
        steps = ((torch.arange(count) + 0.5) * levels / count).long()
        found = torch.zeros(count)
        with resting(pipe.unet):
            for rows in torch.arange(count).split(BATCH):
                call = shown.at(pipe.unet, rows.tolist(), steps[rows], noise[rows])
                found[rows] = (answer(pipe.unet, call) - call.target).square().flatten(1).mean(1).cpu()
        return steps, found

    def error(self, pipe: Any) -> dict[str, float]:
        """The mean squared error, evenly over the timesteps, and that of each bin of them."""
        steps, errors = self.errors_of(pipe)
        bins = {f"error_{low}": float(errors[(low <= steps) & (steps < high)].mean()) for low, high in BINS}
        return {"error": float(errors.mean()), **bins}

    def figures(self, pipe: Any) -> dict[str, float]:
        """Error, distance to the dense model's samples, distance to real glyphs, and what is recognised; of one model.

        ``same`` is the share of the dense model's recognised pictures that are recognised as the same glyph.
        """
        drawn = self.draw(pipe) if pipe is not self.dense else self.drawn
        pictures = np.stack([np.asarray(one) for one in drawn])
        whole = np.stack([np.asarray(one) for one in self.drawn])
        known, glyphs = self.glyphs >= 0, self.read(pictures)
        found = {**self.error(pipe), "mse": float(((pictures / 255 - whole / 255) ** 2).mean()),
                 "ssim": likeness(self.drawn, drawn)[1], **self.distances(pictures),
                 "recognised": float((glyphs >= 0).double().mean()),
                 "same": float((glyphs == self.glyphs)[known].double().mean())}
        return {name: round(value, 6) for name, value in found.items()}

    def distances(self, pictures: np.ndarray) -> dict[str, float]:
        """Fréchet distance and MMD² of some pictures to the real ones."""
        seen = self.eyes(pictures)
        return {"frechet": frechet(seen, self.features), "mmd": mmd(seen, self.features, width(self.features))}

    def floor(self) -> dict[str, float]:
        """What as many other real pictures reach: no set of so few gets to 0."""
        some = self.others[: self.samples]
        found = {**self.distances(some), "recognised": float((self.read(some) >= 0).double().mean())}
        return {name: round(value, 6) for name, value in found.items()}
