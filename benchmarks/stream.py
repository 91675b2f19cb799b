"""How near scores and masks come to the memory's own speed, on SD-1.5's U-Net (aim: 10 % extra memory at most).

What only looks at the weights is held against a plain read of all parameters, what writes new ones against a plain
clone. The trace and the digests that scoring needs once for each model are known already, but for Wanda's first look,
which runs the network on random inputs at two noise levels.

python -m benchmarks.stream
"""

from collections.abc import Callable
from typing import Any

import pruning
from benchmarks.spent import Spent, clone, extra, in_turn, read, seconds
from benchmarks.table import publish

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
    looked = Spent.on(WORKS["wanda, scores"], net)
    taken = {"wanda, inputs and scores": [looked],
             **in_turn({name: (work, lambda: net) for name, work in WORKS.items()}, REPEATS)}
    count, rows = sum(tensor.numel() for tensor in net.parameters()), []
    for name, spent in taken.items():
        made = 4 * count if name in ("clone", "2:4, plan and apply") else 0
        against = seconds(taken["clone" if made else "read"])
        rows.append({"work": name, "seconds": seconds(spent), "weights/s, M": count / seconds(spent) / 1e6,
                     "weights, GB/s": 4 * count / seconds(spent) / 1e9,
                     "share of the bandwidth": f"{against / seconds(spent):.1%} of a {'clone' if made else 'read'}",
                     "extra memory": f"{(extra(spent) - made) / (4 * count):.1%}"})
    publish("stream", "python -m benchmarks.stream", rows)


if __name__ == "__main__":
    main()
