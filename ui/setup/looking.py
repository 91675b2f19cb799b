"""Looking at data takes a while: the page says how far it is, and it can be stopped."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.types import Recipe
from ui import device
from ui.setup.request import Setup
from ui.widgets.alert import alert, hint
from ui.widgets.events import TOGETHER, VIEW, After
from ui.widgets.progress import paced


def wire(asked: Setup, after: After) -> Any:
    """Scores that the setup needs are taken. Returns the event, which Stop ends."""
    running = gr.on([asked.wanted.change, asked.again.click], partial(looking, asked), [asked.wanted, *asked.inputs],
                    places(asked), api_visibility="private", **TOGETHER)
    after.asked(ended(running, asked), VIEW)
    return running


def places(asked: Setup) -> list[Any]:
    """Where that is said, the button that stops it and the one that begins it again."""
    return [asked.looking, asked.halt, asked.again]


def ended(running: Any, asked: Setup) -> Any:
    """What follows every look at data."""
    return running.then(looked_at, [asked.looking], places(asked), **VIEW)


def looking(asked: Setup, wanted: Recipe | None, *read: Any) -> Iterator[list[Any]]:
    """Take the scores that the setup asks for."""
    on, off = gr.Button(visible=True), gr.Button(visible=False)
    try:
        if wanted is not None:
            for note in paced(device.looking(asked.recipe(read))):
                yield [note, on, off]
    except Refused as error:
        yield [alert(error), off, on]
        return
    yield ["", off, off]


def looked_at(note: str) -> list[Any]:
    """Looking has ended: done, refused, or stopped, which is said."""
    stopped = bool(note) and "alert" not in note
    return [hint("Stopped; nothing was changed.") if stopped else note, gr.Button(visible=False),
            gr.Button(visible=True) if stopped else gr.skip()]
