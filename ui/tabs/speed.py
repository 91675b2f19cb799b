"""Speed: the stopwatch on the shown pair's models; theory, reachable and measured side by side."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.timing import intervals
from pruning.timing.clock import PAIRS, Turn
from ui.js import script
from ui.plots import speed as plots
from ui.setup.shell import Shell
from ui.state import History, Pair
from ui.views import drawing
from ui.widgets.alert import alert, known, note
from ui.widgets.events import ALONE, VIEW, After
from ui.widgets.places import shown, unchanged

RUNS = intervals.FEWEST, 20  # pairs of them


@dataclass
class Speed:
    """The components of the tab."""

    shell: Shell
    measure: gr.Button
    stop: gr.Button
    repeats: gr.Slider
    progress: gr.HTML

    def wire(self, after: After) -> Any:
        """The shown pair's models are measured. Returns the event, which Stop ends."""
        shell, row, places = self.shell, self.shell.row, self.shell.places
        begin, found = [self.measure.click, places.offer.click], gr.State(None)
        gr.on(begin, None, None, [self.stop, self.progress], js=script("wait"), **VIEW)
        gr.on(begin, None, None, [row.stop, row.timing], js=script("wait"), **VIEW)
        running = gr.on(begin, measured, [shell.history, self.repeats], [self.progress, row.timing, found],
                        api_name="measure", **ALONE)
        after.shown(running.then(timed, [shell.history, found, self.progress], [
            *places.all, shell.history, found, self.stop, row.stop, self.progress, row.timing], **VIEW))
        return running


def build(shell: Shell) -> Speed:
    """The tab."""
    with gr.Row(elem_id="clock"):
        measure = gr.Button("Measure", variant="primary", elem_id="measure", scale=0, min_width=140)
        stop = gr.Button("Stop", variant="stop", elem_id="stop-measure", interactive=False, scale=0, min_width=90)
        repeats = gr.Slider(*RUNS, PAIRS, step=2, label="Pairs of runs", elem_id="repeats",
                            info="More of them give a narrower interval.")
    progress = gr.HTML("", elem_id="progress", elem_classes="problem")
    shell.places.panel.render()
    return Speed(shell, measure, stop, repeats, progress)


def measured(history: History, repeats: Any) -> Iterator[tuple[str, str, Any]]:
    """How far the measurement is, and at last the pair that was shown when it began, before and after."""
    pair = history.shown
    try:
        for words, changed in clocked(pair, repeats):
            yield words, words, (pair, changed) if changed else None
    except Exception as error:
        told = known(error)
        yield alert(told or ""), alert(told or ""), None
        if not told:  # a fault of ours is shown as one
            raise


def timed(history: History, found: tuple[Pair, Pair] | None, said: str) -> list[Any]:
    """A measurement has ended: with figures, with a refusal that stays, or because it was stopped."""
    off = gr.Button(interactive=False)
    if found:
        history = history.changed(*found)
        return [*shown(history), history, None, off, off, "", ""]
    if "alert" not in (said or ""):
        said = note("Stopped; nothing was measured.")
    return [*unchanged(), gr.skip(), None, off, off, said, said]


def clocked(pair: Pair, repeats: int | None) -> Iterator[tuple[str, Pair | None]]:
    """(how far it is, the measured pair once it is there).

    Raises:
        Refused: too few or too many runs.
    """
    if repeats is None or not RUNS[0] <= repeats <= RUNS[1]:
        raise Refused(f"Pairs of runs cannot be {repeats}.",
                      f"They go from {RUNS[0]} to {RUNS[1]}; fewer cannot tell a difference from chance.")
    yield plots.progress(0, 2 * (int(repeats) + 1), 0), None
    for event in drawing.measured(pair, int(repeats)):
        if isinstance(event, Turn):
            yield plots.progress(event.done, event.total, event.left), None
        else:
            yield "", event
