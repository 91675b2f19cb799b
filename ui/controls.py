"""Options of a part become components of the page, and radios that can say why a choice is greyed out."""

from collections.abc import Sequence
from dataclasses import Field
from typing import Any, cast

import gradio as gr

from pruning.registry import knobs
from ui import clicks


def choice(legend: str, options: Sequence[dict[str, Any]], value: str, *, look: str = "list", **rest: Any) -> gr.HTML:
    """Radios as a fieldset. An option is {value, label, note?, off?}; ``off`` greys it out and gives the reason."""
    template = clicks.CHOICE_TEMPLATE
    for blank, filling in (("LOOK", look), ("LEGEND", legend), ("NAME", legend.lower().replace(" ", "-"))):
        template = template.replace(blank, filling)
    return gr.HTML(value, html_template=template, js_on_load=clicks.CHOICE, options=list(options), **rest)


def option(value: str, label: str, note: str = "", off: str | None = None) -> dict[str, Any]:
    """One option of a ``choice``."""
    return {"value": value, "label": label, "note": note, "off": off or ""}


def control(method: str, knob: Field) -> gr.components.Component:
    """The component for one option of a method."""
    label, info, default = knob.name, knob.metadata["help"], cast(Any, knob.default)
    if knob.metadata["choices"]:
        return gr.Radio(list(knob.metadata["choices"]), value=default, label=label, info=info, visible=False,
                        elem_id=f"option-{method}-{label}")
    if isinstance(default, bool):
        return gr.Checkbox(default, label=label, info=info, visible=False, elem_id=f"option-{method}-{label}")
    if isinstance(default, str):
        return gr.Textbox(default, label=label, info=info, visible=False, elem_id=f"option-{method}-{label}")
    return gr.Slider(knob.metadata["low"], knob.metadata["high"], value=default, step=knob.metadata["step"],
                     label=label, info=info, visible=False, elem_id=f"option-{method}-{label}")


def of_methods(registry: dict[str, type]) -> dict[tuple[str, str], gr.components.Component]:
    """(method, option) -> its component, for every registered method. They are shown with their method."""
    return {(name, knob.name): control(name, knob) for name, part in sorted(registry.items()) for knob in knobs(part)}
