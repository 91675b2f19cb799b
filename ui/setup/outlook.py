"""What the setup asks for would do: the achieved line, the layers, what is greyed out. All of it without a pass."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.planning.preview import RATIOS, Table, Totals
from pruning.scores.scores import Curve
from pruning.types import Recipe
from pruning.units.unit import single
from ui import device
from ui.plots import cards, layers
from ui.plots import curve as curves
from ui.plots import importance as importance_plots
from ui.plots.markup import tag, text
from ui.setup import request as setup
from ui.widgets.alert import alert
from ui.widgets.events import Step

REMEMBERED = 50  # requests that Undo goes back through


@dataclass
class Seen:
    """What is known of a request: what it would do, what has to be looked at before that can be said, or why not."""

    reasons: Mapping[str, str | None] | None = None  # by kind of unit, why the component has none
    recipe: Recipe | None = None
    curve: Curve | None = None
    outlook: device.Outlook | None = None
    wanted: Recipe | None = None
    problem: str = ""


def seen(source: str, request: Mapping[str, Any]) -> Seen:
    """All that can be said of a request at once."""
    found = Seen()
    try:
        found.reasons = device.obstacles(source, request["component"])
        found.recipe = device.recipe(source, **request)
        found.curve = device.curve(found.recipe)
        if device.quick(found.recipe):
            found.outlook = device.outlook(found.recipe)
        else:
            found.wanted = device.needed(found.recipe)
    except Refused as error:
        found.problem = alert(error)
    return found


@dataclass
class Board:
    """The components that show what the setup asks for would do, whatever tab they stand in."""

    asked: setup.Setup
    picked: gr.State
    layers: gr.HTML
    rows: gr.HTML
    stale: gr.HTML
    curve: gr.Plot
    heard: gr.HTML

    @property
    def step(self) -> Step:
        """What follows a change in the setup."""
        asked = self.asked
        return Step(self.refreshed, [asked.trail, asked.sent, self.picked, *asked.inputs], [
            asked.achieved, asked.problem, self.layers, self.rows, self.stale, asked.family, asked.inner, asked.method,
            asked.explained, asked.pattern, asked.share, asked.spread, asked.seed, asked.looks, asked.update,
            asked.widths, self.curve, self.heard, *asked.groups.values(), asked.trail, asked.sent, asked.undo,
            asked.wanted, asked.again])

    def refreshed(self, trail: tuple[Recipe | None, ...], sent: Recipe | None, picked: str, *read: Any) -> list[Any]:
        """What a change in the setup shows."""
        source, request = self.asked.asked(read)
        found = seen(source, request)
        last = found.recipe if found.outlook else None
        trail = trail if trail[-1:] == (last,) else (*trail, last)[-REMEMBERED:]
        return [*figures(found, sent, picked), *offered(request, found.reasons), *listened(found.curve),
                *(gr.Group(visible=owner == request["method"]) for owner in self.asked.groups),
                trail, apart(last), gr.Button(interactive=len(trail) > 1), found.wanted,
                gr.skip() if found.wanted else gr.Button(visible=False)]


def apart(recipe: Recipe | None) -> Recipe | None:
    """A recipe without its ratio: what a table in the browser is about."""
    return recipe and replace(recipe, ratio=0.0)


def figures(found: Seen, sent: Recipe | None, picked: str) -> list[Any]:
    """The achieved line, its problem, both lists of layers, and the plan that is asked for now."""
    outlook, recipe = found.outlook, found.recipe
    if outlook is None or recipe is None:  # figures of another request would mislead
        return ["", found.problem, layers.layers(()), importance_plots.importance(()), gr.HTML(plan="")]
    bars, plan = cards.achieved(recipe.ratio, achieved(outlook.totals), outlook.notes), gr.HTML(plan=recipe.digest)
    if apart(recipe) == sent and recipe.units == "weight":  # only shares changed: the browser paints them
        now = json.dumps([row.gone / row.units for row in outlook.layers])
        return [gr.HTML(value=bars, now=now), "", gr.skip(), gr.skip(), plan]
    of = "" if recipe.pattern else table(device.table(recipe), [row.name for row in outlook.layers])
    rows = importance_plots.importance(outlook.layers, picked, cut=not recipe.pattern, unsure=outlook.unsure)
    return [gr.HTML(value=bars, now="", table=of), "", layers.layers(outlook.layers, picked), rows, plan]


def offered(request: Mapping[str, Any], reasons: Mapping[str, str | None] | None) -> list[Any]:
    """The controls that a request shows, and what of them is greyed out."""
    units, blind = request["units"], reasons or {}
    width, nm = not single(units), units == "nm"
    kinds: list[Any] = [gr.skip()] * 3 if reasons is None else [
        gr.HTML(options=setup.family_options(blind)), gr.HTML(options=setup.inner_options(blind), visible=width),
        gr.HTML(options=setup.method_options(units, blind))]
    return [*kinds, f'<p class="hint">{setup.EXPLAINED[units]}</p>',
            gr.HTML(options=setup.PATTERN_OPTIONS, visible=nm), gr.Group(visible=not nm),
            gr.HTML(options=setup.spread_options(units, blind), visible=not nm),
            gr.Number(visible=setup.seeded(request["method"])), gr.Group(visible=setup.looks_at_data(request)),
            gr.Checkbox(visible=not width), gr.Group(visible=width)]


def listened(curve: Curve | None) -> list[Any]:
    """Which timesteps a method listens to, as a figure and in words; nothing for methods that do not choose."""
    if curve is None:
        return [gr.Plot(visible=False), gr.HTML(visible=False)]
    words = tag("h2", "Which timesteps it listens to") + tag("p", text(curves.in_words(curve)), class_="hint")
    return [gr.Plot(curves.curve(curve), visible=True), gr.HTML(words, visible=True)]


def table(of: Table, sites: list[str]) -> str:
    """What the achieved line interpolates while the slider is dragged, as JSON."""
    rows = [achieved(row) if row else [] for row in of.totals]
    named = [{name: round(share, 4) for name, share, _ in row} for row in rows]
    names = dict.fromkeys(name for row in named for name in row)
    shares = [row and [round(share, 4) for share in row] for row in of.shares]
    return json.dumps({"ratios": RATIOS, "totals": {name: [row.get(name) for row in named] for name in names},
                       "sites": sites, "shares": shares}, separators=(",", ":"))


def achieved(seen: Totals) -> list[tuple[str, float, str]]:
    """The bars under the ratio. What only becomes zero is not called gone."""
    rows = [("units", seen.units, "of all units that may go")]
    if seen.zero_macs is not None or seen.zeros:
        rows.append(("zeros", seen.zeros, "of the component's parameters are zero and stay where they are"))
        if seen.zero_macs is not None:
            rows.append(("idle MACs", seen.zero_macs, "of the multiplications are by zero, and still done"))
    rows.append(("params", seen.params, "of the component's parameters are gone"))
    if seen.macs is not None:
        rows.append(("MACs", seen.macs, "of one pass are gone, attention included"))
    return [*rows, ("disk", seen.params, "of the component's bytes as saved")]
