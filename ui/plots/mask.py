"""Pictures of what goes: density tiles and single weights, groups of M, units as a strip, the histogram of scores."""

from collections.abc import Sequence
from itertools import pairwise
from math import log10

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from pruning.planning.microscope import Microscope
from pruning.timing.kernels import Ceiling
from ui.plots.markup import percent, tag, text, three

KEPT, GONE = (58, 110, 200), (247, 244, 239)  # kept is blue like the dense model, removed is paper
WINDOW = 64  # weights a side, when zoomed in


def tiles(keep: np.ndarray, most: int = 256) -> tuple[Image.Image, tuple[int, int]]:
    """A mask (rows, inputs) as one picture at most ``most`` wide and high, and the weights that one pixel stands for.

    A pixel's colour is the kept share of the weights that it stands for.
    """
    rows, inputs = keep.shape
    down, across = -(-rows // most), -(-inputs // most)
    padded = np.full((-(-rows // down) * down, -(-inputs // across) * across), np.nan, dtype=np.float32)
    padded[:rows, :inputs] = keep
    blocks = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across)
    return shaded(np.nanmean(blocks, axis=(1, 3))), (down, across)


def shaded(share: np.ndarray) -> Image.Image:
    """Kept shares, 0 to 1, as colours from removed to kept."""
    low, high = (np.array(colour, dtype=np.float32) for colour in (GONE, KEPT))
    return Image.fromarray((low + share[..., None] * (high - low)).round().astype(np.uint8))


def zoom(keep: np.ndarray, row: int, column: int, m: int = 0) -> Image.Image:
    """Single weights around a place, eight pixels each with a gap; groups of ``m`` stand a little apart."""
    top = max(0, min(row - WINDOW // 2, keep.shape[0] - WINDOW))
    left = max(0, min(column - WINDOW // 2, keep.shape[1] - WINDOW))
    left -= left % m if m else 0
    part = keep[top : top + WINDOW, left : left + WINDOW]
    cell = 8
    picture = np.full((part.shape[0] * cell, part.shape[1] * cell, 3), (205, 205, 210), dtype=np.uint8)
    colours = np.where(part[..., None], np.array(KEPT), np.array(GONE)).astype(np.uint8)
    big = colours.repeat(cell, 0).repeat(cell, 1)
    inner = np.zeros(big.shape[:2], dtype=bool)
    inner[:] = (np.arange(big.shape[0])[:, None] % cell < cell - 1) & (np.arange(big.shape[1])[None] % cell < cell - 1)
    if m:
        inner &= (np.arange(big.shape[1])[None] % (cell * m)) < cell * m - 3
    picture[inner] = big[inner]
    return Image.fromarray(picture)


def histogram(edges: Sequence[float], counts: Sequence[int], threshold: float | None) -> go.Figure:
    """How many weights have each score, on a logarithmic axis, with the threshold that divides them if there is one."""
    centres = [(a * b) ** 0.5 if a > 0 else b for a, b in pairwise(edges)]
    figure = go.Figure()
    sides = (("removed", "#b9b4ab", "/", lambda c: c < threshold), ("kept", "#3a6ec8", "", lambda c: c >= threshold))
    for name, colour, shape, belongs in sides if threshold is not None else (
            ("weights", "#808692", "", lambda c: True),):
        inside = [i for i, centre in enumerate(centres) if belongs(centre)]
        figure.add_bar(x=[centres[i] for i in inside], y=[counts[i] for i in inside], name=name,
                       width=[edges[i + 1] - edges[i] for i in inside],
                       marker={"color": colour, "pattern": {"shape": shape}, "line": {"width": 0}})
    if threshold is not None and threshold > 0:
        figure.add_vline(x=threshold, line={"color": "#d9730d", "width": 2})
        figure.add_annotation(x=log10(threshold), y=1.08, yref="paper", text=f"threshold {three(threshold)}",
                              showarrow=False, font={"color": "#d9730d"})  # a log axis takes places as logarithms
    return figure.update_layout(
        height=260, margin={"l": 56, "r": 12, "t": 28, "b": 44}, bargap=0, template="none",
        xaxis={"type": "log", "title": "score", "gridcolor": "rgba(128,128,128,.15)"},
        yaxis={"title": "weights", "gridcolor": "rgba(128,128,128,.25)"}, legend={"x": 0.01, "y": 0.98},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": "#808692", "size": 12})


def in_words(edges: Sequence[float], counts: Sequence[int], threshold: float | None) -> str:
    """What the histogram shows, for those who cannot see it."""
    half, below = sum(counts) / 2, 0
    middle = edges[-1]
    for edge, count in zip(edges[1:], counts, strict=True):
        below += count
        if below >= half:
            middle = edge
            break
    cut = "" if threshold is None else f" What is below the threshold of {three(threshold)} goes."
    return f"Histogram of scores: half lie below about {three(middle)}, the highest at {three(edges[-1])}.{cut}"


def groups(values: np.ndarray, keep: np.ndarray, m: int, count: int = 12) -> str:
    """The first groups of M neighbours of one row: sizes as bars, dropped ones hatched."""
    top = float(np.abs(values).max()) or 1.0
    blocks = []
    for start in range(0, min(len(values), count * m), m):
        cells = "".join(
            tag("span", tag("i", "", style=f"height:{abs(value) / top * 100:.1f}%"), tag("em", three(abs(value))),
                class_="w kept" if kept else "w gone", title=f"{value:+.4g}, {'kept' if kept else 'removed'}")
            for value, kept in zip(values[start : start + m], keep[start : start + m], strict=True))
        blocks.append(tag("div", cells, class_="group"))
    stayed = int(keep.sum())
    words = f"{len(values) // m} groups of {m} in this row; {stayed} of {len(values)} weights stay"
    return tag("div", *blocks, class_="groups", role="img", aria_label=words) + tag("p", text(words), class_="hint")


def strip(scores: Sequence[float], keep: Sequence[bool], quota: int = 1) -> str:
    """Units side by side, their scores as heights, removed ones hatched; norm groups stand apart, many units wrap."""
    top, per = max(scores) or 1.0, len(scores) // quota
    blocks = []
    for start in range(0, len(scores), per):
        cells = "".join(tag("span", tag("i", "", style=f"height:{max(3.0, scores[u] / top * 100):.1f}%"),
                            class_="u kept" if keep[u] else "u gone",
                            title=f"unit {u}: score {three(scores[u])}, {'kept' if keep[u] else 'removed'}")
                        for u in range(start, start + per))
        blocks.append(tag("div", cells, class_="run"))
    gone = len(keep) - sum(keep)
    words = f"{gone} of {len(keep)} units go" + (f", {gone // quota} from each of {quota} norm groups" if quota > 1
                                                  else "")
    return tag("div", *blocks, class_="strip many" if per > 100 else "strip", role="img",
               aria_label=words) + tag("p", text(words), class_="hint")


def microscope(seen: Microscope, kernels: Sequence[tuple[str, str | None]],
               most: Sequence[tuple[str, Ceiling]]) -> str:
    """Both ways to group a layer's weights, which devices have a kernel for it, and what that can win in all."""
    rows = [("along the input channels (used)", seen.along_inputs), ("plain flattening, to compare", seen.flattened)]
    body = [tag("tr", tag("th", name, scope="row"), tag("td", percent(g.compliance)), tag("td", percent(g.retained)))
            for name, g in rows]
    head = tag("tr", *(tag("th", words, scope="col") for words in ("groups", "readable", "norm kept")))
    note = ("A linear layer is stored row by row, so both are the same." if seen.alike else
            "Sparse kernels look for groups along the input channels. Flattening the stored tensor groups across the "
            f"positions of the convolution's window instead: just {percent(seen.flattened.compliance)} of the groups "
            "that a kernel would read comply then.")
    has = [tag("li", tag("b", text(where[0].upper() + where[1:])), ": ",
               text("has a kernel for this layer" if why is None else f"no kernel, since {why}") + ".",
               class_="no" if why else "yes") for where, why in kernels]
    whole = " ".join(f"On {where}, {c.eligible} of the {c.layers} pruned layers have one; they hold {percent(c.f)} of "
                     f"the MACs, so N:M makes it at most {three(c.speedup)}× faster there." if c.eligible else
                     f"On {where} no layer has one, so N:M gains no time there." for where, c in most)
    caption = "Groups of this layer: share with no more than N kept, and the norm of what stays over the norm of all"
    return tag("div", tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body)),
               tag("p", note, class_="hint"), tag("ul", *has, class_="kernels"),
               tag("p", text(f"The whole component: {whole} (Amdahl's law, by MACs. "
                           "Measure probes kernels where there are any.)"),
                   class_="hint"), class_="micro")
