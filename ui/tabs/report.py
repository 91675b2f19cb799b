"""Report: what made the shown pair, as JSON, Python, commands and a link, and the card to put on a slide."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import gradio as gr

from pruning.errors import Refused
from ui import links, replay
from ui.js import script
from ui.plots import card as cards
from ui.plots.markup import picture, png, tag, text
from ui.setup.shell import Shell
from ui.state import History, Pair
from ui.views import pairs
from ui.widgets.events import Step


@dataclass
class Report:
    """The components of the tab."""

    shell: Shell
    card: gr.HTML
    texts: gr.HTML

    @property
    def fill(self) -> Step:
        """What follows when another pair is shown, or another tab."""
        return Step(filled, [self.shell.tab, self.shell.history], [self.card, self.texts])


def filled(tab: str, history: History) -> tuple[Any, Any]:
    """The report of the shown pair, made when somebody looks at it."""
    if tab != "report":
        return gr.skip(), gr.skip()
    return card(history.shown), texts(history.shown)


def build(shell: Shell) -> Report:
    """The tab: filled when it is opened."""
    card = gr.HTML("", elem_id="card")
    return Report(shell, card, gr.HTML("", js_on_load=script("copy"), elem_id="texts"))


def texts(pair: Pair) -> str:
    """The ways to have the shown pair again."""
    exact = pair.exact or pair.recipe
    record = json.dumps(replay.record(exact, pair.shot, pair.report, pair.quality, {"drawn_on": pair.machine},
                                      pair.recovery), indent=1)
    try:
        command = replay.command(exact, pair.shot, pair.recovery)
    except Refused as error:
        command = f"# {error}"
    rows = [("Python", "pair.py", replay.python(exact, pair.shot, pair.recovery), "a script on the public functions"),
            ("Command line", "pair.sh", command, "the same without a page"),
            ("Link", "pair.txt", "?" + links.query(pair.recipe, pair.shot), "behind the address of this page"),
            ("JSON", "pair.json", record, "recipe, shot, report, quality, versions of this installation")]
    parts = []
    for name, file, body, what in rows:
        href = f"data:text/plain;charset=utf-8,{quote(body)}"
        parts.append(tag(
            "section", tag("h3", name), tag("span", what, class_="hint"),
            tag("button", "Copy", type="button", class_="copy", aria_label=f"Copy the {name} text"),
            tag("a", "Save", href=href, download=file), tag("pre", text(body), tabindex="0"), class_="text"))
    return tag("div", *parts, class_="texts")


def card(pair: Pair) -> str:
    """The card as a picture, and a link that saves it."""
    verdict, prompt = pairs.said(pair), pairs.described(pair.shot)
    made = f"{pairs.brief(pair.recipe, pair.recovery)} · {prompt} · seed {pair.shot.seed} · {pair.shot.steps} steps"
    where = pair.machine if pair.measured else f"{pair.machine}; speed not measured"
    drawn = cards.card([picture(src) for src in pair.dense.pictures], [picture(src) for src in pair.pruned.pictures],
                       verdict, [(row.label, row.dense, row.pruned) for row in pairs.figures(pair)], made, where)
    href = png(drawn, level=6)
    return tag("figure", f'<img src="{href}" alt="Card: dense and pruned pictures of {text(prompt)}. '
               f'{text(verdict)}">',
               tag("figcaption", tag("a", "Save the card (PNG, 1600 × 900)", href=href,
                                     download="prunescope-card.png")), class_="slide")
