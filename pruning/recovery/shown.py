"""What a recovery is shown: samples to train on, made noisy anew in each step, and a fixed set that it is judged by."""

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.calibration import samples
from pruning.calibration.call import Call, Shown, generator
from pruning.drawing.canvas import drawing
from pruning.network.subject import Subject
from pruning.observe import gradients, modes
from pruning.progress import Looked
from pruning.recovery.options import Recovery
from pruning.types import Calibration

APART = 8  # of so many samples one is kept apart; of fewer, none
JUDGED = 64  # calls of the fixed set, at timesteps evenly spread


def antithetic(levels: int, count: int, draw: torch.Generator) -> Tensor:
    """Timesteps in pairs, t and its mirror image, so that every batch has little noise and much, (count,)."""
    half = torch.randint(levels, ((count + 1) // 2,), generator=draw)
    return torch.cat([half, levels - 1 - half])[:count]


@dataclass(frozen=True, eq=False)
class Material:
    """The samples of a recovery. Where prompts are read, each comes once more, ``count`` rows on, without its own."""

    shown: Shown
    count: int
    fit: Tensor  # rows to train on
    held: tuple[int, ...]  # rows to judge by

    @property
    def on(self) -> str:
        """What the fixed set is made of, in words."""
        apart = len(self.fit) < self.count
        plural = "s" * (len(self.held) > 1)
        return f"{len(self.held)} held-out sample{plural}" if apart else (
            f"{len(self.held)} sample{plural} it was trained on")

    @property
    def mark(self) -> str:
        """Sixteen hexadecimal digits that stand for the clean samples."""
        return hashlib.sha256(self.shown.clean.contiguous().numpy().data).hexdigest()[:16]

    def batch(self, net: nn.Module, options: Recovery, draw: torch.Generator) -> Call:
        """Samples for one step, each with noise of its own at a timestep of its own."""
        rows = self.fit[torch.randint(len(self.fit), (options.batch,), generator=draw)]
        without = torch.rand(options.batch, generator=draw) < options.unprompted
        if len(self.shown.clean) > self.count:
            rows = rows + self.count * without
        steps = antithetic(self._levels, options.batch, draw)
        noise = torch.randn(options.batch, *self.shown.clean.shape[1:], generator=draw)
        return self.shown.at(net, rows.tolist(), steps, noise)

    def judging(self, net: nn.Module, options: Recovery) -> Generator[Looked, None, float]:
        """The mean squared error on the fixed set: the same samples, noise and timesteps whenever it is asked."""
        draw, total = generator("judged", options.seed), 0.0
        for start in range(0, JUDGED, options.batch):
            some = range(start, min(start + options.batch, JUDGED))
            rows = [self.held[i % len(self.held)] for i in some]
            steps = torch.tensor([int((i + 0.5) * self._levels / JUDGED) for i in some])
            noise = torch.cat([torch.randn(1, *self.shown.clean.shape[1:], generator=draw) for _ in some])
            with torch.no_grad(), modes.resting(net):
                total += float(gradients.error(net, self.shown.at(net, rows, steps, noise))) * len(rows)
            yield Looked(some.stop, JUDGED, "measuring the error")
        return total / JUDGED

    @property
    def _levels(self) -> int:
        return self.shown.schedule.config.num_train_timesteps


def gathering(learner: Subject, mentor: Subject, calibration: Calibration) -> Generator[Looked, None, Material]:
    """A settled calibration's samples: the dense model draws or encodes them, the student's own encoder reads prompts.

    One in eight is kept apart when there are that many.
    """
    twice = drawing(learner.pipe).prompted
    shown = yield from samples.batch(mentor, calibration, empty=twice, reader=learner)
    count = len(shown.clean) // (2 if twice else 1)
    held = range(APART - 1, count, APART)
    fit = [row for row in range(count) if row not in held]
    return Material(shown, count, torch.tensor(fit), tuple(held) or tuple(fit))
