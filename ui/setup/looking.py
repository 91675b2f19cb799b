"""Looking at data takes a while: the page says how far it is, and it can be stopped."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.types import Recipe
from ui import device
from ui.setup.request import Setup
from ui.widgets.alert import alert, hint
from ui.widgets.events import TOGETHER, VIEW, After
from ui.widgets.progress import paced


@dataclass
class Looking:
    """The setup's line that says so, with its two buttons: one stops, one begins again."""

    asked: Setup

    @property
    def places(self) -> list[Any]:
        """The line, Stop and Look again."""
        return [self.asked.looking, self.asked.halt, self.asked.again]

    def wire(self, after: After) -> Any:
        """Scores that the setup needs are taken. Returns the event, which Stop ends."""
        asked = self.asked
        running = gr.on([asked.wanted.change, asked.again.click], self.looking, [asked.wanted, *asked.inputs],
                        self.places, api_visibility="private", **TOGETHER)
        after.asked(self.ended(running), VIEW)
        return running

    def ended(self, running: Any) -> Any:
        """What follows every look at data."""
        return running.then(looked_at, [self.asked.looking], self.places, **VIEW)

    def looking(self, wanted: Recipe | None, *read: Any) -> Iterator[list[Any]]:
        """Take the scores that the setup asks for."""
        on, off = gr.Button(visible=True), gr.Button(visible=False)
        try:
            if wanted is not None:
                for note in paced(device.looking(self.asked.recipe(read))):
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
