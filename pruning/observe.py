"""Looking at a component while it works: the inputs that its layers meet, and the gradients of its loss.

What is put in place for that (hooks, gradients, evaluation mode) stands during a single call and is gone before the
progress of that call is told, so work that is abandoned leaves nothing behind. Statistics are kept by the content of
everything that they come from, so that other ratios, and other methods, look nothing up twice.
"""

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import samples
from pruning.call import Call
from pruning.errors import Refused
from pruning.kept import GB, Kept
from pruning.subject import Subject
from pruning.types import Calibration
from pruning.units.site import Site
from pruning.work import Looked

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
HALF = 1024.0  # a float16 network's error is taken so many times, or small gradients are 0: 16 % of those of emoji-sd
Norms = Mapping[str, Tensor]  # module -> (buckets, inputs)

_norms, _gradients = Kept(GB // 4), Kept(0)  # of gradients the newest alone: they are as large as the network


def forget() -> None:
    """Let go of all statistics."""
    _norms.drop(lambda key: True)
    _gradients.drop(lambda key: True)


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


@contextmanager
def resting(net: nn.Module) -> Iterator[None]:
    """Every part in evaluation mode, so that nothing is left to chance."""
    training = [module for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


# Inputs.


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
        _norms.get_or(key, lambda: (found, sum(norm.nbytes for norm in found.values())))
    return found


def _looking(subject: Subject, calibration: Calibration, buckets: int) -> Generator[Looked, None, Norms]:
    shown = yield from samples.making(subject, calibration)
    squares = {name: (torch.zeros(buckets, layer.weight.shape[1] * getattr(layer, "groups", 1), dtype=torch.float64),
                      torch.zeros(buckets, dtype=torch.float64))
               for name, layer in subject.net.named_modules() if isinstance(layer, LAYERS)}
    for done, call in enumerate(shown):
        place = bucket(call.level, buckets)

        def add(name: str, given: Tensor, place: int = place) -> None:
            sums, counts = squares[name]
            sums[place] += given.square().sum(0).cpu()
            counts[place] += len(given)

        with watching(subject.net, add):
            samples.answer(subject.net, call)
        yield Looked(done + 1, len(shown), "looking at inputs")
    return {name: means(sums, counts).sqrt().float() for name, (sums, counts) in squares.items()}


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


# Gradients.


@dataclass(frozen=True, eq=False)
class Gradients:
    """The gradients of a denoiser's mean squared error, or their squares: the mean over calls, and what each comes to.

    ``mean`` has every parameter by name, float32 on the CPU. ``effects`` is, for each call and parameter, the sum over
    its values of |w g|, or of w² g² / 2, (calls, parameters); ``levels`` are the calls' noise levels.
    """

    mean: Mapping[str, Tensor]
    effects: Tensor
    levels: tuple[float, ...]

    def profile(self, site: Site, buckets: int) -> Tensor:
        """What removing a weight of a site comes to in each timestep bucket, the mean over its weights, (buckets,)."""
        names = list(self.mean)
        owned = {member.tensor for member in site.members}
        each = self.effects[:, [names.index(name) for name in owned]].sum(1)  # (calls,)
        places = torch.tensor([bucket(level, buckets) for level in self.levels])
        sums = torch.zeros(buckets, dtype=torch.float64).index_add_(0, places, each)
        return (means(sums, places.bincount(minlength=buckets)) / sum(self.mean[n].numel() for n in owned)).float()


def ready(subject: Subject, calibration: Calibration | None) -> Calibration:
    """A calibration with every value checked, of a component that has a loss.

    Raises:
        Refused: it has none, or a value cannot be.
    """
    if reason := samples.why_not(subject, "gradients"):
        raise Refused(reason, "Choose a method that sees inputs or weights alone.")
    return samples.settled(subject, calibration)


def gradients(subject: Subject, calibration: Calibration | None, square: bool) -> Generator[Looked, None, Gradients]:
    """The gradients, or their squares, of a denoiser's error on each call.

    Raises:
        Refused: the component has no right answer, or there is no room for as many numbers as it has parameters.
    """
    calibration = ready(subject, calibration)
    key = (samples.mark(subject, calibration), square)
    found = _gradients.look(key)
    if found is None:
        _gradients.drop(lambda key: True)  # makes room before more is needed
        found = yield from _deriving(subject, calibration, square)
        _gradients.get_or(key, lambda: (found, 0))
    return found


def _deriving(subject: Subject, calibration: Calibration, square: bool) -> Generator[Looked, None, Gradients]:
    shown = yield from samples.making(subject, calibration)
    tensors = {name: p for name, p in subject.net.named_parameters() if p.is_floating_point()}
    mean = blank(tensors)
    effects = torch.zeros(len(shown), len(tensors), dtype=torch.float64)
    times = scale_of(tensors)
    for done, call in enumerate(shown):
        effect = dict.fromkeys(tensors, 0.0)

        def take(name: str, weight: Tensor, gradient: Tensor, effect: dict[str, float] = effect) -> None:
            gradient.div_(times)
            if square:
                mean[name].addcmul_(gradient, gradient, value=1 / len(shown))
                effect[name] = float((weight * gradient).square().sum()) / 2
            else:
                mean[name].add_(gradient, alpha=1 / len(shown))
                effect[name] = float((weight * gradient).abs().sum())

        with differentiating(subject.net, tensors, take):
            (error(subject.net, call) * times).backward()
        effects[done] = torch.tensor(list(effect.values()), dtype=torch.float64)
        yield Looked(done + 1, len(shown), "looking at gradients")
    return Gradients(mean, effects, tuple(call.level for call in shown))


def scale_of(tensors: Mapping[str, Tensor]) -> float:
    """What a loss is multiplied with before it is differentiated, so that small gradients survive."""
    return HALF if any(tensor.dtype == torch.float16 for tensor in tensors.values()) else 1.0


def error(net: nn.Module, call: Call) -> Tensor:
    """The mean squared error of a call, as one number to differentiate.

    Raises:
        Refused: nobody knows the right answer.
    """
    return missed(samples.output(net, call), call)


def missed(answer: Tensor, call: Call) -> Tensor:
    """The same, of an answer that is there already."""
    if call.target is None:
        raise Refused("The right answer to these samples is not known, so there is no loss.",
                      "Choose another source for the calibration, or a method that sees inputs alone.")
    return F.mse_loss(answer[:, : call.target.shape[1]], call.target)  # variances may follow


@contextmanager
def differentiating(net: nn.Module, tensors: Mapping[str, nn.Parameter],
                    take: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    """A backward pass gives each tensor's value and gradient to ``take``, float32 on the CPU, and lets them go."""

    def taken(name: str, tensor: nn.Parameter) -> None:
        assert tensor.grad is not None
        gradient, tensor.grad = tensor.grad, None
        take(name, tensor.detach().float().cpu(), gradient.float().cpu())

    before = [(p, p.requires_grad, p.grad) for p in net.parameters()]
    with ExitStack() as stack:
        stack.enter_context(resting(net))
        stack.callback(_put_back, before)
        for p, _, _ in before:
            p.requires_grad_(False).grad = None
        for name, tensor in tensors.items():
            handle = tensor.requires_grad_(True).register_post_accumulate_grad_hook(partial(taken, name))
            stack.callback(handle.remove)
        with torch.enable_grad():
            yield


def _put_back(before: list[tuple[nn.Parameter, bool, Tensor | None]]) -> None:
    for p, required, gradient in before:
        p.requires_grad_(required).grad = gradient


def blank(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros for as many numbers as some tensors have, float32; on the disk when memory is short."""
    flat = _zeros(sum(tensor.numel() for tensor in tensors.values()))
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}


def _zeros(count: int) -> Tensor:
    """Zeros in memory, or in a file without a name when they would take more than a quarter of what is free.

    Raises:
        Refused: they fit neither in memory nor on the disk.
    """
    if 4 * count <= psutil.virtual_memory().available // 4:
        return torch.zeros(count)
    if 4 * count > shutil.disk_usage(tempfile.gettempdir()).free:
        raise Refused(f"Gradients take {4 * count / 1e9:.3g} GB, and neither memory nor disk has room for them.",
                      f"Free some space in {tempfile.gettempdir()}, or choose a method that sees inputs alone.")
    with tempfile.TemporaryFile() as file:  # it goes when the tensor does
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(count,)))
