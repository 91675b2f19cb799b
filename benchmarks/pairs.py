"""Two sides on the clock, a pair of runs at a time, in the order in which ``pruning.timing.clock`` takes them."""

from collections.abc import Callable, Sequence

from pruning.timing.intervals import Interval


def in_turn(sides: Sequence[Callable[[], float]], pairs: int) -> list[list[float]]:
    """What each run of two sides gives, (a, b): A B, B A and so on."""
    taken: list[list[float]] = [[], []]
    for turn in range(pairs):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            taken[side].append(sides[side]())
    return taken


def interval(found: Interval | None, digits: int = 2) -> str:
    """The ends of a ratio's interval; nothing of too few pairs."""
    return "" if found is None else f"{found[1]:.{digits}f} to {found[2]:.{digits}f}"
