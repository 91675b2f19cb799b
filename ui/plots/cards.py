"""The cards under the pair, and the achieved line beside the ratio."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pruning.reports.speed import timed_for
from pruning.timing import intervals
from ui.plots.markup import bytes_, counted, percent, tag, text, three


@dataclass(frozen=True)
class Figure:
    """One figure of both sides. ``how`` says how it was taken; ``dense`` is empty where there is one value only.

    ``known`` is False where words stand in a number's place.
    """

    label: str
    dense: str
    pruned: str
    how: str
    note: str = ""
    known: bool = True


def figures(report: Mapping[str, Any], quality: Mapping[str, Any], ms: tuple[float, float], component: str,
            taken: str = "live") -> Iterator[Figure]:
    """What the cards show. ``ms`` are the clocks under the pictures; ``taken`` when they ran: live, or prepared."""
    yield Figure(f"ms per step, {taken}", three(ms[0]), three(ms[1]),
                 "median of the denoiser's calls while both drew in turn, previews off the clock", "lower is better")
    yield speedup(report, component)
    params, macs, size = report["params"], report["macs"], report["bytes"]
    yield Figure("parameters", counted(params["dense"]), counted(params["pruned"]),
                 f"of the pruned component; {counted(params['nonzero'])} of them are not zero",
                 shrunk(params["dense"], params["pruned"]))
    if macs["dense"]:
        at = macs["counted_at"]
        where = f"{at['latent']}×{at['latent']} latents, " if at["latent"] else ""
        yield Figure("MACs", counted(macs["dense"]), counted(macs["pruned"]),
                     f"one pass at {where}{at['tokens']} tokens, batch 1, attention included; without zeros "
                     f"{counted(macs['nonzero'])}{published(macs)}", shrunk(macs["dense"], macs["pruned"]))
    yield Figure("on disk", bytes_(size["dense"]), bytes_(size["pruned"]),
                 f"tensors of the component as {size['dtype']}; zeros take as much room as other numbers",
                 shrunk(size["dense"], size["pruned"]))
    yield from likeness(quality)


def published(macs: Mapping[str, Any]) -> str:
    """MACs as papers on pruning count; reports of older versions do not have them."""
    both = macs.get("published")
    return "" if not both else (f"; as papers on pruning count, without the products inside attention, "
                                f"{counted(both['dense'])} → {counted(both['pruned'])}")


def speedup(report: Mapping[str, Any], component: str) -> Figure:
    """The speed-up, from the stopwatch alone: in words where it tells no difference."""
    measured = report["speed"]["measured"]
    if measured is None:
        return Figure("speed-up", "", "not measured yet",
                      "live clocks are no measurement: they share the machine with the page", known=False)
    part = timed_for(measured, component)
    found = intervals.found_in(part)
    how = (f"of {measured['repeats']} pairs of runs, interleaved, with its 95 % interval; medians: dense "
           f"{spread(part['dense'])} ms, pruned {spread(part['pruned'])} ms; on {measured['taken_on']}")
    if not intervals.differs(found):
        return Figure("speed-up", "", intervals.said(found), how, "measured", known=False)
    return Figure("speed-up", "", intervals.said(found), how, f"measured: {intervals.state(found)}")


def spread(interval: Sequence[float]) -> str:
    """A median with its interval."""
    middle, low, high = interval
    return f"{three(middle)} ({three(low)} to {three(high)})"


def likeness(quality: Mapping[str, Any]) -> Iterator[Figure]:
    """How near the pruned pictures are to the dense ones, and both to the prompt."""
    yield Figure("SSIM", "", f"{quality['ssim']:.3f}",
                 "structural similarity of the pictures as shown, mean; 1 is equal",
                 "higher is nearer to dense")
    yield Figure("PSNR", "", "equal" if quality["psnr"] is None else f"{three(quality['psnr'])} dB",
                 "peak signal-to-noise ratio of the pictures as shown, mean over those that differ", "higher is nearer")
    far = quality["latents"]
    yield Figure("latents apart", "", "not a number" if far is None else percent(far),
                 "‖pruned − dense‖ ÷ ‖dense‖ of the final latents", "lower is nearer")
    if quality["alignment"] is not None:
        dense, pruned = quality["alignment"]
        yield Figure("fit to prompt, proxy", f"{dense:.2f}", f"{pruned:.2f}",
                     f"cosine of picture and prompt on {quality['proxy']}, a small model made here: a proxy for CLIP "
                     "score, not to be compared with papers", "higher is better")
    ranks = [pair for pair in quality["ranks"] if pair is not None]
    if ranks:
        dense, pruned = ("/".join(f"{rank}." for rank in side) for side in zip(*ranks, strict=True))
        yield Figure("prompt's place, proxy", dense, pruned,
                     f"where the own prompt stands among {quality['candidates'] + 1} captions when {quality['proxy']} "
                     "reads the picture", "1. is best")


def card(figure: Figure) -> str:
    """One figure. ``how`` shows on hover and on focus and is read aloud."""
    both = (tag("span", "dense ", class_="unseen"), tag("i", text(figure.dense), class_="dense"),
            tag("span", ", pruned ", class_="unseen"), tag("i", text(figure.pruned), class_="pruned"))
    one = (tag("i", text(figure.pruned), class_="one") if figure.known else
           tag("span", text(figure.pruned), class_="waiting"),)
    values = f"dense {figure.dense}, pruned {figure.pruned}" if figure.dense else figure.pruned
    return tag("div", tag("span", text(figure.label), class_="label"),
               tag("span", *(both if figure.dense else one), class_="values"),
               tag("span", text(figure.note), class_="better"), tag("span", text(figure.how), class_="how"),
               class_="card", tabindex="0", role="group",
               aria_label=f"{figure.label}: {values}")


def cards(shown: Sequence[Figure]) -> str:
    """All figures of a pair."""
    return tag("div", *map(card, shown), class_="cards")


def shrunk(dense: float, pruned: float) -> str:
    """The change in words."""
    return "as before" if dense == pruned else f"−{percent(1 - pruned / dense)}"


def achieved(asked: float, rows: Sequence[tuple[str, float, str]], notes: Sequence[str] = ()) -> str:
    """Asked against achieved: a bar for each (name, share, how). The first bar is what was asked."""
    bars = [bar("asked", asked, "the slider", "asked")]
    bars += [bar(name, share, how, "gone") for name, share, how in rows]
    return tag("div", *bars, *(tag("p", text(note), class_="hint") for note in notes), class_="achieved",
               role="group", aria_label="Asked and achieved")


def bar(name: str, share: float, how: str, kind: str) -> str:
    """A share as a number and a bar."""
    return tag("div", tag("span", text(name), class_="name"),
               tag("span", percent(share), tag("span", text(f" {how}"), class_="unseen"), class_="figure"),
               tag("span", tag("span", "", style=f"width:{min(1.0, share) * 100:.2f}%"), class_=f"track {kind}"),
               class_="row", data_name=name, title=how)
