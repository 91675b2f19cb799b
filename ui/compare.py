"""Compare: the prompt, the pair with its clocks, the cards."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import randrange
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.models import BUNDLED, bars, vocabulary
from pruning.types import Recipe, Shot
from ui import clicks, device, words
from ui.controls import choice, option, slider
from ui.plots import cards as card_plots
from ui.plots import pair as pair_plots
from ui.plots.markup import tag, text

EXAMPLES = ("red heart on a blue background", "cat face on a pink background", "pizza on a teal background",
            "panda on a red background", "smiling face with sunglasses on a white background")
SAMPLERS = (("ddim", "DDIM"), ("dpm++", "DPM-Solver++"), ("euler", "Euler"), ("unipc", "UniPC"))
PREPARED = Path(__file__).resolve().parent.parent / "assets" / "prepared" / "pair.json"
MOST = {"steps": 50, "guidance": 10, "images": 4}


@dataclass
class Compare:
    """The components of the tab, and how their values become a shot."""

    prompt: gr.Textbox
    chips: gr.HTML
    unknown: gr.HTML
    seed: gr.Number
    dice: gr.Button
    generate: gr.Button
    stop: gr.Button
    problem: gr.HTML
    stale: gr.HTML
    stage: gr.HTML
    cards: gr.HTML
    steps: gr.Slider
    guidance: gr.Slider
    sampler: gr.HTML
    images: gr.Slider
    negative: gr.Textbox
    shown: gr.State
    drawing: gr.State

    @property
    def inputs(self) -> list[Any]:
        """The components that a shot is read from, in the order in which ``shot`` takes their values."""
        return [self.prompt, self.negative, self.seed, self.steps, self.guidance, self.sampler, self.images]


def shot(values: Sequence[Any]) -> Shot:
    """The shot of the components' values."""
    prompt, negative, seed, steps, guidance, sampler, images = values
    for name, value in (("steps", steps), ("images", images), ("guidance", guidance)):
        if value is None:
            raise Refused(f"{name} is empty.", "Drag its slider or type a number.")
        if not 1 <= value <= MOST[name]:
            raise Refused(f"{name} cannot be {value} on the page.", f"It runs from 1 to {MOST[name]}.")
    return Shot(prompt or "", negative or "", int(seed or 0), int(steps), float(guidance), sampler, int(images))


def build_prompt() -> dict[str, Any]:
    """The row one types in, above the tabs."""
    with gr.Row(elem_id="ask", equal_height=False):
        prompt = gr.Textbox(EXAMPLES[0], label="Prompt", elem_id="prompt", scale=6, min_width=260, max_lines=2,
                            submit_btn=False)
        seed = gr.Number(7, label="Seed", precision=0, elem_id="seed", scale=1, min_width=90)
        with gr.Column(scale=1, min_width=180, elem_id="go"):
            generate = gr.Button("Generate", variant="primary", elem_id="generate")
            with gr.Row():
                dice = gr.Button("New seed", size="sm", elem_id="dice", min_width=60)
                stop = gr.Button("Stop", variant="stop", size="sm", interactive=False, elem_id="stop", min_width=60)
    chips = gr.HTML(examples(), js_on_load=clicks.SAY, elem_id="chips")
    unknown = gr.HTML("", js_on_load=clicks.SAY, elem_id="unknown", elem_classes="unknown")
    problem = gr.HTML("", elem_classes="problem", elem_id="problem")
    return {"prompt": prompt, "seed": seed, "generate": generate, "dice": dice, "stop": stop, "chips": chips,
            "unknown": unknown, "problem": problem}


def build(asked: dict[str, Any]) -> Compare:
    """The tab itself."""
    first, usual = prepared(), bars(BUNDLED[0])
    stale = gr.HTML("", html_template=clicks.STALE_TEMPLATE, plan=first["plan"], pair=first["plan"], elem_id="stale",
                    elem_classes="stale")
    stage = gr.HTML(first["stage"], js_on_load=clicks.STAGE, elem_id="stage")
    cards = gr.HTML(first["cards"], elem_id="cards")
    with gr.Accordion("Drawing: steps, guidance, sampler, images", open=False):
        with gr.Row():
            steps = slider(1, MOST["steps"], usual.get("steps", 20), step=1, label="Steps", elem_id="steps")
            guidance = slider(1, MOST["guidance"], usual.get("guidance", 3), step=0.5, label="Guidance",
                              elem_id="guidance")
            images = slider(1, MOST["images"], 1, step=1, label="Images a side", elem_id="images")
        sampler = choice("Sampler", [option(*row) for row in SAMPLERS], usual.get("sampler", "ddim"), look="tabs",
                         elem_id="sampler")
        negative = gr.Textbox("", label="Negative prompt", elem_id="negative", max_lines=2,
                              info="What the pictures should not show. It works when guidance is above 1.")
    return Compare(**asked, stale=stale, stage=stage, cards=cards, steps=steps, guidance=guidance, sampler=sampler,
                   images=images, negative=negative, shown=gr.State(first), drawing=gr.State(False))


def examples() -> str:
    """Prompts to begin with, one click each."""
    brief = {prompt: prompt.removesuffix(" background").replace(" on a ", ", ") for prompt in EXAMPLES}
    return tag("div", tag("span", "Try", class_="lead"),
               *(tag("button", text(words), type="button", data_say=prompt) for prompt, words in brief.items()),
               class_="chips")


def help_with(prompt: str, source: str) -> str:
    """The words that a bundled model does not know, with the nearest names that it can draw, one click each."""
    listed = vocabulary(source)
    strange = words.unknown(prompt or "", listed) if listed else []
    rows = []
    for word in strange[:4]:
        names = [tag("button", text(name), type="button", data_say=words.replaced(prompt, word, name))
                 for name in words.nearest(word, listed)]
        rows.append(tag("div", tag("span", "This model never saw ", tag("mark", text(word)), ". It can draw",
                                   class_="lead"), *names, class_="chips"))
    return "".join(rows)


def prepared() -> dict[str, Any]:
    """The first paint: a pair made beforehand by the repo's own script, labelled as such."""
    kept = json.loads(PREPARED.read_text(encoding="utf-8"))
    dense, pruned = (pair_plots.Side(**{**kept[side], "pictures": tuple(kept[side]["pictures"])})
                     for side in ("dense", "pruned"))
    note = (f"Prepared: {kept['prompt']}, {kept['what']}, drawn on {kept['machine']} by “{kept['command']}”. "
            "Press Generate to run it on this machine.")
    return {"stage": pair_plots.stage(dense, pruned, differences=kept["differences"], note=note,
                                      described=kept["prompt"]),
            "cards": card_plots.cards(kept["report"], (dense.ms, pruned.ms), "prepared"),
            "plan": Recipe.from_dict(kept["recipe"]).digest}


def keep(frame: device.Frame) -> dict[str, Any]:
    """The last frame as plain values, for the prepared pair."""
    return {"dense": asdict(frame.dense), "pruned": asdict(frame.pruned), "differences": list(frame.differences),
            "report": frame.report}


def drawn(source: str, request: Mapping[str, Any], wanted: Shot) -> Iterator[tuple[str, str | None, dict | None]]:
    """(stage, cards, what to remember) as the pair is drawn; cards and memory come with the last."""
    recipe = device.recipe(source, **request)
    described = wanted.prompts[0] or "an empty prompt"
    for frame in device.pair(recipe, wanted):
        if not frame.done:
            left = (frame.dense.ms + frame.pruned.ms) / 1000 * (frame.dense.steps - frame.dense.step)
            note = f"Drawing both in turn, step {frame.dense.step} of {frame.dense.steps}, about {left:.0f} s left."
            yield pair_plots.stage(frame.dense, frame.pruned, live=True, note=note, described=described), None, None
            continue
        stage = pair_plots.stage(frame.dense, frame.pruned, differences=frame.differences, described=described)
        assert frame.report is not None  # the last frame has it
        cards = card_plots.cards(frame.report, (frame.dense.ms, frame.pruned.ms))
        yield stage, cards, {"stage": stage, "cards": cards, "plan": recipe.digest}


def new_seed() -> int:
    """Another seed."""
    return randrange(1, 100_000)
