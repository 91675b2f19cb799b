"""What each method costs in accuracy: how far the denoiser's answer is off on samples that no method was shown.

The relative squared error of emoji-sd's answer on real glyphs at all noise levels, with other pictures and other noise
than the methods looked at. It says how well weights were chosen, and nothing of speed.

python -m benchmarks.criteria
"""

from functools import cache
from typing import Any

import pruning
from benchmarks.table import publish
from pruning.calibration import samples
from pruning.network.subject import subject
from pruning.spreads.sensitivity import apart
from pruning.types import Calibration

HALF = 12  # of the bundled pictures: methods see the first half, and are judged by the other
SEEN = Calibration(samples=HALF, seed=1)
HELD = Calibration(samples=2 * HALF, seed=99, timesteps=tuple(40 + 80 * i for i in range(HALF)))
CASES: dict[str, dict[str, Any]] = {
    "30 %": {"ratio": 0.3}, "50 %": {"ratio": 0.5}, "70 %": {"ratio": 0.7},
    "50 %, rows": {"ratio": 0.5, "spread": "row"}, "50 %, kinds": {"ratio": 0.5, "spread": "isomorphic"},
    "50 %, all layers": {"ratio": 0.5, "spread": "global"}, "2:4": {"pattern": "2:4"},
}
METHODS = ("random", "activation", "magnitude", "lamp", "wanda", "taylor", "fisher", "gauss-newton")


def main() -> None:
    """Every method in every case; then magnitude with what can be done on top of it."""
    pipe = pruning.load("emoji-sd")
    looked_at = subject(pipe)
    calls = samples.calls(looked_at, HELD)[HALF:]
    whole = [samples.answer(looked_at.net, call) for call in calls]

    @cache
    def scores(method: str, units: str) -> Any:
        return pruning.score(pipe, method, units=units, calibration=SEEN)

    def error(method: str, **asked: Any) -> Any:
        try:
            plan = pruning.plan(pipe, method, calibration=SEEN, **asked,
                                scores=scores(method, "nm" if "pattern" in asked else "weight"))
        except pruning.Refused:
            return "–"
        smaller = pruning.apply(pipe, plan)
        return apart(whole, [samples.answer(smaller.unet, call) for call in calls])

    rows = [{"method": method, **{name: error(method, **asked) for name, asked in CASES.items()}} for method in METHODS]
    for name, more, cases in (("magnitude, ratios by sensitivity", {"spread": "sensitivity"}, ("50 %",)),
                              ("magnitude, adjusted", {"update": True}, ("50 %", "70 %", "2:4"))):
        rows.append({"method": name, **{case: error("magnitude", **asked, **more) if case in cases else ""
                                        for case, asked in CASES.items()}})
    publish("criteria", "python -m benchmarks.criteria", rows)


if __name__ == "__main__":
    main()
