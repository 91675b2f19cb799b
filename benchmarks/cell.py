"""One comparison of a dense network with a pruned one: what was measured, and what is to be said of it.

A call that did nothing but shrink with its MACs would take the dense time over the MACs' ratio. What a pruned call
takes on top is told part by part, from a profile of either side.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import median
from typing import Any

from pruning.timing import intervals
from pruning.timing.kernels import amdahl
from pruning.timing.profile import BETWEEN, heavy

BAR = 0.8  # of the MACs' ratio
DOMINATES = 0.85  # of a dense call, inside kernels
KERNELS, NORMS, OTHERS = "kernels", "norms and activations", "elementwise and copies"


def part(operator: str) -> str:
    """Where the time of an operator is counted."""
    if heavy(operator):
        return KERNELS
    if any(word in operator for word in ("norm", "silu", "gelu", "softmax")):
        return NORMS
    return BETWEEN if operator == BETWEEN else OTHERS


def shares(spent: Mapping[str, float]) -> dict[str, float]:
    """The share of each part in the time of all operators."""
    whole = sum(spent.values())
    return {name: sum(ms for operator, ms in spent.items() if part(operator) == name) / whole
            for name in (KERNELS, NORMS, OTHERS, BETWEEN)}


@dataclass(frozen=True)
class Cell:
    """What was measured; pairs are dense and pruned."""

    model: str
    removed: str
    images: int
    latents: int  # their side
    macs: Sequence[int]  # of a whole call
    ms: Sequence[Sequence[float]]  # of every call, taken in turn
    shares: Sequence[Mapping[str, float]]  # of a call's parts
    too_long: float | None = None  # seconds that a dense call takes at the model's own latents, where these are smaller

    @property
    def key(self) -> tuple[str, str, int]:
        """Which cell it is."""
        return self.model, self.removed, self.images

    @property
    def fewer(self) -> float:
        """How many times fewer MACs."""
        return self.macs[0] / self.macs[1]

    @property
    def faster(self) -> intervals.Interval | None:
        """How many times faster, with its interval; None of too few pairs of calls."""
        return intervals.ratio(self.ms[0], self.ms[1])

    @property
    def won(self) -> float | None:
        """How much of the MACs' ratio the clock shows."""
        return self.faster and self.faster[0] / self.fewer

    @property
    def parts(self) -> list[dict[str, float]]:
        """Milliseconds of the parts of either side: the clock's, divided as in the profile."""
        return [{name: share * median(ms) for name, share in found.items()}
                for ms, found in zip(self.ms, self.shares, strict=True)]

    @property
    def rates(self) -> list[float]:
        """GFLOP/s inside the kernels of either side, two FLOPs a MAC."""
        return [2 * macs / parts[KERNELS] / 1e6 for macs, parts in zip(self.macs, self.parts, strict=True)]

    def row(self) -> dict[str, Any]:
        """As the table shows it."""
        won, (dense, pruned) = self.won, self.rates
        return {"model": self.model, "removed": self.removed, "images": self.images, "latents": self.latents,
                "dense, ms": median(self.ms[0]), "pruned, ms": median(self.ms[1]), "MACs ratio": self.fewer,
                "speed-up": intervals.said(self.faster), "of the MACs ratio": "" if won is None else won,
                "inside kernels": self.shares[0][KERNELS], "GFLOP/s there": f"{dense:.0f} → {pruned:.0f}",
                f"why below {BAR}": self.why() if won is not None and won < BAR else ""}

    def why(self) -> str:
        """What a pruned call takes on top of its share of the MACs, and where."""
        dense, pruned = self.parts
        over = {name: pruned[name] - dense[name] / self.fewer for name in dense}
        outside = 1 - self.shares[0][KERNELS]
        most = sorted(over, key=lambda name: -over[name])
        return (f"{sum(over.values()):.3g} ms too many: {', '.join(f'{name} {over[name]:+.3g}' for name in most)}. "
                f"{self._rate()} {100 * outside:.0f} % of a dense call is outside kernels: "
                f"{amdahl(self.macs[0], self.macs[1], 1 - outside):.2f}× if that did not shrink.")

    def _rate(self) -> str:
        """How well the smaller kernels run."""
        dense, pruned = self.rates
        change = pruned / dense - 1
        if abs(change) < 0.05:
            return "Kernels run as well as before."
        return f"Kernels do {100 * abs(change):.0f} % {'more' if change > 0 else 'fewer'} operations a second."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def notes(cells: Sequence[Cell]) -> Iterator[str]:
    """What the words mean, and how many cells reach the bar."""
    yield (f"Compute dominates where at least {100 * DOMINATES:.0f} % of a dense call is inside convolution, linear "
           "and attention kernels.")
    for (model, images), some in groupby(sorted(cells, key=_where), _where):
        group = list(some)
        name = f"`{model}`, {images} image{'s' if images > 1 else ''}"
        inside = median(cell.shares[0][KERNELS] for cell in group)
        yield (f"{name}: {100 * inside:.0f} % inside kernels, so compute "
               f"{'dominates' if inside >= DOMINATES else 'does not dominate'}; {_reached(group)}.")
        if group[0].too_long:
            yield (f"{name}: a dense call at the model's own latents takes {group[0].too_long:.1f} s, too long to "
                   f"repeat, so it is timed at {group[0].latents} × {group[0].latents}; MACs are counted there, too.")


def _where(cell: Cell) -> tuple[str, int]:
    return cell.model, cell.images


def _reached(group: Sequence[Cell]) -> str:
    """How many of some cells with fewer MACs reach the bar, and which is the furthest from it."""
    smaller = [cell for cell in group if cell.fewer > 1]
    won = {cell.removed: cell.won for cell in smaller if cell.won is not None}
    if not won:
        return "rows with fewer MACs have too few pairs of calls to tell" if smaller else "no row has fewer MACs"
    least = min(won, key=lambda removed: won[removed])
    return (f"{sum(share >= BAR for share in won.values())} of {len(won)} rows with fewer MACs reach {BAR} of the MACs "
            f"ratio, the least {won[least]:.2f} ({least})")
