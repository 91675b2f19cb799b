"""From the slider's release to a plan's shares and the layers' heatmap, on the server's side (aim: 100 ms).

SD-1.5's U-Net, with random weights and with scores that are taken; what the page asks of ``ui.device``. The first
release after scoring also lays the sketches side by side; it is apart.

python -m benchmarks.preview
"""

import time
from itertools import product
from statistics import median

import numpy as np

import pruning
from benchmarks.table import publish
from ui import device

SOURCE, RATIOS = "sd-1.5", np.random.default_rng(0).uniform(0.02, 0.6, 20).round(2).tolist()
SPREADS = {"weight": ("layer", "row", "global", "isomorphic"), "width": ("layer", "global", "isomorphic")}


def release(ratio: float, **asked: str) -> float:
    """Milliseconds of one release."""
    begun = time.perf_counter()
    device.outlook(device.recipe(SOURCE, method="magnitude", ratio=ratio, **asked))
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    """Every spread, for weights and width, as a share of units and of MACs."""
    pipe, rows = pruning.load(SOURCE, weights="random"), []
    device.PIPES.get_or(SOURCE, lambda: (pipe, device.nbytes(pipe)))
    for units, of in product(SPREADS, ("units", "macs")):
        device.scores(device.recipe(SOURCE, method="magnitude", ratio=0.5, units=units))
        for spread in SPREADS[units]:
            first, *taken = [release(ratio, units=units, of=of, spread=spread) for ratio in [0.5, *RATIOS]]
            rows.append({"units": units, "share of": of, "spread": spread, "first, ms": first,
                         "median, ms": median(taken), f"slowest of {len(taken)}, ms": max(taken)})
    publish("preview", "python -m benchmarks.preview", rows)


if __name__ == "__main__":
    main()
