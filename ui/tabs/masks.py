"""Masks: what goes in each layer; a picked layer as a picture, a histogram and groups of four, or as a strip of
units and the layers that share them.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.units.unit import plural
from ui import device
from ui.door import heard
from ui.js import script
from ui.plots import group as group_plots
from ui.plots import layers as layer_plots
from ui.plots import mask as mask_plots
from ui.plots.markup import percent, png, tag, text
from ui.setup.shell import Shell
from ui.views import closeup
from ui.views.closeup import MaskView
from ui.widgets.alert import alert
from ui.widgets.events import NEWEST, VIEW, After

EMPTY = tag("p", "Pick a layer on the left to see what goes in it.", class_="hint")


@dataclass
class Masks:
    """The components of the tab."""

    shell: Shell
    layers: gr.HTML
    detail: gr.HTML
    histogram: gr.Plot
    place: gr.State  # of what is looked at more closely, as shares of the picture's width and height

    def wire(self, after: After) -> None:
        """Layers and places in a mask are picked."""
        after.picked(self.layers.select(picked_site, None, [self.shell.picked, self.place], **VIEW))
        self.detail.select(picked_place, None, [self.place], **VIEW).then(*after.look, **NEWEST)

    def looked(self, picked: str, place: tuple[float, float] | None, *read: Any) -> tuple[Any, Any]:
        """The picked layer under the present recipe."""
        blank = EMPTY, gr.Plot(visible=False)
        if not picked:
            return blank
        try:
            recipe = self.shell.asked.recipe(read)
            if not device.quick(recipe) or picked not in device.scores(recipe).catalog.sites:
                return blank
            seen = closeup.mask(recipe, picked, place)
        except Refused as error:
            return alert(error), gr.Plot(visible=False)
        return shown(seen), figure(seen)


def build(shell: Shell) -> Masks:
    """The list of layers, and the picked one."""
    with gr.Row():
        with gr.Column(scale=2, min_width=260):
            layers = gr.HTML(layer_plots.layers(()), js_on_load=script("marked", "layers"), elem_id="layers")
        with gr.Column(scale=5, min_width=300):
            detail = gr.HTML(EMPTY, js_on_load=script("place", "cells"), elem_id="detail")
            histogram = gr.Plot(visible=False, label="Scores of this layer", elem_id="histogram")
    return Masks(shell, layers, detail, histogram, gr.State(None))


def shown(view: MaskView) -> str:
    """The picked layer as markup."""
    gone = view.units - view.kept
    head = tag("h2", text(layer_plots.short(view.title))) + tag(
        "p", text(f"{gone:,} of {view.units:,} {plural(view.kind)} go ({percent(gone / view.units)})."),
        class_="hint")
    key = tag("div", tag("span", "kept"), tag("span", "removed", class_="gone"), class_="key")
    if view.picture is None or view.near is None:
        strip = mask_plots.strip(view.scores, view.keep, view.quota)
        return tag("div", head, strip, key, group_plots.group(view.group) if view.group else "", class_="mask units")
    down, across = view.pooled
    many = "one weight" if down * across == 1 else f"{down} × {across} weights, shaded by the share that stays"
    whole = tag("figure", tag(
        "button", f'<img class="tiles" src="{png(view.picture)}" alt="Mask of {text(view.title)}: '
        f'{percent(gone / view.units)} removed, spread over {view.shape[0]} rows and {view.shape[1]} inputs">',
        type="button", class_="look", data_x=view.at[0], data_y=view.at[1],
        aria_label="Look closer: click, or move with the arrow keys"),
                tag("figcaption", f"Rows down ({view.shape[0]:,}), input channels across ({view.shape[1]:,}). A pixel "
                    f"is {many}. Click, or use the arrow keys, to look closer.", class_="hint"))
    near = tag("figure", f'<img src="{png(view.near)}" alt="Single weights around the chosen place">',
               tag("figcaption", f"Single weights, up to {mask_plots.WINDOW} × {mask_plots.WINDOW}"
                   + (f", in groups of {view.m}." if view.m else "."), class_="hint"))
    parts = [head, key, tag("div", whole, near, class_="views2")]
    if view.m and view.row is not None and view.row_keep is not None and view.micro is not None:
        parts += [mask_plots.groups(view.row, view.row_keep, view.m),
                  mask_plots.microscope(view.micro, view.kernels, view.most)]
    parts.append(tag("p", text(mask_plots.in_words(view.edges, view.counts, view.threshold)), class_="hint"))
    return tag("div", *parts, class_="mask")


def figure(view: MaskView) -> Any:
    """The histogram of a weight layer; nothing for larger units, whose strip says it all."""
    if not view.counts:
        return gr.Plot(visible=False)
    return gr.Plot(mask_plots.histogram(view.edges, view.counts, view.threshold), visible=True)


def picked_site(event: gr.EventData) -> tuple[str, None]:
    """The layer that was clicked; its picture begins in the middle."""
    return heard(event, "site"), None


def picked_place(event: gr.EventData) -> tuple[float, float]:
    """The place in a mask's picture, as shares of its width and height."""
    return within(heard(event, "x", (int, float))), within(heard(event, "y", (int, float)))


def within(share: float) -> float:
    """A share of a width, kept inside it."""
    return min(1.0, max(0.0, float(share)))
