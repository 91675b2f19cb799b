"""Importance: every layer's scores in execution order, and what goes of each. A picked layer opens in Masks."""

from dataclasses import dataclass

import gradio as gr

from ui import clicks
from ui.plots import importance as plots


@dataclass
class Importance:
    """The components of the tab."""

    rows: gr.HTML


def build() -> Importance:
    """The tab."""
    return Importance(gr.HTML(plots.importance(()), js_on_load=clicks.IMPORTANCE, elem_id="importance"))
