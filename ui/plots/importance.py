"""The importance of every layer: its scores from the lowest to the highest as a strip of colour, and what goes of it.

A strip's axis is the rank inside the layer, so the threshold stands where the removed share ends. It is markup, not a
plotly figure: rows can be reached by keyboard and read aloud, and the threshold follows the slider while it is dragged.
"""

from collections.abc import Sequence
from itertools import groupby
from math import log10

from plotly.colors import sample_colorscale, unlabel_rgb

from pruning.units.unit import plural
from ui.plots.layers import short
from ui.plots.markup import counted, percent, tag, text, three
from ui.values import Layer

SCALE = "Viridis"  # perceptually even, and safe for all common kinds of colour blindness
SORTS = (("order", "As the network runs"), ("size", "Largest first"), ("share", "Most removed first"))


def block(name: str) -> str:
    """The block that a layer belongs to, in words."""
    parts = name.split(".")
    known = {"down_blocks": "Down block", "up_blocks": "Up block", "mid_block": "Middle block", "layers": "Layer",
             "transformer_blocks": "Block", "single_transformer_blocks": "Single block"}
    for i, part in enumerate(parts):
        if part in known:
            number = parts[i + 1] if i + 1 < len(parts) and parts[i + 1].isdigit() else ""
            return f"{known[part]} {number}".strip()
    return "Outside the blocks"


def span(rows: Sequence[Layer]) -> tuple[float, float]:
    """The scores that the scale runs between: all but the lowest tenth, whose tiny ones would take most of it."""
    values = sorted(value for row in rows for value in row.quantiles if value > 0)
    return (values[len(values) // 10], values[-1]) if values else (0.0, 1.0)


def colours(values: Sequence[float], low: float, high: float) -> list[str]:
    """A colour for each score, on a logarithmic scale from ``low`` to ``high``."""
    width = log10(high / low) if high > low > 0 else 1.0
    at = [min(1.0, max(0.0, log10(max(value, low) / low) / width)) if low > 0 else 0.0 for value in values]
    return ["#{:02x}{:02x}{:02x}".format(*map(round, unlabel_rgb(colour))) for colour in sample_colorscale(SCALE, at)]


def gradient(shades: Sequence[str], units: int) -> str:
    """A strip that blends its colours; one with few units shows each as a field of its own."""
    if len(shades) < units:
        return f"linear-gradient(90deg,{','.join(shades)})"
    edges = [f"{shade} {i / len(shades):.2%} {(i + 1) / len(shades):.2%}" for i, shade in enumerate(shades)]
    return f"linear-gradient(90deg,{','.join(edges)})"


def row(layer: Layer, place: int, first: int, low: float, high: float, cut: bool, picked: bool) -> str:
    """One layer as a button; ``first`` is the place of its block's first layer."""
    share, noun = layer.gone / layer.units if layer.units else 0.0, plural(layer.kind)
    left = bool(layer.reason) and not layer.gone
    middle = layer.quantiles[len(layer.quantiles) // 2]
    words = (f"; {layer.units:,} {noun}, scores {three(layer.quantiles[0])} to {three(layer.quantiles[-1])}, middle "
             f"{three(middle)}" + (f" ({layer.reason})" if layer.reason else "") + ". Opens in Masks. Removed: ")
    shades = gradient(colours(layer.quantiles, low, high), layer.units)
    own = tag("span", "own", class_="own-ratio", title="This layer has a ratio of its own") if (
        layer.own is not None) else ""
    return tag("button",
               tag("span", tag("span", text(short(layer.name)), class_="words"), own, class_="name"),
               tag("span", text(words), class_="unseen"),
               tag("span", tag("span", "", class_="cut") if cut and not left else "", class_="heat",
                   style=f"background:{shades}"),
               by_timestep(layer.profile) if layer.profile else "",
               tag("span", percent(share), class_="figure"),
               tag("span", tag("span", ""), class_="track gone"),
               tag("span", text(counted(layer.units)), class_="size", aria_hidden="true"),
               type="button", class_="imp" + (" left" if left else ""), data_site=layer.name, data_order=place,
               data_size=layer.units, data_share=f"{share:.6f}", data_block=first, data_glob=layer.module,
               style=f"--gone:{share:.2%}", title=layer.reason, aria_pressed=str(picked).lower())


def by_timestep(profile: Sequence[float]) -> str:
    """A layer's scores bucket by bucket, from little noise to much, each as a shade of the layer's own largest."""
    top = max(profile) or 1.0
    shades = sample_colorscale(SCALE, [value / top for value in profile])
    words = "By timestep, from little noise to much: " + ", ".join(f"{value / top:.0%}" for value in profile)
    cells = (tag("i", "", style=f"background:{shade}") for shade in shades)
    return tag("span", *cells, tag("span", text(words), class_="unseen"), class_="steps", title=words)


def editor(own: int, editable: bool) -> str:
    """Ratios of single layers: pick rows or blocks, then drag. ``own`` layers have one already."""
    if not editable:
        return ""
    toggle = '<button type="button" data-own aria-pressed="false">Own ratios</button>'
    clear = f'<button type="button" data-clear-all>Clear all {own}</button>' if own else ""
    return tag("div", tag("div", toggle, clear, class_="views"),
               tag("div", '<output class="count">Pick layers or blocks below.</output>',
                   '<label>Remove of them <input type="range" min="0" max="95" step="1" value="30" disabled></label>',
                   '<output class="at"></output>', '<button type="button" data-clear disabled>As the rest</button>',
                   class_="editor", hidden="hidden"), class_="own")


def importance(rows: Sequence[Layer], picked: str = "", *, cut: bool = True, unsure: float = 0.0) -> str:
    """All layers, grouped by block. ``cut`` draws where the threshold stands: N:M has none.

    By ``unsure`` the shares of single layers can be off, until the plan is made.
    """
    if not rows:
        return tag("p", "No scores to show yet: choose a model and a method.", class_="hint")
    low, high = span(rows)
    numbered = list(enumerate(rows))
    groups = []
    for name, inside in groupby(numbered, key=lambda pair: block(pair[1].name)):
        layers = list(inside)
        gone, units = sum(layer.gone for _, layer in layers), sum(layer.units for _, layer in layers)
        share = tag("span", tag("i", percent(gone / max(1, units))), f" of {counted(units)}", class_="figure")
        first = layers[0][0]
        whole = tag("button", "Pick block", type="button", data_pick=first, hidden="hidden",
                    aria_label=f"Pick all layers of {text(name)}")
        groups.append(tag("div", tag("span", text(name), whole), share, class_="block", data_order=first,
                          data_block=first))
        groups += [row(layer, place, first, low, high, cut, layer.name == picked) for place, layer in layers]
    sorts = tag("div", *(f'<button type="button" data-sort="{key}" aria-pressed="{str(key == "order").lower()}">'
                         f"{label}</button>" for key, label in SORTS), class_="views", role="group",
                aria_label="Order of the layers")
    legend = tag("div", tag("span", f"≤ {three(low)}"), tag("span", "", class_="scale", style="background:" + gradient(
        sample_colorscale(SCALE, 12), 13)), tag("span", three(high)), tag("span", "score", class_="unit"),
                 class_="legend", role="img",
                 aria_label=f"Colours run from a score of {three(low)}, dark, to {three(high)}, light")
    timed = any(layer.profile for layer in rows)
    axis = tag("div", tag("span", "layer"), tag("span", "its scores, lowest to highest"),
               tag("span", "low to high noise") if timed else "", tag("span", "removed"),
               tag("span", ""), tag("span", "units"), class_="axis", aria_hidden="true")
    how = ("Hatched up to the orange line: removed." if cut else
           "N:M chooses inside each group, so no threshold divides a strip.")
    if any(layer.kind in ("channel", "stream") for layer in rows):
        how += " In front of a norm every group loses its own lowest channels: the line says how many, not which."
    if timed:
        how += " The short strip says at which noise a layer matters, against its own largest."
    how += " Pick a layer to open it in Masks."
    if unsure >= 0.0005:
        how += f" Until the plan is made, shares of single layers are known to within {unsure * 100:.2f} points."
    own = sum(layer.own is not None for layer in rows)
    return tag("div", tag("div", sorts, legend, class_="tools"), editor(own, cut), tag("p", how, class_="hint"), axis,
               tag("div", *groups, class_="list", role="group", aria_label="Layers and their scores"),
               class_="importance" + (" timed" if timed else ""))
