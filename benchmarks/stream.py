"""How near scores and masks come to the memory's own speed, on SD-1.5's U-Net (aim: 10 % extra memory at most).

What only looks at the weights is held against a plain read of all parameters, what writes new ones against a plain
clone. Extra memory is a share of the weights' bytes, beside what is written. A model's trace and digest, taken once for
all, are known already. Wanda's inputs are those of two random pictures at two noise levels; the activations of a
single call take memory, too, whoever makes it.

python -m benchmarks.stream
"""

from collections.abc import Callable
from typing import Any

import pruning
from benchmarks.spent import Spent, clone, extra, in_turn, read, seconds
from benchmarks.table import publish
from pruning.calibration import samples
from pruning.network.subject import subject

REPEATS = 3
SHOWN = pruning.Calibration(source="noise", samples=2)
WORKS: dict[str, Callable[[Any], Any]] = {
    "read": read, "clone": clone,
    "magnitude, scores": lambda net: pruning.score(net, "magnitude"),
    "wanda, scores": lambda net: pruning.score(net, "wanda", calibration=SHOWN),
    "2:4, plan and apply": lambda net: pruning.apply(net, pruning.plan(net, pattern="2:4", protect=())),
}


def main() -> None:
    """Each work a few times, in turn."""
    net = pruning.load("sd-1.5", weights="random").unet
    pruning.plan(net, ratio=0.5)  # traces, and takes the digest
    call = samples.calls(subject(net), samples.settled(subject(net), SHOWN))[0]
    asked = Spent.on(lambda net: samples.answer(net, call), net)
    looked = Spent.on(WORKS["wanda, scores"], net)
    taken = {"one call of the network alone": [asked], "wanda, inputs and scores": [looked],
             **in_turn({name: (work, lambda: net) for name, work in WORKS.items()}, REPEATS)}
    count, rows = sum(tensor.numel() for tensor in net.parameters()), []
    for name, spent in taken.items():
        writes = name in ("clone", "2:4, plan and apply")
        against, time = "clone" if writes else "read", seconds(spent)
        rows.append({"work": name, "seconds": time, "weights/s, G": count / time / 1e9,
                     "GB/s": 4 * count * (1 + writes) / time / 1e9,
                     "of the bandwidth": f"{seconds(taken[against]) / time:.1%} of a {against}",
                     "extra memory": f"{max(0, extra(spent) - 4 * count * writes) / (4 * count):.1%}"})
    publish("stream", "python -m benchmarks.stream", rows)


if __name__ == "__main__":
    main()
