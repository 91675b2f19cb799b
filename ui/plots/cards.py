"""The cards under the pair, and the achieved line beside the ratio."""

from collections.abc import Mapping, Sequence
from typing import Any

from ui.plots.markup import bytes_, counted, percent, tag, text, three


def card(label: str, dense: str, pruned: str, how: str, better: str = "") -> str:
    """One figure for both sides. ``how`` says on hover, on focus and to screen readers how it was taken."""
    return tag("div", tag("span", text(label), class_="label"),
               tag("span", tag("span", "dense ", class_="unseen"), tag("i", text(dense), class_="dense"),
                   tag("span", ", pruned ", class_="unseen"), tag("i", text(pruned), class_="pruned"), class_="values"),
               tag("span", text(better), class_="better"), tag("span", text(how), class_="how"),
               class_="card", tabindex="0", role="group", aria_label=label)


def cards(report: Mapping[str, Any], ms: tuple[float, float], taken: str = "live") -> str:
    """Ms per step, speed-up, parameters, MACs and bytes. ``taken`` says when the clocks ran: live, or prepared."""
    clock = card(f"ms per step, {taken}", three(ms[0]), three(ms[1]),
                 "median of the denoiser's calls while both drew in turn, previews off the clock", "lower is better")
    speed = tag("div", tag("span", "speed-up", class_="label"), tag("span", "not measured yet", class_="waiting"),
                tag("span", "live clocks are no measurement: they share the machine with the page", class_="how"),
                class_="card", tabindex="0", role="group", aria_label="speed-up")
    params, macs, size = report["params"], report["macs"], report["bytes"]
    rows = [clock, speed, card("parameters", counted(params["dense"]), counted(params["pruned"]),
                               f"of the pruned component; {counted(params['nonzero'])} of them are not zero",
                               shrunk(params["dense"], params["pruned"]))]
    if macs["dense"]:
        at = macs["counted_at"]
        where = f"{at['latent']}×{at['latent']} latents, " if at["latent"] else ""
        rows.append(card("MACs", counted(macs["dense"]), counted(macs["pruned"]),
                         f"one pass at {where}{at['tokens']} tokens, batch 1, attention included; without zeros "
                         f"{counted(macs['nonzero'])}", shrunk(macs["dense"], macs["pruned"])))
    rows.append(card("on disk", bytes_(size["dense"]), bytes_(size["pruned"]),
                     f"tensors of the component as {size['dtype']}; zeros take as much room as other numbers",
                     shrunk(size["dense"], size["pruned"])))
    return tag("div", *rows, class_="cards")


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
               class_="row", title=how)
