"""Importance: every layer's scores in execution order, and what goes of each. A picked layer opens in Masks.

Below them: whether another method would want the same to go.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import NoneType
from typing import Any

import gradio as gr

from pruning.scores.scores import Curve
from ui import limits
from ui.door import heard
from ui.js import script
from ui.plots import agreement
from ui.plots import curve as curves
from ui.plots import importance as plots
from ui.plots.markup import tag, text
from ui.widgets.controls import choice

Own = tuple[tuple[str, float], ...]


@dataclass
class Importance:
    """The components of the tab."""

    rows: gr.HTML
    curve: gr.Plot
    heard: gr.HTML
    suggest: gr.Button
    trouble: gr.HTML
    rival: gr.HTML
    agree: gr.Button
    agreement: gr.HTML


def build(methods: list[dict[str, Any]]) -> Importance:
    """The tab."""
    rows = gr.HTML(plots.importance(()), js_on_load=script("marked", "importance"), elem_id="importance")
    heard = gr.HTML("", elem_id="heard", visible=False)
    curve = gr.Plot(visible=False, label="Loss at single timesteps", elem_id="curve")
    suggest = gr.Button("Suggest ratios: prune one layer at a time, see how much the answer misses it", size="sm",
                        elem_id="suggest")
    trouble = gr.HTML("", elem_classes="problem", elem_id="suggest-problem")
    with gr.Accordion("Do methods agree?", open=False):
        rival = choice("Compare with", methods, "wanda", elem_id="rival")
        agree = gr.Button("Compare their masks", size="sm", elem_id="agree")
        shown = gr.HTML(agreement.EMPTY, elem_id="agreement")
    return Importance(rows, curve, heard, suggest, trouble, rival, agree, shown)


def listened(curve: Curve | None) -> list[Any]:
    """Which timesteps a method listens to, as a figure and in words; nothing for methods that do not choose."""
    if curve is None:
        return [gr.Plot(visible=False), gr.HTML(visible=False)]
    words = tag("h2", "Which timesteps it listens to") + tag("p", text(curves.in_words(curve)), class_="hint")
    return [gr.Plot(curves.curve(curve), visible=True), gr.HTML(words, visible=True)]


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
