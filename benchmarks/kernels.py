"""The share of a guided step that is spent inside convolution, linear and attention kernels (aim: 70 % at 4 images).

python -m benchmarks.kernels
"""

import pruning
from benchmarks.table import publish
from pruning.drawing.images import Run
from pruning.timing.clock import drawing
from pruning.timing.profile import heavy, inside, operators


def main() -> None:
    """A few profiled steps, after a picture that warms up."""
    pipe, rows = pruning.load("emoji-sd"), []
    for images in (1, 4):
        shot = pruning.Shot("red heart on a blue background", steps=4, images=images)
        drawing(pipe, shot, "dense")
        spent = operators(Run(pipe, shot))
        total = sum(spent.values())
        others = sorted(((name, ms) for name, ms in spent.items() if not heavy(name)), key=lambda row: -row[1])[:3]
        rows.append({"images": images, "step, ms": total, "inside kernels": inside(spent),
                     "largest others": ", ".join(f"{name} {ms / total:.1%}" for name, ms in others)})
    publish("kernels", "python -m benchmarks.kernels", rows)


if __name__ == "__main__":
    main()
