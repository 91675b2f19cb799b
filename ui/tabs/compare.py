"""Compare: the pair with its clocks and cards, drawn, stopped and brought back."""

from collections.abc import Iterator
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.progress import Looked
from pruning.types import Recipe, Shot
from ui.door import heard
from ui.js import script
from ui.setup.shell import Shell
from ui.state import History
from ui.views import drawing, pairs
from ui.widgets.alert import alert, hint, known, note
from ui.widgets.events import ALONE, VIEW, After
from ui.widgets.places import shown, unchanged
from ui.widgets.progress import noted


@dataclass
class Compare:
    """The tab and the row above it."""

    shell: Shell
    drawing: gr.State  # whether a drawing has begun and not ended

    def wire(self, after: After, use: gr.Checkbox) -> Any:
        """A pair is drawn, with the fine-tuned weights where ``use`` says so. Returns the event, which Stop ends."""
        shell, row, places = self.shell, self.shell.row, self.shell.places
        begin = [row.generate.click, row.prompt.submit]
        gr.on(begin, None, None, [row.stop, row.problem], js=script("wait"), **VIEW)
        running = gr.on(begin, self.generated, [shell.history, use, *shell.inputs],
                        [*places.all, row.problem, shell.history, self.drawing], api_name="generate", **ALONE)
        # What Stop shows waits until the drawing has really ended: a last step may still be on its way to the page.
        after.shown(running.then(self.ended, [shell.history, self.drawing],
                                 [*places.all, row.stop, row.problem, self.drawing], **VIEW))
        after.ready(places.earlier.select(self.back, [shell.history], [*shell.parts, *places.all, shell.history],
                                          **VIEW))
        return running

    def generated(self, history: History, use: bool, *values: Any) -> Iterator[list[Any]]:
        """The pair as it is drawn, or one sentence why not; the last good pair is back then."""
        yield [*unchanged(), note("Preparing the pruned model."), gr.skip(), True]
        try:
            yield from self.drawn(history, use, *self.shell.wanted(values))
        except Exception as error:
            told = known(error)
            yield [*shown(history), alert(told or ""), gr.skip(), False]
            if not told:  # a fault of ours is shown as one
                raise

    def drawn(self, history: History, use: bool, recipe: Recipe, shot: Shot) -> Iterator[list[Any]]:
        """What a drawing shows, step by step."""
        for event in drawing.pair(recipe, shot, history.trained(recipe) if use else None):
            if isinstance(event, Looked):
                yield [*unchanged(), noted(event, "Preparing the pruned model: "), gr.skip(), True]
            elif isinstance(event, drawing.Frame):
                yield [pairs.running(event, shot), *unchanged()[1:], "", gr.skip(), True]
            else:
                history = history.added(event)
                yield [*shown(history), "", history, False]

    def ended(self, history: History, drawing: bool) -> list[Any]:
        """Nothing is left to stop. A drawing that was stopped leaves the last finished pair, as if it had not begun."""
        off = gr.Button(interactive=False)
        if not drawing:
            return [*unchanged(), off, gr.skip(), False]
        return [*shown(history), off, hint("Stopped. The pair shown is the last that was finished."), False]

    def back(self, history: History, event: gr.EventData) -> list[Any]:
        """An earlier pair, with the setup and the prompt that made it."""
        at = heard(event, "said")
        if not at.isdecimal() or len(at) > 3:
            raise Refused(f"No earlier pair is number {shortened(at)}.", "Reload the page.")
        history = history.showing(int(at))
        pair = history.shown
        return [*self.shell.restored(pair.recipe, pair.shot), *shown(history), history]


def build(shell: Shell) -> Compare:
    """The tab: the pair, its cards, earlier ones, and how it is drawn."""
    row, places = shell.row, shell.places
    for place in (places.stale, places.stage, places.cards, places.earlier):
        place.render()
    with gr.Accordion("Drawing: steps, guidance, sampler, images", open=False, elem_id="drawing"):
        with gr.Row():
            for control in (row.steps, row.guidance, row.images):
                control.render()
        row.sampler.render()
        row.negative.render()
    return Compare(shell, gr.State(False))
