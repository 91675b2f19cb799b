"""Whether two methods want the same to go: the overlap of their masks in all, and layer by layer."""

from collections.abc import Mapping
from functools import reduce
from operator import add

from pruning.planning.overlap import Overlap
from ui.plots.layers import short
from ui.plots.markup import percent, tag, text

EMPTY = tag("p", "Pick another method to see which layers both would prune alike.", class_="hint")


def agreement(found: Mapping[str, Overlap], one: str, other: str, asked: str) -> str:
    """A sentence, and a bar a layer: of what either removes, the share that both do, beside what chance would give."""
    whole = reduce(add, found.values(), Overlap(0, 0, 0, 0))
    if whole.agreement is None or whole.chance is None:
        return tag("p", "Neither method removes anything here.", class_="hint")
    bars = [row(name, each) for name, each in found.items() if each.agreement is not None]
    told = (f"Of what {one} or {other} would remove ({asked}), {percent(whole.agreement)} is the choice of both; two "
            f"random choices of these sizes would share {percent(whole.chance)}.")
    key = tag("div", tag("span", "removed by both"), tag("span", "by chance", class_="chance"), class_="key")
    return tag("div", tag("p", text(told)), key,
               tag("div", *bars, class_="list", role="group", tabindex=0,
                   aria_label="Agreement by layer"), class_="agreement")


def row(name: str, each: Overlap) -> str:
    """One layer: its bar, with a mark where chance would be."""
    share, chance = each.agreement or 0.0, each.chance or 0.0
    return tag("div", tag("span", text(short(name)), class_="name"), tag("span", percent(share), class_="figure"),
               tag("span", tag("span", "", style=f"width:{share:.2%}"), tag("i", "", style=f"left:{chance:.2%}"),
                   class_="track"),
               tag("span", f"by chance {percent(chance)}", class_="unseen"), class_="row")
