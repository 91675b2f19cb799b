"""Show mode: drawing as a stream of events, one pipeline alone or two in turn, step by step.

Only the denoiser's call is on the clock. Previews come from a linear map of the latents, fitted to the autoencoder's
own colours, so that no decoder runs between steps.
"""

import inspect
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning.drawing import canvas, samplers
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.subject import log, module_at
from pruning.types import Shot

BROKEN = "Look for weights that are NaN or too large; a float16 model may need dtype=torch.float32."


@dataclass(frozen=True)
class Origin:
    """Which model made a picture, read off the model when the picture was made."""

    weights: str  # the fingerprint of everything that draws: text encoder, denoiser, decoder
    params: int
    zeros: int


@dataclass(frozen=True, eq=False)
class Stepped:
    """One denoising step of one side is done. ``ms`` is the denoiser's call alone."""

    side: str
    index: int
    steps: int
    ms: float
    latents: Tensor  # (images, channels, h, w)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The finished pictures of one side, with the model that made them."""

    side: str
    images: tuple[Image.Image, ...]
    ms: tuple[float, ...]  # the denoiser's call, step by step
    origin: Origin
    latents: Tensor
    notes: tuple[str, ...] = ()  # what to say with the pictures, such as that a prompt was cut short


Event = Stepped | Drawn


class Run:
    """One drawing by one pipeline: the pipeline's own parts, with a scheduler of its own.

    It follows the ``__call__`` of diffusers' pipelines, and a test holds it to the same pictures bit for bit. Picture i
    has a generator of its own, from seed + i: its first noise comes from there, and that of samplers that add some.
    """

    @torch.no_grad()
    def __init__(self, pipe: Any, shot: Shot, side: str = "dense", who: str = "this model") -> None:
        self.canvas = canvas.drawing(pipe)
        self.pipe, self.shot, self.side, self.who = pipe, shot, side, who
        self.device, self.dtype = pipe.unet.device, pipe.unet.dtype
        self.scheduler = scheduler(pipe, shot.sampler)
        samplers.start(self.scheduler, shot.sampler, shot.steps, self.device)
        accepted = inspect.signature(self.scheduler.step).parameters
        self.generators = generators(shot, len(shot.prompts) * shot.images)
        self.more = {"generator": self.generators} if "generator" in accepted else {}
        self.guided, self.notes = self.canvas.guided(shot.guidance), self.canvas.notes(shot)
        self.told = self.canvas.told(shot)
        noise = noise_from(self.generators, self.canvas, shot).to(self.device, self.dtype)
        self.latents = noise * self.scheduler.init_noise_sigma
        self.ms: list[float] = []

    @torch.no_grad()
    def step(self, index: int) -> Stepped:
        """Denoise once.

        Raises:
            Refused: what came of it is NaN or infinite, and so would be the picture.
        """
        t = self.scheduler.timesteps[index]
        doubled = torch.cat([self.latents] * 2) if self.guided else self.latents
        doubled = self.scheduler.scale_model_input(doubled, t)
        self._wait()
        before = time.perf_counter()
        noise = self.pipe.unet(doubled, t, **self.told, return_dict=False)[0]
        self._wait()
        self.ms.append((time.perf_counter() - before) * 1000)
        if self.guided:
            without, with_ = noise.chunk(2)
            noise = without + self.shot.guidance * (with_ - without)
        noise = noise[:, : self.latents.shape[1]]  # learned variances follow, which these samplers do without
        self.latents = self.scheduler.step(noise, t, self.latents, **self.more, return_dict=False)[0]
        if not (noise.isfinite().all() and self.latents.isfinite().all()):
            raise Refused(f"The output of {self.who} became NaN or infinite at step {index + 1} of "
                          f"{len(self.scheduler.timesteps)}, so there is no picture.", BROKEN)
        return Stepped(self.side, index, len(self.scheduler.timesteps), self.ms[-1], self.latents)

    @torch.no_grad()
    def finish(self) -> Drawn:
        """Decode, and read off the model what it is."""
        return Drawn(self.side, self.pictures(), tuple(self.ms), origin(self.pipe), self.latents, self.notes)

    @torch.no_grad()
    def pictures(self) -> tuple[Image.Image, ...]:
        """The latents as they are, as pictures.

        Raises:
            Refused: they are none: the decoder gives NaN or infinity.
        """
        values = self.canvas.pixels(self.latents, self.generators)
        if not values.isfinite().all():
            raise Refused(f"The decoder of {self.who} gives NaN or infinity, so there is no picture.", BROKEN)
        bytes_ = ((values * 0.5 + 0.5).clamp(0, 1).movedim(1, -1).float().cpu() * 255).round().byte().numpy()
        return tuple(Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in bytes_)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def origin(pipe: Any) -> Origin:
    """The fingerprint and the counts of everything that draws: denoiser, text encoder, decoder."""
    parts = [module_at(pipe, name) for name in canvas.drawing(pipe).parts]
    state = [p for part in parts for p in part.parameters()]
    zeros = sum(int(p.numel() - torch.count_nonzero(p)) for p in state)
    prints = sha256("".join(fingerprint(part)[1] for part in parts).encode()).hexdigest()[:16]
    return Origin(prints, sum(p.numel() for p in state), zeros)


def scheduler(pipe: Any, sampler: str) -> Any:
    """A new scheduler with the pipeline's noise schedule.

    Raises:
        Refused: unknown sampler, or it cannot follow this schedule.
    """
    return samplers.made(pipe.scheduler, sampler, canvas.drawing(pipe).usual)


def generators(shot: Shot, count: int) -> canvas.Generators:
    """One for each picture, on the CPU: that of picture i has the seed + i."""
    return [torch.Generator().manual_seed(shot.seed + i) for i in range(count)]


def noise_from(generators: canvas.Generators, around: canvas.Canvas, shot: Shot) -> Tensor:
    """The noise that pictures begin with, (count, channels, h, w), a picture from each generator."""
    shape = (1, around.pipe.unet.config.in_channels, *canvas.size(around, shot.size))
    return torch.cat([torch.randn(shape, generator=one) for one in generators])


def starts(pipe: Any, shot: Shot, count: int) -> Tensor:
    """The noise that ``count`` pictures begin with, (count, channels, h, w)."""
    return noise_from(generators(shot, count), canvas.drawing(pipe), shot)


def draw(pipe: Any, shot: Shot, side: str = "dense") -> Generator[Event, None, None]:
    """Draw with one pipeline. Closing the generator stops the work."""
    run = Run(pipe, shot, side)
    for index in range(len(run.scheduler.timesteps)):
        yield run.step(index)
    yield run.finish()


def draw_pair(dense: Any, pruned: Any, shot: Shot) -> Iterator[Event]:
    """Draw with both, from the same noise, in turn step by step on one thread; the side that goes first alternates.

    Raises:
        Refused: they do not draw along the same noise schedule, or not pictures of the same size.
    """
    runs = (Run(dense, shot, "dense", "the dense model"), Run(pruned, shot, "pruned", "the pruned model"))
    _check_alike(*runs)
    for index in range(len(runs[0].scheduler.timesteps)):
        for run in runs if index % 2 == 0 else runs[::-1]:
            yield run.step(index)
    drawn = []
    for run in runs:
        drawn.append(run.finish())
        yield drawn[-1]
    if unmoved(*drawn):
        log.warning("The pruned model drew bit for bit what the dense one did, though weights that were not zero are "
                    "gone. That is suspicious: see that nothing goes on with the dense model.")


def unmoved(dense: Drawn, pruned: Drawn) -> bool:
    """Whether weights that were not zero went, and nothing of what is drawn changed for it."""
    full, left = (side.origin.params - side.origin.zeros for side in (dense, pruned))
    return left < full and torch.equal(dense.latents, pruned.latents) and all(
        one.tobytes() == other.tobytes() for one, other in zip(dense.images, pruned.images, strict=True))


def _check_alike(dense: Run, pruned: Run) -> None:
    """Refuse a pair whose pictures would differ for another reason than pruning."""
    shapes = [tuple(run.latents.shape[1:]) for run in (dense, pruned)]
    if shapes[0] != shapes[1]:
        raise Refused(f"The dense model draws latents of {shapes[0]}, the pruned one of {shapes[1]}.",
                      "Give the model that it was pruned from, or a shot with a size.")
    one, other = (_settings(run.scheduler.config) for run in (dense, pruned))
    if apart := [f"{name} is {one[name][:40]} and {other[name][:40]}" for name in one if one[name] != other[name]]:
        raise Refused(f"The two models draw along different noise schedules: {', '.join(apart)}.",
                      "Give both pipelines the same scheduler.")


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """A sampler's settings, written alike before and after they were in a file."""
    return {name: repr(list(value) if isinstance(value, tuple | np.ndarray) else value)
            for name, value in config.items() if name[0] != "_"}


@dataclass(frozen=True, eq=False)
class Preview:
    """A linear map from latents to colours, (channels + 1, 3): the last row is the offset."""

    weight: Tensor

    def image(self, latents: Tensor) -> Image.Image:
        """One latent, (channels, h, w), as a small picture."""
        with_one = torch.cat([latents.float().cpu(), torch.ones(1, *latents.shape[1:])])
        colours = torch.einsum("chw,cr->hwr", with_one, self.weight).clamp(0, 1)
        return Image.fromarray((colours * 255).round().byte().numpy())


@torch.no_grad()
def preview_of(pipe: Any) -> Preview:
    """The map of a pipeline's own colours."""
    return Preview(canvas.drawing(pipe).colours())
