"""Importance: every layer's scores in execution order, and what goes of each. A picked layer opens in Masks.

Below them: whether another method would want the same to go.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any

import gradio as gr

from pruning.errors import Refused
from ui import device, limits
from ui.door import heard
from ui.js import script
from ui.plots import agreement
from ui.plots import importance as plots
from ui.setup.looking import Looking
from ui.setup.request import method_options
from ui.setup.shell import Shell
from ui.widgets.alert import alert
from ui.widgets.choice import choice
from ui.widgets.events import TOGETHER, VIEW, After
from ui.widgets.progress import kept_in, paced

Own = tuple[tuple[str, float], ...]


@dataclass
class Importance:
    """The components of the tab."""

    shell: Shell
    rows: gr.HTML
    curve: gr.Plot
    heard: gr.HTML
    suggest: gr.Button
    trouble: gr.HTML
    rival: gr.HTML
    agree: gr.Button
    agreement: gr.HTML

    def wire(self, after: After, place: gr.State) -> list[Any]:
        """Ratios are suggested and set, methods compared. Returns the events that Stop ends.

        A layer that is picked here opens in Masks, its picture in the middle: ``place`` is where that is looked at.
        """
        asked, shell, looking = self.shell.asked, self.shell, Looking(self.shell.asked)
        for button in (self.suggest, self.agree):
            button.click(None, None, [asked.halt, asked.looking], js=script("looking"), **VIEW)
        suggesting = self.suggest.click(self.suggesting, asked.inputs, [
            asked.looking, asked.halt, asked.spread, self.trouble], api_name="suggest", **TOGETHER)
        after.asked(looking.ended(suggesting), VIEW)
        agreeing = self.agree.click(self.agreeing, [self.rival, *asked.inputs],
                                    [asked.looking, asked.halt, self.agreement], api_name="agreement", **TOGETHER)
        looking.ended(agreeing).then(*after.outlook, **VIEW)
        after.asked(self.rows.override(overridden, [asked.own], [asked.own], **VIEW))
        after.asked(self.rows.select(opened_site, None, [shell.picked, place, shell.tabs, shell.tab], **VIEW))
        return [suggesting, agreeing]

    def suggesting(self, *read: Any) -> Iterator[list[Any]]:
        """Ratios for single layers that the answer bears best: the spread by sensitivity, tried at this ratio."""
        on, off = gr.Button(visible=True), gr.Button(visible=False)
        try:
            if self.shell.asked.asked(read)[1]["units"] == "nm":
                raise Refused("N:M removes the same share everywhere.", "Choose Weights or Width to suggest ratios.")
            for note in paced(device.looking(self.shell.asked.recipe(read, spread="sensitivity"))):
                yield [note, on, gr.skip(), ""]
        except Refused as error:
            yield ["", off, gr.skip(), alert(error)]
            return
        yield ["", off, "sensitivity", ""]

    def agreeing(self, rival: str, *read: Any) -> Iterator[list[Any]]:
        """Whether another method wants the same to go."""
        on, off = gr.Button(visible=True), gr.Button(visible=False)
        try:
            recipe, found = self.shell.asked.recipe(read), list[Any]()
            if rival == recipe.method:
                raise Refused(f"{rival} agrees with itself.", "Choose another method to compare it with.")
            for note in paced(kept_in(found, device.agreement(recipe, rival))):
                yield [note, on, gr.skip()]
        except Refused as error:
            yield ["", off, alert(error)]
            return
        yield ["", off, agreement.agreement(found[0], recipe.method, rival, recipe.pattern or f"{recipe.ratio:.0%}")]


def build(shell: Shell) -> Importance:
    """The tab."""
    rows = gr.HTML(plots.importance(()), js_on_load=script("marked", "importance"), elem_id="importance")
    heard = gr.HTML("", elem_id="heard", visible=False)
    curve = gr.Plot(visible=False, label="Loss at single timesteps", elem_id="curve")
    suggest = gr.Button("Suggest ratios by sensitivity", size="sm", elem_id="suggest")
    gr.HTML('<p class="hint">Prunes one layer at a time, measures how much the output changes, and takes most from the '
            "layers that matter least. It says how long that takes, and can be stopped.</p>")
    trouble = gr.HTML("", elem_classes="problem", elem_id="suggest-problem")
    with gr.Accordion("Do methods agree?", open=False):
        rival = choice("Compare with", method_options("weight", {}), "wanda", elem_id="rival")
        agree = gr.Button("Compare their masks", size="sm", elem_id="agree")
        shown = gr.HTML(agreement.EMPTY, elem_id="agreement")
    return Importance(shell, rows, curve, heard, suggest, trouble, rival, agree, shown)


def overridden(own: Own, event: gr.EventData) -> Own:
    """The ratios of single layers after an edit; one for a block takes the place of those inside it.

    Raises:
        Refused: the edit names no layers, or more than can be.
    """
    globs = [str(glob) for glob in heard(event, "globs", list)]
    ratio = heard(event, "ratio", (int, float, NoneType))
    limits.own(globs)
    named, patterns = {*globs}, [glob for glob in globs if set(glob) & set("*?[")]
    left = tuple((glob, share) for glob, share in own
                 if glob not in named and not any(fnmatchcase(glob, pattern) for pattern in patterns))
    if ratio is None:
        return left
    found = tuple(sorted((*left, *((glob, round(float(ratio), 4)) for glob in globs))))
    limits.own([glob for glob, _ in found])
    return found


def opened_site(event: gr.EventData) -> tuple[str, None, gr.Tabs, str]:
    """The layer that was clicked among all, to be seen in Masks."""
    return heard(event, "site"), None, gr.Tabs(selected="masks"), "masks"
