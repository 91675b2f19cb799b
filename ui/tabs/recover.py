"""Recover: what stays is trained, so that the damage goes away. A live curve, and pictures before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.progress import Looked
from pruning.recovery import Event, Held, Recovery, Trained
from ui.plots.markup import tag, text
from ui.plots.training import training
from ui.state import Pair
from ui.tabs import compare
from ui.views.drawing import Frame
from ui.widgets.progress import EVERY, noted

MOST = {"steps": 2000, "batch": 64}  # of a page; a public one allows fewer, see ``device``
ABOUT = ("Pruning breaks what it does not remove: layers meet inputs that they never saw. Fine-tuning trains what "
         "stays for a while, with the plain denoising loss. Sizes, speed and zeros stay as they are; only values "
         "change. A stopped training goes on where it was.")


@dataclass
class Recover:
    """The components of the tab."""

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


def build() -> Recover:
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
    return Recover(steps, batch, rate, half, train, stop, progress, curve, pictures, use, gr.State(False))


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


def before_after(pairs: Sequence[Pair]) -> str:
    """The same noise drawn by the dense model, the pruned one, and once it is there the fine-tuned one."""
    before, what = pairs[0], compare.described(pairs[0].shot)
    rows = [("Dense", "", "dense", before.dense.pictures)]
    for name, pair in zip(("Pruned", "Pruned and fine-tuned"), pairs, strict=False):
        rows.append((name, f"SSIM to dense {pair.quality['ssim']:.3g}", "pruned", pair.pruned.pictures))
    figures = [tag("figure", *(f'<img src="{src}" alt="{name}: {text(what)}">' for src in pictures),
                   tag("figcaption", tag("b", name), tag("span", far, class_="sub")), class_=f"side {side}")
               for name, far, side, pictures in rows]
    told = pairs[-1].report.get("recovered")
    said = tag("p", text(told["said"]), class_="hint") if told else ""
    return tag("div", tag("div", *figures, class_="three"), said, class_="before-after")
