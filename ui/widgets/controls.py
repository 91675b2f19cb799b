"""Options of a part become components of the page, and radios that can say why a choice is greyed out."""

import json
from collections.abc import Sequence
from dataclasses import Field
from typing import Any, cast

import gradio as gr

from pruning.registry import knobs
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


def control(method: str, knob: Field) -> gr.components.Component:
    """The component for one option of a method."""
    default = cast(Any, knob.default)
    shown: dict[str, Any] = {"label": knob.name, "info": knob.metadata["help"],
                             "elem_id": f"option-{method}-{knob.name}"}
    if knob.metadata["choices"]:
        return gr.Radio(list(knob.metadata["choices"]), value=default, **shown)
    if isinstance(default, bool):
        return gr.Checkbox(default, **shown)
    if isinstance(default, str):
        return gr.Textbox(default, **shown)
    return gr.Slider(knob.metadata["low"], knob.metadata["high"], default, step=knob.metadata["step"], **shown)


def of_methods(registry: dict[str, type]) -> tuple[dict[str, gr.Group], dict[tuple[str, str], gr.components.Component]]:
    """A group for each method that has options, to be shown with its method, and (method, option) -> its component."""
    groups, made = {}, {}
    for name, part in sorted(registry.items()):
        if knobs(part):
            with gr.Group(visible=False) as groups[name]:
                made.update({(name, knob.name): control(name, knob) for knob in knobs(part)})
    return groups, made
