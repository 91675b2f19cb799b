"""How often pairs of runs tell a difference: false alarms of sides that do the same work, power on sides that do not.

emoji-sd draws small pictures in one step, on the clock of ``pruning.measure``. A side is slowed by real work: matrix
products until its call has taken so many percent longer, so that the true ratio is known. A machine that drifts does
such work on both sides, rising to 30 % within twenty runs and falling again. All runs of a row are taken in one go and
cut into series of six and ten pairs, and each series is judged as a measurement. "Loaded, applied" are a model as it
was loaded and what ``apply`` gives of it at ratio 0; the clock does not compare these as they are, but copies of both.

python -m benchmarks.power
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import nn

import pruning
from benchmarks.pairs import in_turn, interval
from benchmarks.table import publish
from pruning.timing import alike, intervals
from pruning.timing.clock import drawing

SHOT = pruning.Shot("red heart on a blue background", steps=1, guidance=1, size=64)
PAIRS, LENGTHS = 600, (6, 10)
DRIFT, PERIOD = 0.3, 20  # of a run's time at its most; runs from the least to the most
CASES = (("one model twice", 0.0, False), ("loaded, applied", 0.0, False), ("copies", 0.0, False),
         ("copies", 0.0, True), ("copies", 0.02, False), ("copies", 0.05, False), ("copies", 0.1, False),
         ("copies", 0.1, True))


@contextmanager
def burdened(net: nn.Module, share: Callable[[], float]) -> Iterator[None]:
    """Each call of a network takes longer by a share of its own time, which is spent in matrix products."""
    begun: list[float] = []
    matrix = torch.ones(48, 48)

    def work(*_: Any) -> None:
        start = begun.pop()
        end = start + (time.perf_counter() - start) * (1 + share())
        while time.perf_counter() < end:
            matrix @ matrix

    hooks = (net.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter())),
             net.register_forward_hook(work))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def drifting(runs: Iterator[int]) -> float:
    """What the machine's drift adds to the next run: up, down and up again."""
    return DRIFT * (1 - abs(next(runs) / PERIOD % 2 - 1))


def timed(sides: Sequence[Any], slower: float, drift: bool, pairs: int) -> list[list[float]]:
    """The milliseconds of each step of two pipelines; the first is slower by a share, both by the drift."""
    runs = count()

    def run(side: int) -> float:
        more = (1 + slower * (side == 0)) * (1 + (drifting(runs) if drift else 0)) - 1
        with burdened(sides[side].unet, lambda: more):
            return drawing(sides[side], SHOT, ("dense", "pruned")[side])["step"]

    in_turn([partial(drawing, pipe, SHOT, "dense") for pipe in sides], 2)  # type: ignore[misc]
    return in_turn([partial(run, 0), partial(run, 1)], pairs)


def series(taken: Sequence[Sequence[float]], length: int) -> list[intervals.Interval | None]:
    """The intervals of all series of so many pairs, one behind the other."""
    ends = range(length, len(taken[0]) + 1, length)
    return [intervals.ratio(*(side[end - length : end] for side in taken)) for end in ends]


def row(case: tuple[str, float, bool], taken: Sequence[Sequence[float]], length: int) -> dict[str, Any]:
    """What series of one length tell of a case."""
    sides, slower, drift = case
    found = series(taken, length)
    states = Counter(map(intervals.state, found))
    hold = sum(one is not None and one[1] <= 1 + slower <= one[2] for one in found)
    right = states[intervals.FASTER]  # the second side is, by as much as the first one is slowed
    wrong = states[intervals.SLOWER] + (0 if slower else right)
    return {"sides": sides, "true ratio": f"{1 + slower:.2f}", "drift": "yes" if drift else "no", "pairs": length,
            "found": f"{right} of {len(found)}" if slower else "", "false alarms": f"{wrong} of {len(found)}",
            "no difference": states[intervals.SAME], "too noisy": states[intervals.NOISE],
            "truth in the interval": f"{hold} of {len(found)}"}


def main(given: Sequence[str] | None = None) -> None:
    """Every case, and below the table the ratio of all pairs of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of runs for each row")
    pairs = parser.parse_args(given).pairs
    loaded = pruning.load("emoji-sd")
    applied = pruning.apply(loaded, pruning.plan(loaded, ratio=0))
    sides = {"one model twice": (loaded, loaded), "loaded, applied": (loaded, applied),
             "copies": alike.copies(loaded, applied)}
    rows, notes = [], []
    for case in CASES:
        taken = timed(sides[case[0]], *case[1:], pairs)
        rows += [row(case, taken, length) for length in LENGTHS]
        whole = intervals.ratio(*taken)
        if whole is not None:
            notes.append(f"{case[0]}, {1 + case[1]:.2f}{', drift' if case[2] else ''}: all {pairs} pairs together say "
                         f"{whole[0]:.4f} ({interval(whole, 4)}).")
        print(*rows[-len(LENGTHS):], *notes[-1:], sep="\n", flush=True)
    publish("power", f"python -m benchmarks.power{'' if pairs == PAIRS else f' --pairs {pairs}'}", rows, notes)


if __name__ == "__main__":
    main()
