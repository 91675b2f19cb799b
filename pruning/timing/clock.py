"""Measure mode: how long a drawing and its parts take, dense against pruned.

Runs come in pairs, A B and B A in turn; ``intervals`` says what they can tell. No previews and no decoding between
steps, and nothing is yielded while a run is under way.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from pruning.drawing import canvas
from pruning.drawing.images import Run
from pruning.errors import Refused
from pruning.network.subject import module_at
from pruning.timing import alike, intervals
from pruning.timing.intervals import Interval
from pruning.timing.machine import machine
from pruning.timing.profile import BETWEEN, inside, operators
from pruning.timing.sparse import Ran, running
from pruning.types import Shot

PAIRS = 10  # of runs: an even number, so that as many begin with either side
MOST = 100
ORDER = ("text_encoder", "step", "denoiser", "vae.decoder", "picture")


@dataclass(frozen=True)
class Turn:
    """One whole run of one side is done, warm-ups counted in. ``ms`` is its median step."""

    done: int
    total: int
    side: str
    ms: float
    left: float  # seconds, estimated


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one part: (median, low, high) of both sides, and what the pairs of runs say of their ratio.

    ``ratio`` is (times faster, low, high), None of fewer than six pairs. ``state`` puts it in words: faster, slower, no
    difference, too noisy, too few. ``speedup`` is the ratio where it says faster or slower, else None.
    """

    dense: Interval
    pruned: Interval
    speedup: float | None
    ratio: Interval | None = None
    state: str = intervals.FEW


@dataclass(frozen=True)
class Measured:
    """Milliseconds per denoising step of both sides and their ratio, as in ``Timed``; then every part of a drawing.

    ``repeats`` counts the pairs of runs. ``parts`` are those that the pipeline has of ``text_encoder``, ``step`` (the
    denoiser's call, median of a run), ``denoiser`` (all of its calls), ``vae.decoder`` and ``picture`` (end to end, all
    that is between them included).
    ``kernels`` is the share of a dense step inside convolution, linear and attention kernels, ``between`` the share
    outside all operators (Python, and a GPU that waits for it), which no pruning shortens; both None where that cannot
    be told. ``sparse`` says of each component of the pruned side with an N:M step how many layers ran sparse kernels,
    and why the others did not.
    """

    dense: Interval
    pruned: Interval
    speedup: float | None
    repeats: int
    taken_on: str
    parts: Mapping[str, Timed] = field(default_factory=dict)
    kernels: float | None = None
    between: float | None = None
    steps: int = 0  # of each run
    sparse: Mapping[str, Ran] = field(default_factory=dict)
    ratio: Interval | None = None
    state: str = intervals.FEW

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def interleaved(dense: Any, pruned: Any, shot: Shot, repeats: int = PAIRS) -> Measured:
    """What ``turns`` comes to."""
    return next(event for event in turns(dense, pruned, shot, repeats) if isinstance(event, Measured))


def turns(dense: Any, pruned: Any, shot: Shot, repeats: int = PAIRS) -> Iterator[Turn | Measured]:
    """Both sides from the same noise: one run each to warm up, then ``repeats`` pairs of runs, B A and A B in turn.

    What runs are copies of both sides, made in the same way: a model that was loaded and one that was copied differ by
    a percent even with the same weights. A side with a 2:4 step runs sparse kernels where they win on this device, in a
    pipeline made for that beforehand.
    Closing the generator stops the work.

    Raises:
        Refused: this cannot be drawn, or the two cannot be compared.
    """
    check(dense, pruned, shot, repeats)
    extra = Run(dense, shot)  # for the profiler, and made first: what cannot be drawn is refused before anything runs
    dense, pruned = alike.copies(dense, pruned)
    (dense, _), (pruned, ran) = running(dense, shot), running(pruned, shot)
    taken: dict[str, list[dict[str, float]]] = {"dense": [], "pruned": []}
    pair, total = [("dense", dense), ("pruned", pruned)], 2 * (repeats + 1)
    for turn in range(repeats + 1):
        for side, pipe in pair if turn % 2 == 0 else pair[::-1]:
            taken[side].append(drawing(pipe, shot, side))
            done = sum(map(len, taken.values()))
            each = fmean(runs[-1]["picture"] for runs in taken.values() if runs) / 1000
            yield Turn(done, total, side, taken[side][-1]["step"], each * (total - done))
    parts = {name: timed(*([run[name] for run in runs[1:]] for runs in taken.values())) for name in taken["dense"][0]}
    step = parts["step"]
    spent = operators(extra)
    between = spent.get(BETWEEN, 0.0) / sum(spent.values()) if spent else None
    yield Measured(step.dense, step.pruned, step.speedup, repeats, machine(dense), parts, inside(spent), between,
                   shot.steps, ran, step.ratio, step.state)


def check(dense: Any, pruned: Any, shot: Any, repeats: Any) -> None:
    """Whether a comparison of the two means anything.

    Raises:
        Refused: it does not.
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int | np.integer) or not 1 <= repeats <= MOST:
        raise Refused(f"repeats cannot be {repeats!r}.",
                      f"It counts pairs of runs: one is the least, {MOST} the most, and fewer than {intervals.FEWEST} "
                      "cannot tell a difference from chance.")
    if not isinstance(shot, Shot):
        raise Refused(f"What is drawn on the clock is a Shot, not {shot!r}.", 'Give pruning.Shot("a prompt").')
    alike.check(dense, pruned)


@torch.no_grad()
def drawing(pipe: Any, shot: Shot, side: str) -> dict[str, float]:
    """Draw once: the milliseconds of each part, from the prompt to the finished pictures."""
    others = [name for name in canvas.drawing(pipe).parts if name != "unet"]
    before = time.perf_counter()
    with ExitStack() as stack:
        parts = {name: stack.enter_context(clocked(module_at(pipe, name))) for name in others}
        run = Run(pipe, shot, side)
        for index in range(len(run.scheduler.timesteps)):
            run.step(index)
        run.pictures()
    whole = (time.perf_counter() - before) * 1000
    found = {name: sum(calls) for name, calls in parts.items()} | {
        "step": float(np.median(run.ms)), "denoiser": sum(run.ms), "picture": whole}
    return {name: found[name] for name in ORDER if name in found}


@contextmanager
def clocked(net: nn.Module) -> Iterator[list[float]]:
    """What each call of a network takes, in milliseconds."""
    device = next(net.parameters()).device
    begun: list[float] = []
    taken: list[float] = []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() * 1000

    hooks = (net.register_forward_pre_hook(lambda *_: begun.append(now())),
             net.register_forward_hook(lambda *_: taken.append(now() - begun.pop())))
    try:
        yield taken
    finally:
        for hook in hooks:
            hook.remove()


def timed(dense: Sequence[float], pruned: Sequence[float]) -> Timed:
    """One part of all runs, pair by pair."""
    ratio = intervals.ratio(dense, pruned)
    speedup = ratio[0] if ratio and intervals.differs(ratio) else None
    return Timed(intervals.middle(dense), intervals.middle(pruned), speedup, ratio, intervals.state(ratio))


