"""The row above the tabs: what to draw, Generate and Stop. How it is drawn is asked in Compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import randrange
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.models.sources import BUNDLED, bars, vocabulary
from pruning.types import Shot
from ui import limits
from ui.door import heard
from ui.js import script
from ui.links import MOST
from ui.plots.markup import tag, text
from ui.views import words
from ui.widgets.choice import choice, option
from ui.widgets.events import NEWEST, VIEW, After
from ui.widgets.places import Places

EXAMPLES = ("red heart on a blue background", "cat face on a pink background", "pizza on a teal background",
            "panda on a red background", "smiling face with sunglasses on a white background")
SAMPLERS = (("ddim", "DDIM"), ("dpm++", "DPM-Solver++"), ("euler", "Euler"), ("unipc", "UniPC"))


@dataclass
class Row:
    """The components of the row, and those of how to draw; the latter are rendered where they stand."""

    prompt: gr.Textbox
    seed: gr.Number
    generate: gr.Button
    dice: gr.Button
    stop: gr.Button
    chips: gr.HTML
    unknown: gr.HTML
    problem: gr.HTML
    timing: gr.HTML
    prompted: gr.State  # whether the model in use takes a prompt
    steps: gr.Slider
    guidance: gr.Slider
    images: gr.Slider
    sampler: gr.HTML
    negative: gr.Textbox

    @property
    def inputs(self) -> list[Any]:
        """The components that a shot is read from, in the order in which ``shot`` takes their values."""
        return [self.prompt, self.negative, self.seed, self.steps, self.guidance, self.sampler, self.images]

    @property
    def telling(self) -> list[Any]:
        """The components that say what to draw, in the order of ``told_what``."""
        return [self.prompt, self.chips, self.guidance, self.negative, self.prompted]

    def wire(self, after: After) -> None:
        """What is typed and chosen here."""
        self.dice.click(new_seed, None, self.seed, **VIEW)
        for chips in (self.chips, self.unknown):
            chips.select(said, None, self.prompt, **VIEW)
        self.prompt.change(*after.help, **NEWEST)
        gr.on([control.input if control is self.sampler else control.change for control in self.inputs],
              *after.address, **NEWEST)


def shot(values: Sequence[Any]) -> Shot:
    """The shot of the components' values."""
    prompt, negative, seed, steps, guidance, sampler, images = values
    for name, value in (("steps", steps), ("images", images), ("guidance", guidance)):
        if value is None:
            raise Refused(f"{name} is empty.", "Drag its slider or type a number.")
        if not 1 <= value <= MOST[name]:
            raise Refused(f"{name} cannot be {value} on the page.", f"It runs from 1 to {MOST[name]}.")
    for said, what in ((prompt, "The prompt"), (negative, "The negative prompt")):
        limits.prompt(said or "", what)
    return Shot(prompt or "", negative or "", int(seed or 0), int(steps), float(guidance), sampler, int(images))


def restored(wanted: Shot) -> list[Any]:
    """Values for ``Row.inputs`` that ask for a shot again."""
    return [wanted.prompts[0], wanted.negative, wanted.seed, wanted.steps, wanted.guidance, wanted.sampler,
            wanted.images]


def told_what(prompted: bool) -> list[Any]:
    """For ``Row.telling``: what a model that takes no prompt is not told is out of sight, and stays as it was."""
    return [gr.Textbox(visible=prompted), gr.HTML(visible=prompted), gr.Slider(visible=prompted),
            gr.Textbox(visible=prompted), prompted]


def build(places: Places) -> Row:
    """The row, and under it what there is to say of the shown pair."""
    with gr.Row(elem_id="ask", equal_height=False):
        prompt = gr.Textbox(EXAMPLES[0], label="Prompt", elem_id="prompt", scale=6, min_width=260, max_lines=2,
                            max_length=limits.PROMPT, submit_btn=False)
        seed = gr.Number(7, label="Seed", precision=0, elem_id="seed", scale=1, min_width=90)
        with gr.Column(scale=1, min_width=180, elem_id="go"):
            generate = gr.Button("Generate", variant="primary", elem_id="generate")
            with gr.Row():
                dice = gr.Button("New seed", size="sm", elem_id="dice", min_width=60)
                stop = gr.Button("Stop", variant="stop", size="sm", interactive=False, elem_id="stop", min_width=60)
    chips = gr.HTML(examples(), js_on_load=script("say"), elem_id="chips")
    unknown = gr.HTML("", js_on_load=script("say"), elem_id="unknown", elem_classes="unknown")
    problem = gr.HTML("", elem_classes="problem", elem_id="problem")
    with gr.Row(elem_id="told"):
        places.verdict.render()
        places.offer.render()
    timing = gr.HTML("", elem_id="timing", elem_classes="problem")
    return Row(prompt, seed, generate, dice, stop, chips, unknown, problem, timing, gr.State(True), *how())


def how() -> tuple[gr.Slider, gr.Slider, gr.Slider, gr.HTML, gr.Textbox]:
    """The controls of how to draw: steps, guidance, images, sampler, negative prompt."""
    usual = bars(BUNDLED[0])
    return (
        gr.Slider(1, MOST["steps"], usual.get("steps", 20), step=1, label="Steps", elem_id="steps", render=False),
        gr.Slider(1, MOST["guidance"], usual.get("guidance", 3), step=0.5, label="Guidance", elem_id="guidance",
                  render=False),
        gr.Slider(1, MOST["images"], 1, step=1, label="Images a side", elem_id="images", render=False),
        choice("Sampler", [option(*row) for row in SAMPLERS], usual.get("sampler", "ddim"), look="tabs",
               elem_id="sampler", render=False),
        gr.Textbox("", label="Negative prompt", elem_id="negative", max_lines=2, max_length=limits.PROMPT,
                   info="What the pictures should not show. It works when guidance is above 1.", render=False))


def examples() -> str:
    """Prompts to begin with, one click each."""
    brief = {prompt: prompt.removesuffix(" background").replace(" on a ", ", ") for prompt in EXAMPLES}
    return tag("div", tag("span", "Try", class_="lead"),
               *(tag("button", text(words), type="button", data_say=prompt) for prompt, words in brief.items()),
               class_="chips")


def help_with(prompt: str, source: str, prompted: bool = True) -> str:
    """The words that a bundled model does not know, with the nearest names that it can draw, one click each."""
    listed = vocabulary(source) if prompted else []
    strange = words.unknown(prompt or "", listed) if listed else []
    rows = []
    for word in strange[:4]:
        names = [tag("button", text(name), type="button", data_say=words.replaced(prompt, word, name))
                 for name in words.nearest(word, listed)]
        rows.append(tag("div", tag("span", "This model never saw ", tag("mark", text(word)), ". It can draw",
                                   class_="lead"), *names, class_="chips"))
    return "".join(rows)


def new_seed() -> int:
    """Another seed."""
    return randrange(1, 100_000)


def said(event: gr.EventData) -> str:
    """What a chip says."""
    return heard(event, "said")
