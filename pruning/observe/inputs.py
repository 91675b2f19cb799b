"""What layers are given while a network works."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pruning.cache import GB, Cache
from pruning.calibration import samples
from pruning.calibration.call import Call
from pruning.network.inputs import LAYERS
from pruning.network.subject import Subject
from pruning.observe.modes import resting
from pruning.progress import Looked
from pruning.types import Calibration


class Norms(dict[str, Tensor]):
    """Of each module (buckets, inputs); ``halves`` has the same by either half of the samples, None of one sample."""

    halves: "tuple[Norms, Norms] | None" = None


_norms = Cache("input norms", GB // 4)


def bucket(level: float, buckets: int) -> int:
    """The timestep bucket of a noise level; the first has the least noise."""
    return min(int(level * buckets), buckets - 1)


def means(sums: Tensor, counts: Tensor) -> Tensor:
    """Sums over buckets, (buckets, ...), by their counts, (buckets,); an empty bucket has the mean of the others."""
    out = sums / counts.clamp_min(1).view(-1, *[1] * (sums.ndim - 1))
    seen = counts > 0
    if seen.any():
        out[~seen] = out[seen].mean(0)
    return out


def input_norms(subject: Subject, calibration: Calibration | None, buckets: int) -> Generator[Looked, None, Norms]:
    """The root mean square of what each linear layer and convolution is given: module -> (buckets, inputs) float32.

    The mean is over samples and positions, apart for each timestep bucket and input channel; the positions of a kernel
    share it. A layer that no call goes through has zeros. It is ||x|| over the root of the count, so that buckets and
    layers with different counts compare.
    """
    calibration = samples.settled(subject, calibration)
    key = (samples.mark(subject, calibration), buckets)
    found = _norms.look(key)
    if found is None:
        found = yield from _looking(subject, calibration, buckets)
        each = [found, *(found.halves or ())]
        _norms.get_or(key, lambda: (found, sum(norm.nbytes for norms in each for norm in norms.values())))
    return found


def _looking(subject: Subject, calibration: Calibration, buckets: int) -> Generator[Looked, None, Norms]:
    shown = yield from samples.making(subject, calibration)
    half = first_half(shown, calibration)
    parts = 2 if half else 1
    squares = {name: (torch.zeros(parts, buckets, layer.weight.shape[1] * getattr(layer, "groups", 1),
                                  dtype=torch.float64), torch.zeros(parts, buckets, dtype=torch.float64))
               for name, layer in subject.net.named_modules() if isinstance(layer, LAYERS)}
    for done, call in enumerate(shown):
        own = (int(bool(half) and done not in half), bucket(call.level, buckets))

        def add(name: str, given: Tensor, own: tuple[int, int] = own) -> None:
            sums, counts = squares[name]
            sums[own] += given.square().sum(0).cpu()
            counts[own] += len(given)

        with watching(subject.net, add):
            samples.answer(subject.net, call)
        yield Looked(done + 1, len(shown), "looking at inputs")

    def norms(part: slice) -> Norms:
        return Norms((name, means(sums[part].sum(0), counts[part].sum(0)).sqrt().float())
                     for name, (sums, counts) in squares.items())

    found = norms(slice(parts))
    found.halves = (norms(slice(0, 1)), norms(slice(1, 2))) if half else None
    return found


@contextmanager
def watching(net: nn.Module, see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Every linear layer and convolution tells what it is given: its name, and (positions, inputs) float32."""

    def told(name: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        axis = -1 - len(getattr(layer, "kernel_size", ()))  # of the channels
        given = args[0].detach().movedim(axis, -1)
        see(name, given.reshape(-1, given.shape[-1]).float())

    with ExitStack() as stack:
        stack.enter_context(resting(net))
        for name, layer in net.named_modules():
            if isinstance(layer, LAYERS):
                stack.callback(layer.register_forward_pre_hook(partial(told, name)).remove)
        yield


def combined(norm: Tensor, over: str) -> Tensor:
    """Norms of several buckets, (buckets, ...), as one: their "mean", or the largest ("max")."""
    return norm.amax(0) if over == "max" else norm.mean(0)


def met(norm: Tensor, layer: Any, start: int, piece: Tensor) -> Tensor:
    """What the weights of a piece meet, to multiply with them.

    ``norm`` has all inputs of the layer; the piece is (*rows, inputs), from output channel ``start`` on. A layer with
    groups has fewer inputs in a row than in all.
    """
    own = _groups(layer, start, piece)
    if own is None:
        return norm.to(piece.device)
    rows = norm.to(piece.device).view(-1, piece.shape[-1])[own]
    return rows.view(len(piece), *[1] * (piece.ndim - 2), -1)


def by_input(piece: Tensor, layer: Any, start: int) -> Tensor:
    """A piece's sum over the weights that meet the same input, for all inputs of the layer."""
    own = _groups(layer, start, piece)
    if own is None:
        return piece.sum(tuple(range(piece.ndim - 1)))
    each = piece.sum(tuple(range(1, piece.ndim - 1)))  # (outputs, inputs of a group)
    return each.new_zeros(layer.groups, each.shape[1]).index_add_(0, own, each).flatten()


def _groups(layer: Any, start: int, piece: Tensor) -> Tensor | None:
    """The group of each of a piece's output channels; None when there is only one."""
    groups = getattr(layer, "groups", 1)
    if groups == 1:
        return None
    return torch.arange(start, start + len(piece), device=piece.device) * groups // layer.out_channels


def first_half(shown: list[Call], calibration: Calibration) -> set[int]:
    """The places of those calls that are of the first half of the samples; none where there is one sample alone."""
    first, second = samples.halves(list(enumerate(shown)), calibration.samples, lambda pair: pair[1].level)
    return {place for place, _ in first} if second else set()
