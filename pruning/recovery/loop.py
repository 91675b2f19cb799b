"""The one training loop: a student learns on a copy of its own, step by step, and a new pipeline comes of it.

Nothing global is touched, and nothing of the student or its teacher. Accelerate is left out on purpose: it keeps
device and precision in a state that all of the process shares, and a page trains while others draw.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from pruning.calibration.call import generator
from pruning.errors import Refused
from pruning.progress import Looked
from pruning.recovery import shown, sides
from pruning.recovery.losses import LOSSES, Batch
from pruning.recovery.options import Recovery
from pruning.recovery.training import Training

BETAS, CLIP = (0.9, 0.999), 1.0  # of Adam; the norm that gradients are clipped to
DEFAULTS = Recovery()


@dataclass(frozen=True)
class Held:
    """The mean squared error on the fixed set: of the student as it came at step 0, of what comes of it at the end.

    ``dense`` is the teacher's, None where nobody else teaches; ``on`` says what the set is made of.
    """

    step: int
    error: float
    dense: float | None
    on: str


@dataclass(frozen=True)
class Trained:
    """One step is done. ``loss`` is that of its batch, so it jumps; ``seconds`` and ``left`` are of the whole run."""

    step: int
    of: int
    loss: float
    rate: float
    seconds: float
    left: float


Event = Looked | Held | Trained


def recovering(student: Any, teacher: Any = None, options: Recovery = DEFAULTS, component: str | None = None,
               state: Training | None = None) -> Generator[Event, None, Any]:
    """Train a pruned pipeline's denoiser: a new pipeline, with a step more in its plan. Those given stay as they were.

    ``teacher`` is the dense pipeline: it draws or encodes the samples. With a ``state`` the run can be stopped between
    any two events and goes on later where it was, bit for bit as if it had not been stopped; one that was begun goes
    on. More steps than before continue a run that was finished.

    Raises:
        Refused: the component cannot be trained, the samples cannot be had, or the state is of another run; or, on the
            way, the loss became NaN or infinite.
    """
    learner, mentor = sides.pair(student, teacher, component)
    options = sides.settled(learner, mentor, options)
    state, marks = state or Training(), sides.marks(learner, mentor, options)
    if state.finished(marks, options.steps):
        yield Held(0, state.errors["before"] or 0.0, state.errors["dense"], state.on)
        yield Held(state.step, state.errors["after"] or 0.0, state.errors["dense"], state.on)
        return sides.recovered(learner, sides.remade(learner.net, state.averages), options, state)
    sides.check_room(learner)
    material = yield from shown.gathering(learner, mentor, sides.calibration(options))
    state.begin(marks | {"samples": material.mark}, generator("recovery", options.seed), options.steps)
    if "before" not in state.errors:
        before = yield from material.judging(learner.net, options)
        dense = None if mentor.net is learner.net else (yield from material.judging(mentor.net, options))
        state.errors = {"before": before, "dense": dense}
    yield Held(0, state.errors["before"] or 0.0, state.errors["dense"], material.on)
    state.on = ""
    run, spans = Run(learner.net, mentor.net, options, state, sides.masked(learner)), deque[float](maxlen=20)
    while state.step < options.steps:
        started = time.perf_counter()
        loss = run.step(material.batch(run.net, options, state.draw))
        spans.append(time.perf_counter() - started)
        state.seconds += spans[-1]
        yield Trained(state.step, options.steps, loss, options.rate, state.seconds,
                      median(spans) * (options.steps - state.step))
    made = sides.remade(learner.net, state.averages)
    after = state.errors["after"] = yield from material.judging(made, options)
    state.on = material.on
    yield Held(state.step, after, state.errors["dense"], material.on)
    return sides.recovered(learner, made, options, state)


class Run:
    """A network of its own at work on a training's tensors."""

    def __init__(self, source: nn.Module, teacher: nn.Module, options: Recovery, state: Training,
                 masked: list[str]) -> None:
        self.teacher, self.options, self.state = teacher, options, state
        self.net = state.taken_up(source).requires_grad_(False).train(options.dropout)
        tensors = dict(self.net.named_parameters())
        self.tensors = [tensors[name].requires_grad_(True) for name in state.weights]
        self.masks = [(tensors[name], source.get_parameter(name).detach() != 0) for name in masked]
        self.optimizer = torch.optim.Adam(self.tensors, options.rate, BETAS, foreach=True)
        for name, tensor in zip(state.weights, self.tensors, strict=True):
            self.optimizer.state[tensor] = {"step": torch.tensor(float(state.step)), "exp_avg": state.first[name],
                                            "exp_avg_sq": state.second[name]}

    def step(self, call: Any) -> float:
        """One step down on a batch, and one of the average.

        Raises:
            Refused: the loss is no number.
        """
        loss = self._loss(call)
        loss.backward()
        for tensor, stays in self.masks:  # without gradients Adam leaves a zero where it is
            if tensor.grad is not None:
                tensor.grad.mul_(stays)
        value, size = float(loss.detach()), float(nn.utils.clip_grad_norm_(self.tensors, CLIP, foreach=True))
        if not (isfinite(value) and isfinite(size)):  # nothing of this step is in the state yet
            raise Refused(f"The loss became NaN or infinite at step {self.state.step + 1}.",
                          "Choose a smaller learning rate.")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        averaged(list(self.state.averages.values()), list(self.state.weights.values()),
                 warmed(self.options.average, self.state.step))
        self.state.losses.append(value)
        return value

    def _loss(self, call: Any) -> Tensor:
        device = next(iter(self.state.weights.values())).device
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            if self.options.half:
                stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            if self.options.dropout:
                stack.enter_context(chance(self.state.draw, device))
            batch = Batch(self.net, self.teacher, call)
            return torch.stack([weight * LOSSES[name](batch) for name, weight in self.options.losses if weight]).sum()


def warmed(decay: float, step: int) -> float:
    """How much of an average stays at a step, counted from 1: less at first, so that it soon forgets its start."""
    return min(decay, (1 + step) / (10 + step))


def averaged(averages: list[Tensor], weights: list[Tensor], stays: float) -> None:
    """Move averages towards weights, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(averages, weights, 1 - stays)


@contextmanager
def chance(draw: torch.Generator, device: torch.device) -> Iterator[None]:
    """What layers leave to chance follows a generator; everybody else's random numbers go on as if nothing had been."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed = int(torch.randint(1 << 31, (), generator=draw))
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        yield
