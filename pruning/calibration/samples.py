"""What a component is shown by methods that look at data: what can be asked for, and the calls that come of it.

Calls are kept for a while, since several looks need the same ones.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from pruning.cache import GB, Cache
from pruning.calibration import pictures
from pruning.calibration.call import (
    Call,
    Calls,
    Shown,
    answers_noise,
    blank,
    decoded,
    denoises,
    folder,
    levels,
    noised,
    normal,
    pictured,
    place,
    read,
    showing,
)
from pruning.drawing import canvas
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.subject import Subject
from pruning.progress import Looked, drained
from pruning.types import Calibration
from pruning.values import whole

# Components of a pipeline that draws: how their calls are made, and which other networks these come from.
MAKERS = {"unet": (noised, ("text_encoder", "vae")), "text_encoder": (read, ()),
          "vae.decoder": (decoded, ("unet", "text_encoder", "vae"))}

T = TypeVar("T")

_made = Cache("calibration samples", GB // 8)


def why_not(subject: Subject, sees: str) -> str | None:
    """Why a method that sees "inputs" or "gradients" cannot look at a component, in a sentence; None when it can."""
    if sees == "weights":
        return None
    if any(tensor.device.type == "meta" for tensor in subject.net.parameters()):
        return f"{subject.label} has shapes and no weights, so it answers nothing."
    known = sources(subject)
    if not known:
        return f"Which inputs {type(subject.net).__name__} takes is not known to this version."
    if sees == "gradients" and not denoises(subject):
        return f"{subject.label} is no denoiser: its right answer is not known, so it has no loss and no gradients."
    if sees == "gradients" and known == ["noise"] and not answers_noise(subject):
        return f"{subject.label} can be shown random inputs alone, to which its right answer is not known."
    return None


def sources(subject: Subject) -> list[str]:
    """Where a component's inputs can come from, the default first; next to "generated", folders of pictures work."""
    drawn = subject.component in MAKERS and drawable(subject.pipe)
    own = ["bundled"] if drawn and pictures.shipped(subject.pipe) else []
    return own + (["generated"] if drawn else []) + (["noise"] if blank(subject) else [])


def drawable(pipe: Any) -> bool:
    """Whether a pipeline can be shown pictures."""
    return unshown(pipe) is None


def unshown(pipe: Any) -> Refused | None:
    """Why a pipeline cannot be shown pictures: it cannot draw, or not at a size of its own; None where it can."""
    if (refusal := canvas.why_not(pipe)) is None:
        try:
            canvas.size(cast(canvas.Canvas, canvas.of(pipe)))
        except Refused as found:
            refusal = found
    return refusal


def settled(subject: Subject, calibration: Calibration | None) -> Calibration:
    """A calibration with every value checked against a component; None is the component's default.

    Prompts, timesteps and the source may stay empty: they stand for the model's own prompts, for all levels evenly, and
    for the first source that the component has.

    Raises:
        Refused: a value cannot be; the sentence names what would work.
    """
    if reason := why_not(subject, "inputs"):
        raise Refused(reason, "Choose a method that sees weights alone.")
    if calibration is None:
        return Calibration(source=sources(subject)[0])
    calibration = replace(calibration, source=calibration.source or first(subject, calibration))
    for step in calibration.timesteps:
        whole("A timestep of a calibration", step, 0, levels(subject) - 1)
    _check_source(subject, calibration)
    return calibration


def first(subject: Subject, calibration: Calibration) -> str:
    """Where samples come from when nobody says; bundled pictures have captions of their own, so not for prompts."""
    known = sources(subject)
    return "generated" if calibration.prompts and "generated" in known else known[0]


def _check_source(subject: Subject, calibration: Calibration) -> None:
    source, known = calibration.source, sources(subject)
    if source != "noise" and subject.component in MAKERS and canvas.of(subject.pipe) and (
            refusal := unshown(subject.pipe)):
        raise refusal
    choose = f"Choose {' or '.join(known)}{', or the path of a folder of pictures' if 'generated' in known else ''}."
    if source in ("bundled", "generated", "noise"):
        if source not in known:
            raise Refused(f"{subject.label} cannot be shown samples from the source {source!r}.", choose)
    elif "generated" not in known or not (source and folder(calibration).is_dir()):
        raise Refused(f"There are no samples at {source!r}.", choose)
    elif not pictures.inside(folder(calibration)):
        raise Refused(f"There are no pictures in {source}.", f"They end in {', '.join(pictures.KINDS)}.")
    if source == "bundled" and calibration.prompts:
        raise Refused("The bundled pictures have captions of their own.",
                      'Leave the prompts out, or choose source="generated".')
    around = canvas.of(subject.pipe)
    if around and not around.prompted and (calibration.prompts or calibration.guidance > 1):
        raise Refused("This model takes no prompts, and nothing guides it.", "Leave both out of the calibration.")
    if source == "noise" and (calibration.prompts or calibration.guidance > 1):
        raise Refused("Random inputs have no prompts and no guidance.", "Leave both out.")


def calls(subject: Subject, calibration: Calibration) -> list[Call]:
    """The calls that a settled calibration stands for, on the component's device and in its type."""
    return drained(making(subject, calibration))


def making(subject: Subject, calibration: Calibration) -> Calls:
    """The same as a stream of progress; closing it stops the work.

    - "bundled" and folders: pictures with their captions, made noisy;
    - "generated": likewise, of what the model itself draws for the prompts, one picture each, in 20 DDIM steps at the
      calibration's guidance when that is above 1, else at 3;
    - "noise": standard normal inputs. A denoiser that predicts noise should answer with what it is shown, as if there
      were nothing else in it; a loss taken there says how well it sees that, and nothing of pictures.

    With a guidance above 1 the denoiser is shown each sample with its prompt and with the empty one, as when drawing.
    """
    name = mark(subject, calibration)
    found = _made.look(name)
    if found is None:
        maker = normal if calibration.source == "noise" else MAKERS[subject.component][0]
        found = yield from maker(subject, calibration)
        _made.get_or(name, lambda: (found, _size(found)))
    return list(found)


def batch(subject: Subject, calibration: Calibration, empty: bool = False,
          reader: Subject | None = None) -> Generator[Looked, None, Shown]:
    """The clean samples of a settled calibration together, as ``call.showing`` makes them; kept for a while."""
    name = (mark(subject, calibration), _networks(reader, calibration) if reader else None, empty)
    found = _made.look(name)
    if found is None:
        found = yield from showing(subject, calibration, empty, reader)
        _made.get_or(name, lambda: (found, sum(tensor.nbytes for tensor in (found.clean, *found.told.values()))))
    return found


def halves(calls: Sequence[T], count: int, level: Callable[[T], float]) -> tuple[list[T], list[T]]:
    """The calls of ``count`` samples in two halves; the second is empty when there is one sample.

    Samples go there by turns, from little noise to much, so that both halves meet all of it. A sample's calls, with its
    prompt and with the empty one, follow each other and stay together.
    """
    each = max(1, len(calls) // count)  # a component without timesteps may have fewer calls than samples
    shown = sorted((calls[i : i + each] for i in range(0, len(calls), each)), key=lambda sample: level(sample[0]))
    first, second = ([call for sample in half for call in sample] for half in (shown[::2], shown[1::2]))
    return first, second


def mark(subject: Subject, calibration: Calibration) -> tuple:
    """What stands for a component and everything that its calls are made of, for caches."""
    files = [(str(file), file.stat().st_mtime_ns) for picture, _ in pictured(subject, calibration)
             for file in pictures.sources(picture)]
    config = getattr(getattr(subject.pipe, "scheduler", None), "config", {})
    schedule = sorted((key, str(value)) for key, value in config.items() if key[0] != "_")
    return (subject.component, calibration, *_networks(subject, calibration), *schedule, *files)


def _networks(subject: Subject, calibration: Calibration) -> tuple:
    """What stands for the networks that have a part in a component's calls."""
    parts = () if calibration.source == "noise" else MAKERS[subject.component][1]
    nets = [subject.net, *(net for name in parts if (net := getattr(subject.pipe, name, None)) is not None)]
    return (*map(fingerprint, nets), *place(subject.net))


@torch.no_grad()
def answer(net: nn.Module, call: Call) -> Tensor:
    """A component's first output, float32."""
    return output(net, call)


def output(net: nn.Module, call: Call) -> Tensor:
    """The same, with what gradients need."""
    out = net(**call.inputs)
    return (out if isinstance(out, Tensor) else out[0]).float()


def _size(made: list[Call]) -> int:
    """The bytes of all tensors; what several calls share counts once."""
    tensors = [t for call in made for t in (call.target, *call.inputs.values()) if isinstance(t, Tensor)]
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())
