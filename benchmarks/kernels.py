"""The share of a guided step that is spent inside convolution, linear and attention kernels (aim: 70 % at 4 images).

python -m benchmarks.kernels
"""

import torch
from torch.profiler import ProfilerActivity, profile

import pruning
from benchmarks.table import publish
from pruning.images import Run

HEAVY = ("convolution", "conv", "mm", "addmm", "bmm", "linear", "scaled_dot_product", "flash", "attention")


def heavy(name: str) -> bool:
    """Whether a kernel multiplies matrices."""
    short = name.removeprefix("aten::")
    return any(word in short for word in HEAVY) and "comma" not in short


def main() -> None:
    """One profiled step after two that warm up."""
    pipe, rows = pruning.load("emoji-sd"), []
    for images in (1, 4):
        run = Run(pipe, pruning.Shot("red heart on a blue background", steps=4, images=images))
        for index in range(2):
            run.step(index)
        with profile(activities=[ProfilerActivity.CPU]) as taken, torch.no_grad():
            run.step(2)
        events = taken.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        inside = sum(event.self_cpu_time_total for event in events if heavy(event.key))
        others = sorted((e for e in events if not heavy(e.key)), key=lambda e: -e.self_cpu_time_total)[:3]
        rows.append({"images": images, "step, ms": total / 1000, "inside kernels": inside / total,
                     "largest others": ", ".join(f"{e.key.removeprefix('aten::')} "
                                                 f"{e.self_cpu_time_total / total:.1%}" for e in others)})
    publish("kernels", "python -m benchmarks.kernels", rows)


if __name__ == "__main__":
    main()
