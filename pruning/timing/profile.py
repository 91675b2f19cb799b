"""What a step spends in torch's operators."""

import os
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile, supported_activities

from pruning.drawing.images import Run

BETWEEN = "between operators"
HEAVY = ("conv", "mm", "flash", "attention")  # mm, addmm and bmm among them; a linear layer is one of these


def operators(run: Run, steps: int = 3) -> dict[str, float]:
    """What a step of a run spends in each of torch's operators, taken over its first few: see ``profiled``."""
    return profiled(lambda index: run.step(index).ms, min(steps, len(run.scheduler.timesteps)), run.device.type)


def profiled(work: Callable[[int], float], times: int, device: str) -> dict[str, float]:
    """What some work spends in each of torch's operators, in milliseconds a time; empty where nobody can tell.

    ``work`` is given how often it was done before, and gives its milliseconds. What is left of them (Python, and a GPU
    that waits for it) is ``BETWEEN``.
    """
    kind = {"cpu": ProfilerActivity.CPU, "cuda": ProfilerActivity.CUDA}.get(device)
    if kind is None or kind not in supported_activities() or torch.autograd._profiler_enabled():
        return {}
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells standard error of every start and stop
    with profile(activities=list({ProfilerActivity.CPU, kind})) as taken:
        whole = sum(work(index) for index in range(times))
    own = "self_cpu_time_total" if kind is ProfilerActivity.CPU else "self_device_time_total"
    spent = {event.key.removeprefix("aten::"): getattr(event, own) / 1000 / times for event in taken.key_averages()
             if event.device_type == torch.autograd.DeviceType.CPU}  # others are kernels, which operators stand for
    return spent | {BETWEEN: max(0.0, whole / times - sum(spent.values()))}


def heavy(name: str) -> bool:
    """Whether an operator multiplies matrices."""
    return any(word in name for word in HEAVY)


def inside(spent: Mapping[str, float]) -> float | None:
    """The share of a step that multiplies matrices; None of a step of which nothing is known."""
    return sum(ms for name, ms in spent.items() if heavy(name)) / sum(spent.values()) if spent else None
