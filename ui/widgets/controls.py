"""Options of a part become components of the page."""

from dataclasses import Field
from typing import Any, cast

import gradio as gr

from pruning.registry import knobs


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
