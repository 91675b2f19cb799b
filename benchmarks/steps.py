"""Milliseconds per denoising step, dense against pruned, at one and four images: the clock beside the MACs.

Reachable is Amdahl's law with the share of a dense step inside kernels, profiled in the same run.

python -m benchmarks.steps
"""

import pruning
from benchmarks.table import publish

CASES = {
    "weights 50 %": {"ratio": 0.5}, "2:4": {"pattern": "2:4"},
    "width 25 %": {"ratio": 0.25, "units": "width"}, "width 50 %": {"ratio": 0.5, "units": "width"},
    "width 75 %": {"ratio": 0.75, "units": "width"}, "heads 50 %": {"ratio": 0.5, "units": "head"},
    "neurons 50 %": {"ratio": 0.5, "units": "neuron"}, "channels 50 %": {"ratio": 0.5, "units": "channel"},
}


def main() -> None:
    """Every case against the dense model in the same run."""
    pipe, rows = pruning.load("emoji-sd"), []
    for name, asked in CASES.items():
        plan = pruning.plan(pipe, "magnitude", **asked)
        smaller = pruning.apply(pipe, plan)
        for images in (1, 4):
            shot = pruning.Shot("red heart on a blue background", steps=4, images=images)
            taken = pruning.measure(pipe, smaller, shot, repeats=5)
            speed = pruning.report(pipe, smaller, plan, measured=taken).speed
            rows.append({"removed": name, "images": images, "dense, ms": taken.dense[0], "pruned, ms": taken.pruned[0],
                         "pruned interval": f"{taken.pruned[1]:.1f} to {taken.pruned[2]:.1f}",
                         "speed-up": taken.speedup or "no difference beyond noise",
                         "reachable": speed["reachable"], "theory": speed["theory"]})
    publish("steps", "python -m benchmarks.steps", rows)


if __name__ == "__main__":
    main()
