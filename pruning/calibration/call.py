"""Calls of a component: those that a settled calibration stands for. Everything is drawn from its seed, on the CPU."""

import zlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.calibration import pictures
from pruning.drawing import canvas, images
from pruning.network.inputs import arguments
from pruning.network.subject import DENOISERS, Subject, log
from pruning.progress import Looked
from pruning.types import Calibration

PROMPTS = ("a cat", "a bowl of fruit", "a house by a lake", "a portrait of a woman", "a city street at night",
           "mountains in the snow", "a red car", "a bunch of flowers")
PLACES = ("img_ids", "txt_ids", "time_ids", "resolution", "aspect_ratio", "guidance")  # stay 0 in random inputs
TABLES = ("vocab_size", "num_class_embeds", "num_embeds_ada_norm")  # settings that say how many ids there are


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a component: its arguments, at which noise level, and what a perfect denoiser would answer."""

    inputs: Mapping[str, Any]  # keyword arguments of forward
    level: float  # t / T: 0 clean, 1 all noise; 0 for components without timesteps
    target: Tensor | None  # float32, of the answer's shape, or of its first channels alone where variances follow


Calls = Generator[Looked, None, list[Call]]


# Of a denoiser, a text encoder, a decoder, and of any component whose arguments are known.


@dataclass(frozen=True, eq=False)
class Shown:
    """Clean samples, what a denoiser is told of each, and the schedule that makes them noisy."""

    clean: Tensor  # (n, channels, h, w) float32 on the CPU
    told: canvas.Told  # (n, ...) each
    schedule: Any

    def at(self, net: nn.Module, rows: Sequence[int], steps: Tensor, noise: Tensor) -> Call:
        """Some of the samples, each at a timestep of its own, (rows,), with its own noise, (rows, ...), as one call."""
        clean, device = self.clean[list(rows)], place(net)[0]
        inputs = {"sample": self.schedule.add_noise(clean, noise, steps), "timestep": steps,
                  **{name: value[list(rows)] for name, value in self.told.items()}}
        target = _target(self.schedule, clean, noise, steps).to(device)
        return Call(_placed(inputs, net), float(steps.float().mean()) / self.schedule.config.num_train_timesteps,
                    target)


@torch.no_grad()
def showing(subject: Subject, calibration: Calibration, empty: bool = False,
            reader: Subject | None = None) -> Generator[Looked, None, Shown]:
    """A calibration's samples. With ``empty`` each comes once more, in the second half, as if without a prompt.

    ``reader`` is whose pipeline reads the captions, where that is another one.
    """
    latents = yield from _latents(subject, calibration)
    captions = _captions(subject, calibration)
    around = canvas.drawing((reader or subject).pipe)
    if cut := sum(bool(around.unread(caption)) for caption in dict.fromkeys(captions)):
        log.warning("%d of %d captions are longer than the text encoder reads and were cut.", cut, len(captions))
    told = around.captioned([*captions, *([""] * len(captions) if empty else [])], calibration.guidance)
    return Shown(torch.cat(latents * (2 if empty else 1)), told, images.scheduler(subject.pipe, "ddim"))


def noised(subject: Subject, calibration: Calibration) -> Calls:
    """Pictures at their noise levels. Every sample has noise of its own, and pictures come in turn."""
    guided = canvas.drawing(subject.pipe).guided(calibration.guidance)
    shown = yield from showing(subject, calibration, empty=guided)
    draw, made = generator("calibration", calibration.seed), []
    count = len(shown.clean) // (2 if guided else 1)
    for i, t in enumerate(_timesteps(subject, calibration)):
        noise = torch.randn(shown.clean[:1].shape, generator=draw)
        for row in (i % count, i % count + count) if guided else (i % count,):
            made.append(shown.at(subject.net, [row], torch.tensor([t]), noise))
    return made


def _target(schedule: Any, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """What a perfect denoiser would answer, by the kind of its schedule."""
    match schedule.config.prediction_type:
        case "epsilon":
            return noise
        case "v_prediction":
            return schedule.get_velocity(clean, noise, step)
    return clean


def read(subject: Subject, calibration: Calibration) -> Calls:
    """Each prompt once."""
    words = dict.fromkeys([*_captions(subject, calibration), *([""] if calibration.guidance > 1 else [])])
    tokenizer, made = subject.pipe.tokenizer, []
    for prompt in words:
        tokens = tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt",
                           max_length=tokenizer.model_max_length)
        inputs = {"input_ids": tokens.input_ids}
        if getattr(subject.net.config, "use_attention_mask", False):  # as the pipeline does
            inputs["attention_mask"] = tokens.attention_mask
        made.append(Call(_placed(inputs, subject.net), 0.0, None))
        yield Looked(len(made), len(words), "reading prompts")
    return made


def decoded(subject: Subject, calibration: Calibration) -> Calls:
    """Each picture once."""
    latents = yield from _latents(subject, calibration)
    return [Call(pictures.decodable(subject.pipe.vae, one), 0.0, None) for one in latents]


def normal(subject: Subject, calibration: Calibration) -> Calls:
    """Standard normal inputs; ids are drawn evenly, places and sizes stay 0."""
    shapes, draw, made = blank(subject) or {}, generator("calibration", calibration.seed), []
    for t in _timesteps(subject, calibration):
        inputs = {name: _filled(subject.net, name, value, draw) for name, value in shapes.items()}
        level = t / levels(subject) if "timestep" in shapes else 0.0
        if "timestep" in shapes:  # FLUX counts from 0 to 1
            inputs["timestep"] = torch.tensor([level]) if "img_ids" in shapes else torch.tensor([t])
        noise: Any = inputs.get("sample", inputs.get("hidden_states"))
        target = noise.to(place(subject.net)[0]) if denoises(subject) and answers_noise(subject) else None
        made.append(Call(_placed(inputs, subject.net), level, target))
        yield Looked(len(made), calibration.samples, "drawing random inputs")
    return made


def _filled(net: Any, name: str, value: Any, draw: torch.Generator) -> Any:
    """Random values in place of shapes."""
    match value:
        case None:
            return None
        case Mapping():
            return {key: _filled(net, key, inner, draw) for key, inner in value.items()}
        case _ if name in PLACES:
            return torch.zeros(value.shape)
        case _ if value.is_floating_point():
            return torch.randn(value.shape, generator=draw)
    ids = next((n for n in (getattr(net.config, table, None) for table in TABLES) if n), 1)
    return torch.randint(ids, value.shape, generator=draw)


# What calls are made of.


def pictured(subject: Subject, calibration: Calibration) -> pictures.Captioned:
    """The pictures that samples are made of, at most as many as samples; none where the model draws its own."""
    if calibration.source in ("generated", "noise"):
        return []
    own = pictures.shipped(subject.pipe) if calibration.source == "bundled" else None
    listed = pictures.captioned(own) if own else pictures.inside(folder(calibration), calibration.prompts)
    return listed[: calibration.samples]


def folder(calibration: Calibration) -> Path:
    """The folder that a calibration names as its source."""
    return Path(calibration.source).expanduser()


def _captions(subject: Subject, calibration: Calibration) -> list[str]:
    """The prompts that samples are made for, at most as many as samples."""
    if calibration.source != "generated":
        return [caption for _, caption in pictured(subject, calibration)]
    own = pictures.shipped(subject.pipe)
    usual = [caption for _, caption in pictures.captioned(own)] if own else PROMPTS
    if not canvas.drawing(subject.pipe).prompted:
        return [""] * calibration.samples
    return list(calibration.prompts or usual)[: calibration.samples]


def _latents(subject: Subject, calibration: Calibration) -> pictures.Latents:
    """The clean latents, one for each of ``_captions``."""
    if calibration.source == "generated":
        return pictures.drawing(subject.pipe, _captions(subject, calibration), calibration.seed, calibration.guidance)
    return pictures.encoding(subject.pipe, [file for file, _ in pictured(subject, calibration)])


def _timesteps(subject: Subject, calibration: Calibration) -> list[int]:
    """One for each sample: those given in turn, or the middles of equal shares of the schedule."""
    count, given = calibration.samples, calibration.timesteps
    if given:
        return [given[i % len(given)] for i in range(count)]
    return [int((i + 0.5) * levels(subject) / count) for i in range(count)]


def levels(subject: Subject) -> int:
    """How many timesteps the noise schedule has."""
    return getattr(_schedule(subject), "num_train_timesteps", 1000)


def blank(subject: Subject) -> dict[str, Any] | None:
    """The component's arguments without values; None when its class is not known."""
    with torch.device("meta"):
        return arguments(subject.net, subject.example)


def denoises(subject: Subject) -> bool:
    """Whether the component is a denoiser."""
    return subject.component in DENOISERS or "timestep" in (blank(subject) or {})


def answers_noise(subject: Subject) -> bool:
    """Whether a denoiser should answer with the noise in what it sees; a bare model is taken to be of this kind."""
    return getattr(_schedule(subject), "prediction_type", "epsilon") == "epsilon"


def _schedule(subject: Subject) -> Any:
    return getattr(getattr(subject.pipe, "scheduler", None), "config", None)


def generator(what: str, seed: int) -> torch.Generator:
    """Random numbers of their own for each purpose, on the CPU: with the bare seed they would be those of pictures."""
    return torch.Generator().manual_seed(zlib.crc32(f"{what} {seed}".encode()))


def place(net: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a network is, and in which type."""
    first = next(tensor for tensor in net.parameters() if tensor.is_floating_point())
    return first.device, first.dtype


def _placed(inputs: Any, net: nn.Module) -> Any:
    """Inputs on a network's device, numbers in its type, but for timesteps: half precision cannot count to 1000."""
    device, dtype = place(net)
    if isinstance(inputs, Mapping):
        return {name: value.to(device) if name == "timestep" else _placed(value, net) for name, value in inputs.items()}
    if inputs is None:
        return None
    return inputs.to(device, dtype) if inputs.is_floating_point() else inputs.to(device)
