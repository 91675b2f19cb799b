"""Recover: what stays is trained, so that the damage goes away. A live curve, and pictures before and after."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.progress import Looked
from pruning.recovery import Event, Held, Recovery, Trained
from pruning.types import Recipe, Shot
from ui.js import script
from ui.plots.markup import tag, text
from ui.plots.training import training
from ui.setup.shell import Shell
from ui.state import History, Pair
from ui.views import drawing, pairs, tuned
from ui.views.drawing import Frame
from ui.widgets.alert import alert, hint, known
from ui.widgets.events import VIEW, After
from ui.widgets.places import shown
from ui.widgets.progress import EVERY, noted

MOST = {"steps": 2000, "batch": 64}  # of a page; a public one allows fewer, see ``device``
ABOUT = ("Pruning breaks what it does not remove: layers meet inputs that they never saw. Fine-tuning trains what "
         "stays for a while, with the plain denoising loss. Sizes, speed and zeros stay as they are; only values "
         "change. A stopped training goes on where it was.")


@dataclass
class Recover:
    """The components of the tab."""

    shell: Shell
    steps: gr.Slider
    batch: gr.Slider
    rate: gr.Number
    half: gr.Checkbox
    train: gr.Button
    stop: gr.Button
    progress: gr.HTML
    curve: gr.HTML
    pictures: gr.HTML
    use: gr.Checkbox
    busy: gr.State

    @property
    def inputs(self) -> list[Any]:
        """The components that options are read from, in the order in which ``options`` takes their values."""
        return [self.steps, self.batch, self.rate, self.half]

    def wire(self, after: After) -> None:
        """What stays is trained, in a queue of its own: others draw between its steps."""
        shell, asked = self.shell, self.shell.asked
        self.train.click(None, None, [self.stop, self.progress], js=script("wait"), **VIEW)
        running = self.train.click(
            self.recovered, [shell.history, *self.inputs, *shell.inputs],
            [self.progress, self.curve, self.pictures, self.use, shell.history, self.busy],
            concurrency_id="train", concurrency_limit=1, show_progress="hidden", api_name="recover")
        self.stop.click(None, None, cancels=[running], **VIEW)
        after.shown(running.then(self.rested, [shell.history, self.busy, *self.inputs, *asked.inputs],
                                 [*shell.places.all, self.stop, self.progress, self.busy], **VIEW))

    def recovered(self, history: History, *values: Any) -> Iterator[list[Any]]:
        """The training as it goes: pictures before, the curve, pictures after."""
        own = len(self.inputs)
        try:
            wanted = options(values[:own])
            for seen in trained(history, *self.shell.wanted(values[own:]), wanted):
                history = seen[-2]
                yield seen
        except Exception as error:
            told = known(error)
            yield [alert(told or ""), gr.skip(), gr.skip(), gr.skip(), history, False]
            if not told:  # a fault of ours is shown as one
                raise
            return
        yield ["", gr.skip(), gr.skip(), gr.Checkbox(True, visible=True), history, False]

    def rested(self, history: History, busy: bool, *values: Any) -> list[Any]:
        """Training has ended: done, refused, or stopped, which is said with how far it came."""
        off = gr.Button(interactive=False)
        if not busy:
            return [*shown(history), off, gr.skip(), False]
        own = len(self.inputs)
        try:
            state = tuned.reached(self.shell.asked.recipe(values[own:]), options(values[:own]))
        except Refused:  # the setup has changed meanwhile
            state = None
        note = f"Stopped after {state.step} steps; Fine-tune goes on from there." if state else "Stopped."
        return [*shown(history), off, hint(note), False]


def build(shell: Shell) -> Recover:
    """The tab."""
    gr.HTML(tag("p", text(ABOUT), class_="hint"), elem_id="about-recover")
    with gr.Row(elem_id="how-to-train"):
        steps = gr.Slider(10, MOST["steps"], Recovery.steps, step=10, label="Steps", elem_id="train-steps")
        batch = gr.Slider(1, MOST["batch"], 16, step=1, label="Batch", elem_id="train-batch",
                       info="Samples in each step; Diff-Pruning has 128.")
        rate = gr.Number(Recovery.rate, label="Learning rate", elem_id="train-rate", min_width=120)
    half = gr.Checkbox(False, label="Multiply in bfloat16", elem_id="train-half",
                       info="Faster on processors with matrix units for it; weights stay float32.")
    with gr.Row():
        train = gr.Button("Fine-tune", variant="primary", elem_id="train", scale=0, min_width=140)
        stop = gr.Button("Stop", variant="stop", elem_id="stop-train", interactive=False, scale=0, min_width=90)
    progress = gr.HTML("", elem_id="training", elem_classes="problem")
    curve = gr.HTML("", elem_id="train-curve")
    pictures = gr.HTML("", elem_id="before-after")
    use = gr.Checkbox(True, label="Draw with the fine-tuned weights", elem_id="use-trained", visible=False,
                      info="For as long as the setup asks for what was fine-tuned.")
    return Recover(shell, steps, batch, rate, half, train, stop, progress, curve, pictures, use, gr.State(False))


def options(values: Sequence[Any]) -> Recovery:
    """The options of the components' values.

    Raises:
        Refused: one is missing or cannot be.
    """
    named = dict(zip(("steps", "batch", "rate", "half"), values, strict=True))
    for name, value in named.items():
        if value is None:
            raise Refused(f"{name} is empty.", "Drag its slider or type a number.")
        if name in MOST and value > MOST[name]:
            raise Refused(f"{name} cannot be {value} on the page.", f"It runs up to {MOST[name]}.")
    return Recovery(**named)


def trained(history: History, recipe: Recipe, shot: Shot, wanted: Recovery) -> Iterator[list[Any]]:
    """What a training shows, step by step."""
    live = Live()
    if state := tuned.reached(recipe, wanted):  # the curve of a training that goes on begins where it began
        live.losses += state.losses
    for event in drawing.recovered(recipe, shot, wanted, history.pairs):
        if isinstance(event, Pair):
            history = history if event in history.pairs else history.added(event)
            live.pairs.append(event)
            yield [gr.skip(), live.curve(wanted.steps), before_after(live.pairs), gr.skip(), history, True]
        elif note := live.noted(event, wanted.steps):
            yield [note, live.curve(wanted.steps), gr.skip(), gr.skip(), history, True]


class Live:
    """What a training has shown so far."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.held: list[Held] = []
        self.pairs: list[Pair] = []
        self._last = 0.0

    def noted(self, event: Event | Frame, of: int) -> str:
        """How far it is, in words; nothing where that was said just now."""
        match event:
            case Held():
                self.held.append(event)
                return "" if len(self.held) == 1 else tag("p", "Drawing with the fine-tuned model.", class_="note")
            case Trained():
                self.losses.append(event.loss)
                note = noted(Looked(event.step, of, "training"), after=f", about {event.left:.0f} s left")
            case Looked():
                note = noted(event)
            case Frame():
                note = noted(Looked(event.pruned.step, event.pruned.steps, "drawing both"))
        now = perf_counter()
        if now - self._last < EVERY:
            return ""
        self._last = now
        return note

    def curve(self, of: int) -> str:
        """The curve as far as it has come."""
        first = self.held[0] if self.held else None
        after = self.held[-1].error if len(self.held) > 1 else None
        return training(self.losses, of, first.error if first else None, after, first.dense if first else None)


def before_after(drawn: Sequence[Pair]) -> str:
    """The same noise drawn by the dense model, the pruned one, and once it is there the fine-tuned one."""
    before, what = drawn[0], pairs.described(drawn[0].shot)
    rows = [("Dense", "", "dense", before.dense.pictures)]
    for name, pair in zip(("Pruned", "Pruned and fine-tuned"), drawn, strict=False):
        rows.append((name, f"SSIM to dense {pair.quality['ssim']:.3g}", "pruned", pair.pruned.pictures))
    figures = [tag("figure", *(f'<img src="{src}" alt="{name}: {text(what)}">' for src in pictures),
                   tag("figcaption", tag("b", name), tag("span", far, class_="sub")), class_=f"side {side}")
               for name, far, side, pictures in rows]
    told = drawn[-1].report.get("recovered")
    said = tag("p", text(told["said"]), class_="hint") if told else ""
    return tag("div", tag("div", *figures, class_="three"), said, class_="before-after")
