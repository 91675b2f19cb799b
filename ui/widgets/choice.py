"""Radios that can say why a choice is greyed out."""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from ui.js import script, template


def choice(legend: str, options: Sequence[dict[str, Any]], value: str, *, look: str = "list", **rest: Any) -> gr.HTML:
    """Radios as a fieldset. An option is {value, label, note?, off?}; ``off`` greys it out and gives the reason.

    Only ``value`` and ``options`` change in the browser. Gradio loses ``options`` of a component that an event reaches
    before it is drawn (in a closed accordion), so the first ones stand in the template, with what never changes.
    """
    markup = template("choice")
    for blank, filling in (("LOOK", look), ("LEGEND", legend), ("NAME", legend.lower().replace(" ", "-")),
                           ("FIRST", json.dumps(list(options)))):
        markup = markup.replace(blank, filling)
    return gr.HTML(value, html_template=markup, js_on_load=script("choice"), options=list(options), **rest)


def option(value: str, label: str, note: str = "", off: str | None = None) -> dict[str, Any]:
    """One option of a ``choice``."""
    return {"value": value, "label": label, "note": note, "off": off or ""}
