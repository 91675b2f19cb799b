"""Show mode: drawing as a stream of events, one pipeline alone or two in turn, step by step.

Only the denoiser's call is on the clock. Previews come from a linear map of the latents, fitted to the autoencoder's
own colours, so that no decoder runs between steps.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pruning import canvas
from pruning.errors import Refused
from pruning.subject import fingerprint, log, subject
from pruning.types import Shot

SAMPLERS = {"ddim": "DDIMScheduler", "dpm++": "DPMSolverMultistepScheduler", "euler": "EulerDiscreteScheduler",
            "unipc": "UniPCMultistepScheduler"}


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


Event = Stepped | Drawn


class Run:
    """One drawing by one pipeline: the pipeline's own parts, with a scheduler of its own.

    It follows the ``__call__`` of diffusers' pipelines, and a test holds it to the same pictures bit for bit.
    """

    @torch.no_grad()
    def __init__(self, pipe: Any, shot: Shot, side: str = "dense") -> None:
        self.canvas = canvas.drawing(pipe)
        self.pipe, self.shot, self.side = pipe, shot, side
        self.device, self.dtype = pipe.unet.device, pipe.unet.dtype
        self.scheduler = scheduler(pipe, shot.sampler)
        self.scheduler.set_timesteps(shot.steps, device=self.device)
        self.guided = self.canvas.prompted and shot.guidance > 1
        self.told = self.canvas.told(shot)
        noise = starts(pipe, shot, len(shot.prompts) * shot.images).to(self.device, self.dtype)
        self.latents = noise * self.scheduler.init_noise_sigma
        self.ms: list[float] = []

    @torch.no_grad()
    def step(self, index: int) -> Stepped:
        """Denoise once."""
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
        self.latents = self.scheduler.step(noise, t, self.latents, return_dict=False)[0]
        return Stepped(self.side, index, len(self.scheduler.timesteps), self.ms[-1], self.latents)

    @torch.no_grad()
    def finish(self) -> Drawn:
        """Decode, and read off the model what it is."""
        return Drawn(self.side, self.pictures(), tuple(self.ms), origin(self.pipe), self.latents)

    @torch.no_grad()
    def pictures(self) -> tuple[Image.Image, ...]:
        """The latents as they are, as pictures."""
        values = (self.canvas.pixels(self.latents) * 0.5 + 0.5).clamp(0, 1)
        bytes_ = (values.movedim(1, -1).float().cpu() * 255).round().byte().numpy()
        return tuple(map(Image.fromarray, bytes_))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def origin(pipe: Any) -> Origin:
    """The fingerprint and the counts of everything that draws: denoiser, text encoder, decoder."""
    parts = [subject(pipe, name).net for name in canvas.drawing(pipe).parts]
    state = [p for part in parts for p in part.parameters()]
    zeros = sum(int(p.numel() - torch.count_nonzero(p)) for p in state)
    prints = sha256("".join(fingerprint(part)[1] for part in parts).encode()).hexdigest()[:16]
    return Origin(prints, sum(p.numel() for p in state), zeros)


def scheduler(pipe: Any, sampler: str) -> Any:
    """A new scheduler with the pipeline's noise schedule.

    Raises:
        Refused: unknown sampler.
    """
    import diffusers  # takes seconds, so not before something is drawn: the page comes up first

    if sampler not in SAMPLERS:
        raise Refused(f"No sampler is called {sampler!r}.", f"There are {', '.join(SAMPLERS)}.")
    return getattr(diffusers, SAMPLERS[sampler]).from_config(pipe.scheduler.config)


def starts(pipe: Any, shot: Shot, count: int) -> Tensor:
    """The noise that pictures begin with, (count, channels, h, w): picture i from seed + i, drawn on the CPU."""
    factor, config = canvas.drawing(pipe).factor, pipe.unet.config
    if shot.size is not None and (shot.size < factor or shot.size % factor):
        raise Refused(f"A picture cannot be {shot.size} px wide.", f"Choose a multiple of {factor}.")
    side = shot.size // factor if shot.size else config.sample_size
    shape = (1, config.in_channels, side, side)
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(shot.seed + i)) for i in range(count)])


def draw(pipe: Any, shot: Shot, side: str = "dense") -> Generator[Event, None, None]:
    """Draw with one pipeline. Closing the generator stops the work."""
    run = Run(pipe, shot, side)
    for index in range(len(run.scheduler.timesteps)):
        yield run.step(index)
    yield run.finish()


def draw_pair(dense: Any, pruned: Any, shot: Shot) -> Iterator[Event]:
    """Draw with both, from the same noise, in turn step by step on one thread; the side that goes first alternates."""
    runs = (Run(dense, shot, "dense"), Run(pruned, shot, "pruned"))
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
