"""A group of coupled channels: every layer of a network as a small cell, those that lose the group's units lit.

A cell is a layer's weight, outputs down and inputs across, so a band lies across where the layer writes the group's
channels and stands upright where it reads them; after a concatenation it takes up a part of the side. A table says
the same in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from pruning.units.unit import plural
from ui.plots.importance import block
from ui.plots.layers import short
from ui.plots.markup import counted, percent, tag, text

IDEAS = {
    "stream": "A channel of a residual stream is the same channel in every layer that adds to it or looks at it, so it "
              "goes from all of them at once.",
    "channel": "A hidden channel lives inside one part of the network: the layers that write it, scale it and read it "
               "lose it together.",
    "head": "The queries, keys and values of a head are rows of three layers, and a fourth takes in its answer. All "
            "four lose it together.",
    "neuron": "The first feed-forward layer gives a neuron its value (and its gate, where it has one), the second "
              "reads it. Both lose it together.",
}
WHERE = {"writes": "outputs", "reads": "inputs", "normalises": "channels"}  # what a layer does, and what it is done to
LANES = {"writes": "across", "reads": "upright", "normalises": "across"}


@dataclass(frozen=True)
class Slice:
    """Where a layer has a group's units: what it ``does`` with them, and from where to where of how many places."""

    does: str
    start: int
    stop: int
    of: int


@dataclass(frozen=True)
class Cell:
    """One layer: the tensors and slices that it has in the group, none if it is not in it.

    ``flat`` is a layer whose weight is a vector; ``other`` is another group that the layer is in.
    """

    name: str
    flat: bool = False
    slices: tuple[Slice, ...] = ()
    tensors: tuple[str, ...] = ()
    other: str = ""


@dataclass(frozen=True)
class Group:
    """A site's units and how many go, what one of them costs (MACs where they are known), and every layer in order."""

    kind: str
    units: int
    gone: int
    params: int
    macs: int | None
    cells: tuple[Cell, ...]

    @property
    def lit(self) -> tuple[Cell, ...]:
        """The layers that are in the group."""
        return tuple(cell for cell in self.cells if cell.slices)

    def going(self, slices: Sequence[Slice]) -> int:
        """How many places of some slices go."""
        return sum((s.stop - s.start) // self.units * self.gone for s in slices)


def group(of: Group) -> str:
    """The whole view: the idea, what it comes to, the picture, the table."""
    how = ("Point at a cell, or go from one to the next with the arrow keys, to see which layer it is. Press it to see "
           "another group that the layer is in.")
    words = "All layers in the order in which they run; the table below lists those in this group"
    picture = tag("div", *lines(of), class_="map", role="group", style=f"--gone:{of.gone / of.units:.2%}",
                  aria_label=words)
    return tag("section", tag("h3", "What goes together"), tag("p", IDEAS[of.kind]),
               tag("p", text(f"{summary(of)} {cost(of)}")),
               tag("div", legend(of), tag("p", how, class_="hint named"), picture, class_="picture"),
               table(of), class_="coupled", aria_label="What goes together")


def summary(of: Group) -> str:
    """How many tensors and layers share the units, and what they do with them."""
    lit, units = of.lit, plural(of.kind)
    each = {word: sum(any(s.does == does for s in cell.slices) for cell in lit)
            for does, word in (("writes", "written by"), ("reads", "read by"), ("normalises", "normalised by"))}
    parts = [f"{word} {count}" for word, count in each.items() if count]
    gone = "one" if of.gone == 1 else f"{of.gone:,}"
    lose = f"lose the same {gone} of {of.units:,} {units}" if of.gone else f"share the same {of.units:,} {units}"
    return (f"{sum(len(cell.tensors) for cell in lit)} tensors in {len(lit)} layers {lose}: "
            f"{', '.join(parts)}{'' if of.gone else '; none goes'}.")


def cost(of: Group) -> str:
    """What one unit costs."""
    macs = f" and {counted(of.macs)} MACs of one pass" if of.macs is not None else ""
    return f"One {plural(of.kind).removesuffix('s')} is {counted(of.params)} parameters{macs}, with all else whole."


def legend(of: Group) -> str:
    """What cells and bands mean."""
    there = {s.does for cell in of.lit for s in cell.slices}
    samples = (("writes", " lit", "writes: rows of its weight"), ("reads", " lit", "reads: columns"),
               ("normalises", " lit flat", "normalises: scale and shift"), ("", "", "not in this group"))
    shown = (tag("span", tag("span", tag("i", "", class_=LANES[does]) if does else "", class_="cell" + look), words)
             for does, look, words in samples if does in there or not does)
    share = tag("span", tag("span", "", class_="cell hatched"), "the share that goes; the strip above says which")
    return tag("div", *shown, share if of.gone else "", class_="legend")


def place(name: str) -> tuple[str, str]:
    """The block that a layer stands in, and the part of the block: ("Down block 0", "resnets.0")."""
    parts, where = name.split("."), block(name)
    if where == "Outside the blocks":
        return "", parts[0]
    number = where.rpartition(" ")[2]
    starts = ("down_blocks", "up_blocks", "mid_block", "layers", "transformer_blocks", "single_transformer_blocks")
    first = next(i for i, part in enumerate(parts) if part in starts) + (2 if number.isdigit() else 1)
    inside = parts[first : first + 2]
    return where, ".".join(inside if inside[-1:] and inside[-1].isdigit() else inside[:1])


def lines(of: Group) -> list[str]:
    """One line for each block, with its parts side by side."""
    cells = [(place(cell.name), cell) for cell in of.cells]
    first = next((cell.name for cell in of.lit), "")
    out: list[str] = []
    for where, inside in groupby(cells, key=lambda pair: pair[0][0]):
        runs = (tag("div", tag("div", *(drawn(cell, of, cell.name == first) for _, cell in run), class_="cells"),
                    tag("span", text(short(part))), class_="run")
                for part, run in groupby(inside, key=lambda pair: pair[0][1]))
        name = where.replace(" block", "") or ("Output" if out else "Input")
        out.append(tag("div", tag("span", text(name), class_="where"), tag("div", *runs, class_="runs"),
                       class_="line"))
    return out


def drawn(cell: Cell, of: Group, first: bool = False) -> str:
    """One layer. A lit one can be reached by keyboard, the ``first`` of them by Tab; so can one of another group."""
    bands = (tag("i", "", class_=LANES[s.does],
                 style=f"--at:{s.start / s.of:.1%};--size:{(s.stop - s.start) / s.of:.1%}") for s in cell.slices)
    look = "cell" + (" lit" if cell.slices else "") + (" flat" if cell.flat else "")
    words = short(cell.name) + (f": {in_words(cell)}" if cell.slices else "")
    if not (cell.slices or cell.other):
        return tag("span", class_=look, title=words)
    return tag("button", *bands, type="button", class_=look, title=words, tabindex=0 if first else -1,
               data_group=cell.other or None, aria_disabled=None if cell.other else "true")


def in_words(cell: Cell) -> str:
    """What a layer does with the group: reads inputs 64–127 of 192."""
    return "; ".join(f"{does} {ranges(list(found))}" for does, found in groupby(cell.slices, lambda s: s.does))


def ranges(slices: Sequence[Slice]) -> str:
    """Slices of one axis in words, the first place being 0."""
    spans = " and ".join(f"{s.start:,}–{s.stop - 1:,}" for s in slices)
    return f"{WHERE[slices[0].does]} {spans} of {slices[0].of:,}"


def table(of: Group) -> str:
    """The layers of the group, one line for each thing that a layer does with it."""
    head = tag("tr", *(tag("th", words, scope="col") for words in ("layer", "does", "which", "go")))
    body = []
    for cell in of.lit:
        for does, found in groupby(cell.slices, lambda s: s.does):
            slices = list(found)
            body.append(tag("tr", tag("th", text(short(cell.name)), scope="row", title=cell.name),
                            tag("td", text(does), tag("span", text(f" ({', '.join(cell.tensors)})"), class_="of")),
                            tag("td", text(ranges(slices))),
                            tag("td", f"{of.going(slices):,}")))
    share = f"{percent(of.gone / of.units)} of each range goes, the same {plural(of.kind)} everywhere"
    caption = f"The layers of this group; {share if of.gone else 'nothing of it goes'}"
    return tag("div", tag("table", tag("caption", text(caption)), tag("thead", head), tag("tbody", *body)),
               class_="rows", tabindex=0, role="region", aria_label="The layers of this group")
