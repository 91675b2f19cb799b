"""Theory, reachable and measured as three bars with the reason; every part of a drawing on the clock."""

from collections.abc import Mapping
from typing import Any

from pruning.reports.speed import timed_for
from pruning.timing import intervals
from ui.plots.cards import spread
from ui.plots.markup import tag, text, three

PARTS = {"text_encoder": "Text encoder, once", "step": "Denoiser, each step", "denoiser": "Denoiser, {} steps",
         "vae.decoder": "Decoder, once", "picture": "A whole drawing of {} steps"}


def speed(report: Mapping[str, Any], component: str, what: str) -> str:
    """The panel for a pair's report; ``what`` names the plan."""
    told = report["speed"]
    found = intervals.found_in(timed_for(told["measured"], component)) if told["measured"] else None
    clocked = found[0] if found and intervals.differs(found) else None
    fastest = max(1.0, *(value for value in (told["theory"], told["reachable"], clocked) if value))
    rows = [bar("theory", told["theory"], fastest, "if time were the MACs that are not zero", "asked"),
            bar("reachable here", told["reachable"], fastest,
                "if all that can shrink on this device shrank as much as its MACs", "gone")]
    if clocked:
        how = f"the stopwatch: {intervals.state(found)}, {intervals.said(found)}"
        rows.append(bar("measured", clocked, fastest, how, "pruned"))
    else:
        words = intervals.said(found) if told["measured"] else "not measured yet"
        rows.append(tag("div", tag("span", "measured", class_="name"), tag("span", words, class_="waiting"),
                        class_="row"))
    body = [tag("h2", text(what)), tag("div", *rows, class_="bars", role="group",
                                       aria_label="Speed-up: theory, reachable, measured"),
            tag("p", text(told["why"]), class_="why")]
    if told["measured"]:
        body.append(parts(told["measured"]))
    return tag("div", *body, class_="speed")


def bar(name: str, value: float | None, most: float, how: str, kind: str) -> str:
    """A speed-up as a number and a bar that begins at nothing; 1× is marked."""
    if value is None:
        return tag("div", tag("span", text(name), class_="name"), tag("span", "not known", class_="waiting"),
                   class_="row", title=how)
    return tag("div", tag("span", text(name), class_="name"),
               tag("span", f"{three(value)}×", class_="figure"),
               tag("span", tag("span", "", style=f"width:{value / most * 100:.1f}%"),
                   tag("em", "", style=f"left:{1 / most * 100:.1f}%"), class_=f"track {kind}"),
               tag("span", text(how), class_="hint"), class_="row")


def parts(measured: Mapping[str, Any]) -> str:
    """Milliseconds of each part of a drawing, both sides, with their intervals."""
    rows = []
    for name, timed in measured["parts"].items():
        cells = (spread(timed["dense"]), spread(timed["pruned"]), intervals.said(intervals.found_in(timed)))
        rows.append(tag("tr", tag("th", PARTS[name].format(measured["steps"]), scope="row"),
                        *(tag("td", cell) for cell in cells)))
    head = tag("tr", *(tag("th", words, scope="col") for words in ("part", "dense, ms", "pruned, ms", "speed-up")))
    share = measured["kernels"]
    note = (f"{measured['repeats']} pairs of runs of {measured['steps']} steps, A B and B A in turn, after a run each "
            f"to warm up; {measured['taken_on']}. Speed-ups are of the pairs: below "
            f"{(intervals.EQUAL - 1) * 100:.0f} % counts as no difference, and fewer than {intervals.FEWEST} pairs "
            "tell none.")
    if share is not None:
        note += (f" {share:.0%} of a dense step is inside convolution, linear and attention kernels, "
                 f"{measured['between']:.0%} between operators.").replace("%", " %")
    return tag("div", tag("table", tag("caption", "Milliseconds, median (95 % interval)"), tag("thead", head),
                          tag("tbody", *rows)), tag("p", text(note), class_="hint"), class_="parts")


def progress(done: int, total: int, left: float) -> str:
    """How far a measurement is."""
    time = f", about {left:.0f} s left" if done else ""
    return tag("p", f"Measuring: run {done} of {total}{time}. Other work on this machine would spoil it.",
               class_="note", role="status")
