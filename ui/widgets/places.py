"""The components that show a finished pair, whatever tab they stand in."""

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from ui.js import script, template
from ui.plots import cards
from ui.state import History
from ui.views import pairs


@dataclass
class Places:
    """The places; each is rendered where it stands."""

    stage: gr.HTML
    cards: gr.HTML
    verdict: gr.HTML
    offer: gr.Button
    earlier: gr.HTML
    stale: gr.HTML
    panel: gr.HTML

    @property
    def all(self) -> list[Any]:
        """Every place, in the order of ``shown``."""
        return [getattr(self, field.name) for field in fields(self)]


def shown(history: History) -> list[Any]:
    """The pair that the history stands at, for ``Places.all``."""
    pair = history.shown
    return [pairs.stage(pair), cards.cards(pairs.figures(pair)), pairs.told(pair),
            gr.Button(visible=pair.measured is None), pairs.strip(history), gr.HTML(pair=pair.recipe.digest),
            pairs.panel(pair)]


def unchanged() -> list[Any]:
    """The pair that is shown stays, for ``Places.all``."""
    return [gr.skip()] * len(fields(Places))


def build() -> Places:
    """The places with the pair of the first paint."""
    first = pairs.prepared()
    plan = first.recipe.digest
    return Places(
        gr.HTML(pairs.stage(first), js_on_load=script("stage"), elem_id="stage", render=False),
        gr.HTML(cards.cards(pairs.figures(first)), elem_id="cards", render=False),
        gr.HTML(pairs.told(first), elem_id="verdict", render=False),
        gr.Button("Measure speed", size="sm", elem_id="offer", scale=0, min_width=140, render=False),
        gr.HTML("", js_on_load=script("say"), elem_id="history", elem_classes="earlier", render=False),
        # Two events fill in ``plan`` and ``pair``; whichever comes last, the mark is right.
        gr.HTML("", html_template=template("stale"), plan=plan, pair=plan, elem_id="stale", elem_classes="stale",
                render=False),
        gr.HTML(pairs.panel(first), elem_id="speed", render=False))
