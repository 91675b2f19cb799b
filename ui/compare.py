"""Compare: the prompt, the pair with its clocks, the cards."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import randrange
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.models.sources import BUNDLED, bars, vocabulary
from pruning.network.subject import DENOISERS, LABELS
from pruning.recovery import Recovery
from pruning.reports.verdict import headline, sentence
from pruning.types import Recipe, Shot
from pruning.units.unit import plural
from ui import clicks, drawing, limits, words
from ui.address import MOST
from ui.controls import choice, option
from ui.pairs import History, Pair
from ui.plots import cards as card_plots
from ui.plots import pair as pair_plots
from ui.plots.markup import tag, text

EXAMPLES = ("red heart on a blue background", "cat face on a pink background", "pizza on a teal background",
            "panda on a red background", "smiling face with sunglasses on a white background")
SAMPLERS = (("ddim", "DDIM"), ("dpm++", "DPM-Solver++"), ("euler", "Euler"), ("unipc", "UniPC"))
PREPARED = Path(__file__).resolve().parent.parent / "assets" / "prepared" / "pair.json"


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
    verdict: gr.HTML
    offer: gr.Button
    timing: gr.HTML
    stale: gr.HTML
    stage: gr.HTML
    cards: gr.HTML
    steps: gr.Slider
    guidance: gr.Slider
    sampler: gr.HTML
    images: gr.Slider
    negative: gr.Textbox
    earlier: gr.HTML
    history: gr.State
    drawing: gr.State
    prompted: gr.State  # whether the model in use takes a prompt

    @property
    def inputs(self) -> list[Any]:
        """The components that a shot is read from, in the order in which ``shot`` takes their values."""
        return [self.prompt, self.negative, self.seed, self.steps, self.guidance, self.sampler, self.images]

    @property
    def telling(self) -> list[Any]:
        """The components that say what to draw, in the order of ``told_what``."""
        return [self.prompt, self.chips, self.guidance, self.negative, self.prompted]

    @property
    def finished(self) -> list[Any]:
        """The components that show a finished pair, in the order of ``shown``."""
        return [self.stage, self.cards, self.verdict, self.offer, self.earlier, self.stale]


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


def shown(history: History) -> list[Any]:
    """The pair that the history stands at, for ``Compare.finished``."""
    pair = history.shown
    return [stage(pair), card_plots.cards(figures(pair)), told(pair),
            gr.Button(visible=pair.measured is None), strip(history),
            gr.HTML(pair=pair.recipe.digest)]


def told_what(prompted: bool) -> list[Any]:
    """For ``Compare.telling``: what a model that takes no prompt is not told is out of sight, and stays as it was."""
    return [gr.Textbox(visible=prompted), gr.HTML(visible=prompted), gr.Slider(visible=prompted),
            gr.Textbox(visible=prompted), prompted]


def restored(wanted: Shot) -> list[Any]:
    """Values for ``Compare.inputs`` that ask for a shot again."""
    return [wanted.prompts[0], wanted.negative, wanted.seed, wanted.steps, wanted.guidance, wanted.sampler,
            wanted.images]


def build_prompt() -> dict[str, Any]:
    """The row one types in, above the tabs."""
    with gr.Row(elem_id="ask", equal_height=False):
        prompt = gr.Textbox(EXAMPLES[0], label="Prompt", elem_id="prompt", scale=6, min_width=260, max_lines=2,
                            max_length=limits.PROMPT, submit_btn=False)
        seed = gr.Number(7, label="Seed", precision=0, elem_id="seed", scale=1, min_width=90)
        with gr.Column(scale=1, min_width=180, elem_id="go"):
            generate = gr.Button("Generate", variant="primary", elem_id="generate")
            with gr.Row():
                dice = gr.Button("New seed", size="sm", elem_id="dice", min_width=60)
                stop = gr.Button("Stop", variant="stop", size="sm", interactive=False, elem_id="stop", min_width=60)
    chips = gr.HTML(examples(), js_on_load=clicks.SAY, elem_id="chips")
    unknown = gr.HTML("", js_on_load=clicks.SAY, elem_id="unknown", elem_classes="unknown")
    problem = gr.HTML("", elem_classes="problem", elem_id="problem")
    with gr.Row(elem_id="told"):
        verdict = gr.HTML(told(prepared()), elem_id="verdict")
        offer = gr.Button("Measure speed", size="sm", elem_id="offer", scale=0, min_width=140)
    timing = gr.HTML("", elem_id="timing", elem_classes="problem")
    return {"prompt": prompt, "seed": seed, "generate": generate, "dice": dice, "stop": stop, "chips": chips,
            "unknown": unknown, "problem": problem, "verdict": verdict, "offer": offer, "timing": timing}


def build(asked: dict[str, Any]) -> Compare:
    """The tab itself."""
    first, usual = prepared(), bars(BUNDLED[0])
    plan = first.recipe.digest
    stale = gr.HTML("", html_template=clicks.STALE_TEMPLATE, plan=plan, pair=plan, elem_id="stale",
                    elem_classes="stale")
    staged = gr.HTML(stage(first), js_on_load=clicks.STAGE, elem_id="stage")
    counted = gr.HTML(card_plots.cards(figures(first)), elem_id="cards")
    earlier = gr.HTML("", js_on_load=clicks.SAY, elem_id="history", elem_classes="earlier")
    with gr.Accordion("Drawing: steps, guidance, sampler, images", open=False, elem_id="drawing"):
        with gr.Row():
            steps = gr.Slider(1, MOST["steps"], usual.get("steps", 20), step=1, label="Steps", elem_id="steps")
            guidance = gr.Slider(1, MOST["guidance"], usual.get("guidance", 3), step=0.5, label="Guidance",
                              elem_id="guidance")
            images = gr.Slider(1, MOST["images"], 1, step=1, label="Images a side", elem_id="images")
        sampler = choice("Sampler", [option(*row) for row in SAMPLERS], usual.get("sampler", "ddim"), look="tabs",
                         elem_id="sampler")
        negative = gr.Textbox("", label="Negative prompt", elem_id="negative", max_lines=2, max_length=limits.PROMPT,
                              info="What the pictures should not show. It works when guidance is above 1.")
    return Compare(**asked, stale=stale, stage=staged, cards=counted, earlier=earlier, steps=steps, guidance=guidance,
                   sampler=sampler, images=images, negative=negative, history=gr.State(History((first,))),
                   drawing=gr.State(False), prompted=gr.State(True))


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


def prepared() -> Pair:
    """The first paint: a pair made beforehand by the repo's own script, labelled as such."""
    return Pair.from_dict(json.loads(PREPARED.read_text(encoding="utf-8")))


def stage(pair: Pair) -> str:
    """A finished pair."""
    return pair_plots.stage(pair.dense, pair.pruned, pair.differences, pair.film, pair.quality["steps"],
                            note=pair.note, described=described(pair.shot), prefers=prefers(pair))


def described(shot: Shot) -> str:
    """What the pictures should show."""
    return shot.prompts[0] or "no prompt"


def prefers(pair: Pair) -> str:
    """The side that emoji-clip finds nearer to the prompt; nothing when it cannot tell."""
    alignment = pair.quality["alignment"]
    if alignment is None or alignment[0] == alignment[1]:
        return ""
    return "dense" if alignment[0] > alignment[1] else "pruned"


def figures(pair: Pair) -> list[card_plots.Figure]:
    """A finished pair's figures."""
    return list(card_plots.figures(pair.report, pair.quality, (pair.dense.ms, pair.pruned.ms), pair.recipe.component,
                                   "prepared" if pair.note else "live"))


def said(pair: Pair) -> str:
    """A finished pair in a sentence."""
    return headline(pair.report, pair.quality, pair.recipe.component, pair.recipe.pattern)


def told(pair: Pair) -> str:
    """The verdict, and what there is to say of the prompt; screen readers hear it when it changes."""
    verdict = sentence(pair.report, pair.quality, pair.recipe.component, pair.recipe.pattern)
    return tag("p", text(" ".join([verdict, *pair.notes])), role="status")


def running(frame: drawing.Frame, shot: Shot) -> str:
    """A pair while it is drawn."""
    left = (frame.dense.ms + frame.pruned.ms) / 1000 * (frame.dense.steps - frame.dense.step)
    note = (f"Drawing both in turn, step {frame.dense.step} of {frame.dense.steps}, about {left:.0f} s left."
            if frame.dense.step < frame.dense.steps else "Decoding and comparing both.")
    return pair_plots.running(frame.dense, frame.pruned, note, described(shot))


def strip(history: History) -> str:
    """The pairs of this tab, newest first, one click each."""
    if len(history.pairs) < 2:
        return ""
    rows = [tag("button", f'<img src="{pair.thumb or pair.pruned.pictures[0]}" alt="">',
                tag("span", text(brief(pair.recipe, pair.recovery)), class_="what"),
                tag("span", text(described(pair.shot)), class_="sub"), type="button", data_say=i,
                aria_pressed=str(i == history.at).lower(),
                aria_label=f"Back to {brief(pair.recipe, pair.recovery)}, {described(pair.shot)}, "
                           f"seed {pair.shot.seed}")
            for i, pair in enumerate(history.pairs)]
    return tag("div", tag("span", "Earlier in this tab", class_="lead"), tag("div", *rows, class_="row"),
               class_="history", role="group", aria_label="Pairs drawn in this tab, newest first")


def brief(recipe: Recipe, recovery: Recovery | None = None) -> str:
    """A recipe in a few words, and whether what stays was trained."""
    what = recipe.pattern or f"{plural(recipe.units)} −{recipe.ratio * 100:.0f} %"
    trained = f", fine-tuned {recovery.steps} steps" if recovery else ""
    where = "" if recipe.component in DENOISERS else f", {LABELS.get(recipe.component, '').removeprefix('The ')}"
    return f"{recipe.method}, {what}{', adjusted' if recipe.update else ''}{trained}{where}"


def new_seed() -> int:
    """Another seed."""
    return randrange(1, 100_000)
