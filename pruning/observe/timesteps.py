"""Single timesteps: how large a denoiser's loss is at each, and gradients summed over those that a gate lets through.

One batch of clean samples and one noise stand for all of them, as in Diff-Pruning (arXiv 2305.10924, section 3).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from pruning.cache import GB, Cache
from pruning.calibration import samples
from pruning.calibration.call import Call, generator, levels, normal
from pruning.network.subject import Subject
from pruning.observe.gradients import Gradients, differentiating, error, scale_of
from pruning.observe.modes import blank, resting, room_for
from pruning.progress import Looked, drained
from pruning.types import Calibration

AT_ONCE = 8  # samples in one call

_losses = Cache("losses at timesteps", GB // 256)
_sums = Cache("summed gradients", 0)  # the newest alone: they are as large as the network


def counting(losses: Sequence[float], threshold: float, gate: str) -> tuple[bool, ...]:
    """Which timesteps count.

    - "gate", the paper's formula (equation 6): those whose loss is above the threshold times the largest;
    - "prefix", what the reference does instead: those before the first whose loss is below the threshold times the
      largest so far; "prefix and one" has that one, too, as the reference's path for diffusers does.
    """
    if gate == "gate":
        most = max(losses)
        return tuple(threshold == 0 or loss > threshold * most for loss in losses)
    most, end = 0.0, len(losses)
    for i, loss in enumerate(losses):
        most = max(most, loss)
        if loss < threshold * most:
            end = i + (gate == "prefix and one")
            break
    return tuple(i < end for i in range(len(losses)))


@dataclass(frozen=True, eq=False)
class Part:
    """A call of some of a batch: which share of the batch it is, and of which half of the samples, 0 or 1."""

    call: Call
    share: float
    half: int


At = Callable[[int, bool], Iterator[Part]]  # a timestep, and whether halves stay apart -> the whole batch at it


def _batch(subject: Subject, calibration: Calibration) -> Generator[Looked, None, At]:
    """One batch of clean samples and one noise, the same at every timestep; or one of random inputs."""
    net = subject.net
    if calibration.source == "noise":
        def random(step: int, halved: bool) -> Iterator[Part]:
            made = drained(normal(subject, replace(calibration, timesteps=(step,))))
            return (Part(call, 1 / len(made), i % 2) for i, call in enumerate(made))

        return random
    shown = yield from samples.batch(subject, calibration, empty=calibration.guidance > 1)
    noise = torch.randn(shown.clean.shape, generator=generator("calibration", calibration.seed))

    count = len(noise) // (2 if calibration.guidance > 1 else 1)
    halves = torch.arange(len(noise)) % count >= (count + 1) // 2

    def noisy(step: int, halved: bool) -> Iterator[Part]:
        for half, own in enumerate((~halves, halves) if halved else (halves | True,)):
            for rows in filter(len, own.nonzero()[:, 0].split(AT_ONCE)):
                at = torch.full((len(rows),), step)
                yield Part(shown.at(net, rows.tolist(), at, noise[rows]), len(rows) / len(noise), half)

    return noisy


def chosen(subject: Subject, calibration: Calibration, every: int) -> tuple[int, ...]:
    """The timesteps that are looked at: those of the calibration, or every so many of the schedule."""
    return calibration.timesteps or tuple(range(0, levels(subject), every))


def known(subject: Subject, calibration: Calibration, every: int) -> tuple[float, ...] | None:
    """The losses at the chosen timesteps, if they were taken."""
    return _losses.look((samples.mark(subject, calibration), every))


def losses(subject: Subject, calibration: Calibration, every: int) -> Generator[Looked, None, tuple[float, ...]]:
    """The loss at each of the chosen timesteps: the mean squared error over the batch. No gradients."""
    found = known(subject, calibration, every)
    if found is None:
        at = yield from _batch(subject, calibration)
        steps, taken = chosen(subject, calibration, every), list[float]()
        for step in steps:
            with torch.no_grad(), resting(subject.net):
                taken.append(sum(part.share * float(error(subject.net, part.call)) for part in at(step, False)))
            yield Looked(len(taken), len(steps), "listening to single timesteps")
        found = _losses.get_or((samples.mark(subject, calibration), every), lambda: (tuple(taken), 64 * len(taken)))
    return found


def summed(subject: Subject, calibration: Calibration, steps: Sequence[int],
           counts: Sequence[bool]) -> Generator[Looked, None, Gradients]:
    """The gradients of the sum of the losses at the timesteps that count; the others have no effect."""
    key = (samples.mark(subject, calibration), tuple(steps), tuple(counts))
    found = _sums.look(key)
    if found is None:
        _sums.drop(lambda key: True)  # makes room before more is needed
        found = yield from _summing(subject, calibration, steps, counts)
        _sums.get_or(key, lambda: (found, 0))
    return found


def _summing(subject: Subject, calibration: Calibration, steps: Sequence[int],
             counts: Sequence[bool]) -> Generator[Looked, None, Gradients]:
    at = yield from _batch(subject, calibration)
    tensors = {name: p for name, p in subject.net.named_parameters() if p.is_floating_point()}
    twice = calibration.samples > 1 and room_for(2, tensors)
    total, first, times = blank(tensors), blank(tensors) if twice else None, scale_of(tensors)
    effects = torch.zeros(len(steps), len(tensors), dtype=torch.float64)
    places, done, share = {name: i for i, name in enumerate(tensors)}, 0, 0.0
    for row, step in enumerate(steps):
        if not counts[row]:
            continue

        def take(name: str, weight: Tensor, gradient: Tensor, row: int = row, half: int = 0) -> None:
            gradient.div_(times)
            total[name].add_(gradient)
            if first is not None and not half:
                first[name].add_(gradient)
            effects[row, places[name]] += float((weight * gradient).abs().sum())

        parts = list(at(step, True))
        for part in parts:
            with differentiating(subject.net, tensors, partial(take, half=part.half)):
                (error(subject.net, part.call) * (part.share * times)).backward()
        share = sum(part.share for part in parts if not part.half)
        done += 1
        yield Looked(done, sum(counts), "looking at gradients")
    noise = tuple(step / levels(subject) for step in steps)
    if first is None or not 0 < share < 1:
        return Gradients(total, effects, noise)
    for tensor in first.values():
        tensor.div_(share)
    return Gradients(total, effects, noise, first, share)
