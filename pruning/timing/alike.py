"""Two sides on the clock that pruning alone sets apart: what else differs is refused, and both get the same history.

A network that was loaded and one that was copied differ by a percent of a step although they hold the same numbers:
tensors lie elsewhere in memory, and Python keeps the attributes of modules otherwise. So both are copied, in one way.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from pruning.drawing import canvas
from pruning.errors import Refused
from pruning.network.clone import copied
from pruning.network.memory import available
from pruning.network.obstacles import compiled, hindrance, unwrapped
from pruning.network.subject import module_at, subject
from pruning.surgery.slices import format_of

BOTH = ("Measure a model against one that was pruned from it; load both with the same device and dtype, and do to one "
        "what is done to the other.")
RUNS = "is compiled"
COMPILED = "What apply gives is not compiled: compile both in the same way, or measure both before that."


def check(dense: Any, pruned: Any) -> None:
    """Whether a comparison of two pipelines that can be drawn means anything.

    Raises:
        Refused: something besides pruning sets them apart, and with it their times.
    """
    one, other = canvas.drawing(dense), canvas.drawing(pruned)
    for a, b in zip(_drawn(one), _drawn(other), strict=True):
        _equal(a, b)
    for name in one.parts:
        nets = module_at(dense, name), module_at(pruned, name)
        for a, b in zip(_run(*nets, name), _run(*nets[::-1], name), strict=True):
            _equal(a, b)
        _treated(name, _whole(dense, name), _whole(pruned, name))
    _treated("pipeline", dense, pruned)


def _equal(one: str, other: str) -> None:
    if one != other:
        raise Refused(f"Dense is {one} and pruned is {other}: their times would differ for that alone.", BOTH)


def _treated(name: str, dense: Any, pruned: Any) -> None:
    """Refuse what was done to one side alone."""
    one, other = _treatment(dense), _treatment(pruned)
    if one != other:
        side, what = ("dense", one) if one else ("pruned", other)
        raise Refused(f"The {name} of the {side} model {what}, unlike that of the other: their times would differ for "
                      "that alone.", COMPILED if what == RUNS else BOTH)


def _treatment(owner: Any) -> str:
    """What was done to a network (of a pipeline, to its methods) that its copies lack, beginning with the verb."""
    if compiled(owner):
        return RUNS
    if not isinstance(owner, nn.Module):
        return ""
    return re.split(r"[,:.](?:\s|$)", hindrance(owner))[0]


def _drawn(around: canvas.Canvas) -> Iterator[str]:
    """What is drawn."""
    pipe = around.pipe
    kind = next(kind.__name__ for kind in type(pipe).__mro__ if kind.__name__ in canvas.KINDS)
    net: Any = subject(pipe, around.parts[0]).net
    yield f"a {kind} with {type(net).__name__}"
    yield (f"for {net.config.in_channels} channels of {net.config.sample_size} latents a side, {around.factor} pixels "
           "each")


def _run(net: nn.Module, other: nn.Module, name: str) -> Iterator[str]:
    """How a part of one side is run, in words; its attention where the other side has some, too."""
    beside = "" if name == "unet" else f" ({name})"
    kinds = sorted({f"{tensor.dtype} on {tensor.device}" for tensor in net.parameters()})
    yield f"{', '.join(kinds) or 'without parameters'}{beside}"
    lasts = any(format_of(tensor) is torch.channels_last for tensor in net.parameters())
    yield f"in {'channels_last' if lasts else 'contiguous'} format{beside}"
    yield f"in {'training' if net.training else 'evaluation'} mode{beside}"
    known = dict(other.named_modules())
    ways = sorted({type(module.processor).__name__ for place, module in net.named_modules()
                   if hasattr(module, "processor") and hasattr(known.get(place), "processor")})
    yield f"attending by {', '.join(ways) or 'no processor'}{beside}"


def _whole(pipe: Any, name: str) -> Any:
    """The component that a part belongs to, in its wrappers."""
    return getattr(unwrapped(pipe), name.partition(".")[0])


def copies(dense: Any, pruned: Any) -> tuple[Any, Any]:
    """Both with copies of the networks that they do not share; where memory is short, copies that share the tensors.

    What was treated so that a copy would run otherwise, which after ``check`` holds for both, runs as it is.
    """
    sides = [dense, pruned]
    for name in canvas.drawing(dense).parts:
        nets = [module_at(pipe, name) for pipe in sides]
        if nets[0] is nets[1] or any(_treatment(_whole(pipe, name)) for pipe in sides):
            continue
        make = fresh if sum(map(_bytes, nets)) < available() / 2 else _shared
        try:
            sides = [subject(pipe, name).holding(copied(net, make)) for pipe, net in zip(sides, nets, strict=True)]
        except Refused:  # the pipeline's own methods hold on to it
            return dense, pruned
    return sides[0], sides[1]


def fresh(tensor: Tensor) -> Tensor:
    """The same numbers in memory of their own, in the same format."""
    new = tensor.detach().clone()
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _shared(tensor: Tensor) -> Tensor:
    return tensor


def _bytes(net: nn.Module) -> int:
    """What its tensors take of the machine's own memory."""
    return sum(t.nbytes for t in chain(net.parameters(), net.buffers()) if t.device.type == "cpu")
