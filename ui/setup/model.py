"""Which model: those that are listed, one that is loaded, and what the page says of the one in use."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from pruning.errors import Refused, in_words, out_of_memory
from pruning.models.sources import BUNDLED
from ui import device
from ui.setup import row
from ui.widgets.alert import alert, hint
from ui.widgets.choice import option
from ui.widgets.head import head

OTHER = "other"


def model_options() -> list[dict[str, Any]]:
    """The bundled model and, where they may be loaded, others. A public page offers those that its host listed."""
    rows = [option(name, name, "bundled, runs at once") for name in BUNDLED]
    if device.PUBLIC:
        return rows + [option(name, name, "from the Hugging Face hub") for name in device.ALLOWED]
    return [*rows, option(OTHER, "Other…", "hub, folder, or an architecture such as sd-1.5")]


def listed(model: str) -> tuple[str, Any, str]:
    """How the list of models shows the one in use: (choice, the box for others, what stands in it)."""
    if model in {row["value"] for row in model_options()}:
        return model, gr.Group(visible=False), ""
    return OTHER, gr.Group(visible=True), model


def choose_model(model: str, before: str) -> tuple[Any, str, str]:
    """A listed model is opened at once; another waits for Load."""
    if model == OTHER:
        return gr.Group(visible=True), before, ""
    return gr.Group(visible=False), model, ""


def load_model(named: str | None, before: str) -> Iterator[tuple[str, str]]:
    """Load another model; when that fails, the one in use stays."""
    named = named or ""
    yield before, hint(f"Loading {named}. A download can take minutes.")
    try:
        device.open_model(named)
    except Refused as error:
        yield before, alert(error)
    except (OSError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, OSError) or out_of_memory(error)):
            raise
        yield before, alert(in_words(error))
    else:
        yield named.strip(), ""


def opened(source: str, component: str) -> list[Any]:
    """What the page says about the model in use. A component that the model has, too, stays chosen."""
    try:
        model = device.open_model(source)
    except Refused as error:
        return [head(source), gr.skip(), alert(error), *[gr.skip()] * 5]
    labels = [option(path, label) for path, label in model.components]
    kept = component if component in dict(model.components) else model.components[0][0]
    return [head(f"{model.source} · {model.where}"), gr.HTML(value=kept, options=labels), gr.skip(),
            *row.told_what(model.prompted)]
