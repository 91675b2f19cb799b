"""Gradients of a component's loss: of single weights, and summed over larger units."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.cache import Cache
from pruning.calibration import samples
from pruning.calibration.call import Call, generator
from pruning.errors import Refused
from pruning.network.subject import Subject
from pruning.observe.inputs import bucket, first_half, means
from pruning.observe.modes import blank, resting, room_for
from pruning.progress import Looked
from pruning.types import Calibration
from pruning.units.site import Member, Site

HALF = 1024.0  # a float16 network's error is taken so many times, or small gradients are 0: 16 % of those of emoji-sd
_gradients = Cache("gradients", 0)  # the newest alone: they are as large as the network


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
