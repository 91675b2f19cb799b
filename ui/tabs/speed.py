"""Speed: the stopwatch on the shown pair's models; theory, reachable and measured side by side."""

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from pruning.errors import Refused
from pruning.timing import intervals
from pruning.timing.clock import PAIRS, Turn
from ui.plots import speed as plots
from ui.state import Pair
from ui.tabs import compare
from ui.views import drawing

RUNS = intervals.FEWEST, 20  # pairs of them


@dataclass
class Speed:
    """The components of the tab."""

    measure: gr.Button
    stop: gr.Button
    repeats: gr.Slider
    progress: gr.HTML
    panel: gr.HTML


def build() -> Speed:
    """The tab."""
    with gr.Row(elem_id="clock"):
        measure = gr.Button("Measure", variant="primary", elem_id="measure", scale=0, min_width=140)
        stop = gr.Button("Stop", variant="stop", elem_id="stop-measure", interactive=False, scale=0, min_width=90)
        repeats = gr.Slider(*RUNS, PAIRS, step=2, label="Pairs of runs", elem_id="repeats",
                            info="More of them give a narrower interval.")
    progress = gr.HTML("", elem_id="progress", elem_classes="problem")
    return Speed(measure, stop, repeats, progress, gr.HTML(panel(compare.prepared()), elem_id="speed"))


def panel(pair: Pair) -> str:
    """What is known of the shown pair's speed."""
    return plots.speed(pair.report, pair.recipe.component, compare.brief(pair.recipe, pair.recovery))


def measured(pair: Pair, repeats: int | None) -> Iterator[tuple[str, Pair | None]]:
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
