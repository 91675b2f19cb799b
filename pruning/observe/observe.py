"""Looking at a component while it works: the inputs that its layers meet, and the gradients of its loss.

What is put in place for that (hooks, gradients, evaluation mode) stands during a single call and is gone before the
progress of that call is told, so work that is abandoned leaves nothing behind. Statistics are kept by the content of
everything that they come from, so that other ratios, and other methods, look nothing up twice.
"""

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from math import sqrt
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.cache import GB, Kept
from pruning.calibration import samples
from pruning.calibration.call import Call, generator
from pruning.errors import Refused
from pruning.network.inputs import LAYERS
from pruning.network.subject import Subject
from pruning.progress import Looked
from pruning.types import Calibration
from pruning.units.site import Member, Site

HALF = 1024.0  # a float16 network's error is taken so many times, or small gradients are 0: 16 % of those of emoji-sd


class Norms(dict[str, Tensor]):
    """Of each module (buckets, inputs); ``halves`` has the same by either half of the samples, None of one sample."""

    halves: "tuple[Norms, Norms] | None" = None


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


# Gradients.


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients by parameter, their sizes or their squares: the mean over calls, and what each call comes to.

    ``mean`` has every parameter by name, float32 on the CPU, and ``first`` the mean over the first half of the samples
    alone, ``share`` of all; None where there is one sample, or no room. ``effects`` is, for each call and parameter,
    the sum over its values of |w g|, or of w² g² where squares were taken, (calls, parameters); ``levels`` are the
    calls' noise levels.
    """

    mean: Mapping[str, Tensor]
    effects: Tensor
    levels: tuple[float, ...]
    first: Mapping[str, Tensor] | None = None
    share: float = 0.5

    @cached_property
    def halves(self) -> "tuple[Gradients, Gradients] | None":
        """What each half of the samples says on its own."""
        if self.first is None:
            return None
        return tuple(Gradients(half, self.effects, self.levels)  # type: ignore[return-value]
                     for half in (self.first, Rest(self.mean, self.first, self.share)))

    def profile(self, site: Site, buckets: int) -> Tensor:
        """What removing a weight of a site comes to in each timestep bucket, the mean over its weights, (buckets,)."""
        names = list(self.mean)
        owned = {member.tensor for member in site.members}
        each = self.effects[:, [names.index(name) for name in owned]].sum(1)  # (calls,)
        places = torch.tensor([bucket(level, buckets) for level in self.levels])
        sums = torch.zeros(buckets, dtype=torch.float64).index_add_(0, places, each)
        return (means(sums, places.bincount(minlength=buckets)) / sum(self.mean[n].numel() for n in owned)).float()


@dataclass(frozen=True, eq=False)
class Rest(Mapping[str, Tensor]):
    """The mean over the other samples than those that ``first`` is of, worked out where it is asked for."""

    mean: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    share: float

    def __getitem__(self, name: str) -> Tensor:
        return (self.mean[name] - self.share * self.first[name]) / (1 - self.share)

    def __iter__(self) -> Iterator[str]:
        return iter(self.mean)

    def __len__(self) -> int:
        return len(self.mean)


def ready(subject: Subject, calibration: Calibration | None) -> Calibration:
    """A calibration with every value checked, of a component that has a loss.

    Raises:
        Refused: it has none, or a value cannot be.
    """
    if reason := samples.why_not(subject, "gradients"):
        raise Refused(reason, "Choose a method that sees inputs or weights alone.")
    return samples.settled(subject, calibration)


def gradients(subject: Subject, calibration: Calibration | None, how: str = "mean",
              of: str = "loss") -> Generator[Looked, None, Gradients]:
    """The gradients of each call, their sizes or their squares (``how``), as a mean over calls.

    - of "loss": of a denoiser's mean squared error;
    - of "output": of the output's inner product with random signs, which are others for each call, times the root of
      two over its size. The mean of the squares estimates the diagonal of the Gauss-Newton matrix of the mean squared
      error without bias (Hutchinson, 1990; of a diagonal: Bekas, Kokiopoulou and Saad, 2007). No target is needed.

    Raises:
        Refused: the component has no right answer, or there is no room for as many numbers as it has parameters.
    """
    calibration = ready(subject, calibration) if of == "loss" else samples.settled(subject, calibration)
    key = (samples.mark(subject, calibration), how, of)
    found = _gradients.look(key)
    if found is None:
        _gradients.drop(lambda key: True)  # makes room before more is needed
        found = yield from _deriving(subject, calibration, how, of)
        _gradients.get_or(key, lambda: (found, 0))
    return found


def _deriving(subject: Subject, calibration: Calibration, how: str, of: str) -> Generator[Looked, None, Gradients]:
    shown = yield from samples.making(subject, calibration)
    tensors = {name: p for name, p in subject.net.named_parameters() if p.is_floating_point()}
    half = first_half(shown, calibration)
    twice = bool(half) and room_for(2, tensors)
    mean, first = blank(tensors), blank(tensors) if twice else None
    effects = torch.zeros(len(shown), len(tensors), dtype=torch.float64)
    times, draw = scale_of(tensors) if of == "loss" else 1.0, generator("signs", calibration.seed)
    for done, call in enumerate(shown):
        effect = dict.fromkeys(tensors, 0.0)

        def take(name: str, weight: Tensor, gradient: Tensor, effect: dict[str, float] = effect,
                 own: bool = done in half) -> None:
            gradient.div_(times)
            effect[name] = _taken(mean[name], gradient, weight, how, 1 / len(shown))
            if first is not None and own:
                _taken(first[name], gradient, weight, how, 1 / len(half))

        with differentiating(subject.net, tensors, take):
            (error(subject.net, call) * times if of == "loss" else projected(subject.net, call, draw)).backward()
        effects[done] = torch.tensor(list(effect.values()), dtype=torch.float64)
        yield Looked(done + 1, len(shown), "looking at gradients")
    return Gradients(mean, effects, tuple(call.level for call in shown), first, len(half) / len(shown))


def _taken(mean: Tensor, gradient: Tensor, weight: Tensor, how: str, share: float) -> float:
    """Add a call's share to a mean; what it comes to with the weights."""
    if how == "square":
        mean.addcmul_(gradient, gradient, value=share)
        return float((weight * gradient).square().sum())
    mean.add_(gradient.abs() if how == "size" else gradient, alpha=share)
    return float((weight * gradient).abs().sum())


def first_half(shown: list[Call], calibration: Calibration) -> set[int]:
    """The places of those calls that are of the first half of the samples; none where there is one sample alone."""
    first, second = samples.halves(list(enumerate(shown)), calibration.samples, lambda pair: pair[1].level)
    return {place for place, _ in first} if second else set()


def projected(net: nn.Module, call: Call, draw: torch.Generator) -> Tensor:
    """The inner product of a call's output with random signs, by the root of half its size."""
    answer = samples.output(net, call)
    if call.target is not None:
        answer = answer[:, : call.target.shape[1]]  # variances may follow
    return (answer * signs(answer.shape, draw).to(answer.device)).sum() / sqrt(answer.numel() / 2)


def signs(shape: torch.Size, draw: torch.Generator) -> Tensor:
    """Random signs, 1 or -1 with the same chance, float32 on the CPU."""
    return torch.randint(2, shape, generator=draw).float().mul_(2).sub_(1)


@dataclass(frozen=True, eq=False)
class UnitEffects:
    """Of each call, weight times gradient added up over all that a larger unit owns: site -> (calls, units) float32.

    ``half`` are the places of the calls of the first half of the samples, empty where there is one sample.
    """

    sums: Mapping[str, Tensor]
    levels: tuple[float, ...]
    half: frozenset[int]

    def profile(self, each: Tensor, buckets: int) -> Tensor:
        """The mean over units, (buckets,), of what is given of each call, (calls, units)."""
        places = torch.tensor([bucket(level, buckets) for level in self.levels])
        sums = torch.zeros(buckets).index_add_(0, places, each.mean(1))
        return means(sums, places.bincount(minlength=buckets))

    def halved(self, each: Tensor) -> tuple[Tensor, Tensor]:
        """The means over either half of the samples, (units,) each, of what is given of each call."""
        own = torch.tensor([place in self.half for place in range(len(each))])
        return each[own].mean(0), each[~own].mean(0)


def unit_effects(subject: Subject, sites: Iterable[Site], calibration: Calibration | None
                 ) -> Generator[Looked, None, UnitEffects]:
    """What each call's loss would lose with each larger unit, to first order, signs kept.

    Raises:
        Refused: the component has no right answer.
    """
    calibration = ready(subject, calibration)
    shown = yield from samples.making(subject, calibration)
    owners = dict[str, list[tuple[Site, Member]]]()
    sums = {site.name: torch.zeros(len(shown), site.units) for site in sites}
    for site in sites:
        for member in site.members:
            owners.setdefault(member.tensor, []).append((site, member))
    tensors = {name: p for name, p in subject.net.named_parameters() if name in owners}
    times = scale_of(tensors)
    for done, call in enumerate(shown):

        def take(name: str, weight: Tensor, gradient: Tensor, done: int = done) -> None:
            effect = weight * gradient.div_(times)
            for site, member in owners[name]:
                sums[site.name][done] += member.of(effect, site.units).sum(1)

        with differentiating(subject.net, tensors, take):
            (error(subject.net, call) * times).backward()
        yield Looked(done + 1, len(shown), "looking at gradients")
    return UnitEffects(sums, tuple(call.level for call in shown), frozenset(first_half(shown, calibration)))


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


def room_for(times: int, tensors: Mapping[str, Tensor]) -> bool:
    """Whether as many numbers as some tensors have, so many times over, take at most a quarter of what is free."""
    return 4 * times * sum(tensor.numel() for tensor in tensors.values()) <= psutil.virtual_memory().available // 4


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
