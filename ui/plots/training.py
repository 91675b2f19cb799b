"""A training as it goes: the loss of every step, and the error on held-out samples before and after."""

from collections.abc import Sequence
from math import log10

from ui.plots.markup import tag, text, three

WIDE, HIGH, LEFT, BELOW = 640, 200, 46, 26  # of the drawing, and of its margins
DRAWN = 400  # points of a curve that are drawn at most


def smooth(losses: Sequence[float], over: int) -> list[float]:
    """The mean of each value and those before it, ``over`` of them at most."""
    out, total = [], 0.0
    for i, loss in enumerate(losses):
        total += loss - (losses[i - over] if i >= over else 0.0)
        out.append(total / min(i + 1, over))
    return out


def ticks(low: float, high: float) -> list[float]:
    """A few round numbers between two others, for a logarithmic scale."""
    tens = range(int(log10(low)) - 2, int(log10(high)) + 2)
    known = [digit * 10.0**ten for ten in tens for digit in (1, 2, 5)]
    return [tick for tick in known if low <= tick <= high]


def rule(at: float, kind: str = "rule") -> str:
    """A line across."""
    return tag("line", x1=LEFT, x2=WIDE - 12, y1=f"{at:.1f}", y2=f"{at:.1f}", class_=kind)


def training(losses: Sequence[float], of: int, before: float | None = None, after: float | None = None,
             dense: float | None = None) -> str:
    """The curve of a training of ``of`` steps.

    ``losses`` are of single steps, each with samples and timesteps of its own, so they jump: the line is their running
    mean. ``before``, ``after`` and ``dense`` are errors on the same held-out samples.
    """
    known = [value for value in (*losses, before, after, dense) if value]
    if not known:
        return ""
    low, high = min(known) * 0.9, max(known) * 1.1

    def across(step: float) -> float:
        return LEFT + (WIDE - LEFT - 12) * step / max(1, of)

    def up(value: float) -> float:
        return 8 + (HIGH - BELOW - 8) * (1 - log10(max(value, low) / low) / log10(high / low))

    every = max(1, len(losses) // DRAWN)
    mean = smooth(losses, max(5, len(losses) // 20))
    places = [(f"{across(i + 1):.1f}", f"{up(losses[i]):.1f}", f"{up(mean[i]):.1f}")
              for i in range(0, len(losses), every)]
    dots = "".join(tag("circle", cx=x, cy=y, r="1.4", class_="step") for x, y, _ in places)
    marks = [rule(up(tick)) + tag("text", three(tick), x=LEFT - 6, y=f"{up(tick) + 4:.1f}", class_="tick end")
             for tick in ticks(low, high)]
    marks += [rule(up(dense), "dense")] if dense else []
    marks += [tag("rect", x=f"{across(step) - 4:.1f}", y=f"{up(value) - 4:.1f}", width=8, height=8, class_="held")
              for value, step in ((before, 0), (after, len(losses))) if value]
    marks += [tag("text", text(label), x=f"{across(step):.1f}", y=HIGH - 6, class_=f"tick {anchor}")
              for label, step, anchor in (("step 0", 0, "start"), (f"{of}", of, "end"))]
    words = in_words(losses, of, before, after, dense)
    line = " ".join(f"{x},{y}" for x, _, y in places)
    drawing = tag("svg", *marks, dots, tag("polyline", points=line, class_="mean"), viewBox=f"0 0 {WIDE} {HIGH}",
                  role="img", aria_label=words)
    return tag("figure", drawing, tag("figcaption", legend(before, dense), class_="hint"), class_="training")


def legend(before: float | None, dense: float | None) -> str:
    """What the marks are."""
    parts = [tag("span", "loss of a step", class_="step"), tag("span", "running mean", class_="mean")]
    if before:
        parts.append(tag("span", "error on held-out samples", class_="held"))
    if dense:
        parts.append(tag("span", "that of the dense model", class_="dense"))
    return "".join(parts)


def in_words(losses: Sequence[float], of: int, before: float | None, after: float | None, dense: float | None) -> str:
    """The same for those who cannot see it."""
    found = f"Loss after {len(losses)} of {of} steps"
    found += f": {three(smooth(losses, 20)[-1])} on average over the last ones" if losses else ""
    found += f". Error on held-out samples: {three(before)} before" if before else ""
    found += f", {three(after)} after" if after else ""
    return found + (f"; the dense model has {three(dense)}." if dense else ".")
