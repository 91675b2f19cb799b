"""Setup: model, component, what kind of unit, which method, how much. Everything on the left of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any

import gradio as gr

from pruning import DEFAULT, methods
from pruning.criteria import METHODS
from pruning.errors import Refused
from pruning.models.sources import BUNDLED
from pruning.planning.request import sees, usual
from pruning.spreads import SPREADS
from pruning.spreads.granularity import MULTIPLES, ROUNDINGS
from pruning.types import Recipe
from pruning.units import UNITS
from pruning.units.unit import FAMILIES, single
from ui import device
from ui.js import script
from ui.links import PATTERNS
from ui.setup.model import choose_model, load_model, model_options
from ui.setup.samples import LOOKS, calibration, globs, looked_at
from ui.widgets import controls
from ui.widgets.choice import choice, option
from ui.widgets.events import NEWEST, VIEW, After

INNER = {kind: UNITS[kind].label for kind in sorted(UNITS.ordered(), key="width".__ne__)  # all of them first
         if UNITS[kind].family == "width"}
PATTERN_OPTIONS = [option(pattern, pattern) for pattern in PATTERNS]
OF_OPTIONS = [option("units", "Units"), option("params", "Params"), option("macs", "MACs")]
ROUNDING_LABELS = {"nearest": "Nearest", "paper": "Diff-Pruning", "newer": "Torch-Pruning"}
ROUNDING_OPTIONS = [option(name, ROUNDING_LABELS[name], words) for name, (words, _) in ROUNDINGS.items()]
MULTIPLE_OPTIONS = [option(str(n), "Any" if n == 1 else str(n)) for n in MULTIPLES]
EXPLAINED = {kind: UNITS[kind].explained for kind in UNITS.ordered()}


@dataclass
class Setup:
    """The components of the setup, and how their values become a request."""

    source: gr.State
    model: gr.HTML
    named: gr.Textbox
    load: gr.Button
    load_problem: gr.HTML
    other: gr.Group
    component: gr.HTML
    family: gr.HTML
    explained: gr.HTML
    inner: gr.HTML
    method: gr.HTML
    pattern: gr.HTML
    share: gr.Group
    ratio: gr.Slider
    spread: gr.HTML
    protect: gr.Textbox
    only: gr.Textbox
    seed: gr.Number
    of: gr.HTML
    most: gr.Slider
    update: gr.Checkbox
    widths: gr.Group
    rounding: gr.HTML
    multiple: gr.HTML
    own: gr.State  # ratios of single layers: (glob, ratio) pairs
    looks: gr.Group
    shown: dict[str, Any]  # what a method that sees data looks at, by the field of ``Calibration``
    groups: dict[str, gr.Group]
    options: dict[tuple[str, str], Any]
    achieved: gr.HTML
    problem: gr.HTML
    undo: gr.Button
    trail: gr.State  # recipes that were asked for, the newest last; None where the request could not be
    sent: gr.State  # the recipe whose table the browser has
    wanted: gr.State  # the scores that are to be taken, as the part of a recipe that they depend on
    looking: gr.HTML  # how far that is
    halt: gr.Button
    again: gr.Button

    @property
    def inputs(self) -> list[Any]:
        """The components that a request is read from, in the order in which events send their values."""
        return [self.source, self.component, self.family, self.inner, self.method, self.pattern, self.ratio,
                self.spread, self.protect, self.only, self.seed, self.of, self.most, self.update, self.rounding,
                self.multiple, self.own, *self.shown.values(), *self.options.values()]

    def asked(self, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
        """(model, keywords of ``pruning.plan``) of the values of ``inputs``.

        Raises:
            Refused: a choice is not one of those that there are.
        """
        read = dict(zip(self.inputs, values, strict=True))
        family, inner, method, multiple = (read[part] for part in (self.family, self.inner, self.method, self.multiple))
        for what, value, works in (("Family", family, FAMILIES), ("Units", inner, INNER)):
            if value not in works:
                raise Refused(f"{what} cannot be {shortened(value)}.", f"Choose one of {', '.join(works)}.")
        if str(multiple) not in map(str, MULTIPLES):
            raise Refused(f"Widths cannot be multiples of {shortened(multiple)}.",
                          f"Choose one of {', '.join(map(str, MULTIPLES))}.")
        units = inner if family == "width" else family
        request = {"method": method, "component": read[self.component], "units": units,
                   "protect": globs(read[self.protect]), "only": globs(read[self.only]),
                   "seed": int(read[self.seed] or 0) if seeded(method) else 0,
                   "update": bool(read[self.update]) and single(units),
                   "calibration": calibration({name: read[part] for name, part in self.shown.items()}),
                   **{name: read[part] for (owner, name), part in self.options.items() if owner == method}}
        return read[self.source], request | self.amount(read, units)

    def amount(self, read: Mapping[Any, Any], units: str) -> dict[str, Any]:
        """How much is to go, and how that is divided."""
        if units == "nm":
            return {"pattern": read[self.pattern]}
        ratio, most, spread = read[self.ratio], read[self.most], SPREADS.make(read[self.spread], {})
        alone = read[self.of] == "units" and spread.alone
        widths = {} if single(units) else {"multiple": int(read[self.multiple]),
                                           "rounding": read[self.rounding] if alone else "nearest"}
        return {"ratio": None if ratio is None else ratio / 100, "of": read[self.of],
                "overrides": dict(read[self.own]), "spread": "layer" if spread.refuses(units) else read[self.spread],
                "most": None if most is None else most / 100, **widths}

    def recipe(self, values: Sequence[Any], **changes: Any) -> Recipe:
        """The checked recipe of the components' values, with some keywords changed.

        Raises:
            Refused: it cannot be.
        """
        source, request = self.asked(values)
        return device.recipe(source, **request | changes)

    def wire(self, after: After) -> None:
        """What is asked for changes, or another model is opened."""
        chosen = self.method.input(ways, [self.method, self.spread, self.protect, self.rounding],
                                   [self.spread, self.protect, self.rounding], **VIEW)
        changed = gr.on([
            self.component.input, self.family.input, self.inner.input, self.pattern.input, self.spread.input,
            self.rounding.input, self.multiple.input, self.achieved.select, self.protect.blur, self.protect.submit,
            self.only.blur, self.only.submit, self.seed.change, self.of.input, self.most.change, self.update.input,
            *(c.input if isinstance(c, gr.HTML) else c.change for c in self.shown.values()),
            *(c.change for c in self.options.values())], *after.outlook, **NEWEST)
        after.picked(changed)
        after.asked(chosen)
        after.ready(self.model.input(choose_model, [self.model, self.source],
                                     [self.other, self.source, self.load_problem], **VIEW))
        # Loading has a queue of its own: a download must not hold up those who draw.
        after.ready(gr.on([self.load.click, self.named.submit], load_model, [self.named, self.source],
                          [self.source, self.load_problem], concurrency_id="load", concurrency_limit=1,
                          api_name="load", api_visibility="private"))


def restored(asked: Setup, recipe: Recipe) -> list[Any]:
    """Values for ``Setup.inputs`` that ask for a recipe again; what it says nothing of stays as it is."""
    width = not single(recipe.units)
    options, looks = dict(recipe.options), recipe.calibration or LOOKS
    shown = {"source": "" if looks.source == LOOKS.source else looks.source, "samples": looks.samples,
             "prompts": "\n".join(looks.prompts), "timesteps": ", ".join(map(str, looks.timesteps)),
             "guidance": looks.guidance, "seed": looks.seed}
    values = {
        asked.source: recipe.model, asked.component: recipe.component,
        asked.family: "width" if width else recipe.units, asked.inner: recipe.units if width else gr.skip(),
        asked.method: recipe.method, asked.pattern: recipe.pattern or gr.skip(),
        asked.ratio: gr.skip() if recipe.pattern else round(recipe.ratio * 100, 10), asked.spread: recipe.spread,
        asked.protect: ", ".join(recipe.protect), asked.only: ", ".join(recipe.only), asked.seed: recipe.seed,
        asked.of: recipe.of, asked.most: round(recipe.most * 100, 10), asked.update: recipe.update,
        asked.rounding: recipe.rounding, asked.multiple: str(recipe.multiple), asked.own: recipe.overrides,
        **{part: shown[name] for name, part in asked.shown.items()},
        **{part: options.get(name, gr.skip()) if owner == recipe.method else gr.skip()
           for (owner, name), part in asked.options.items()}}
    return [values[part] for part in asked.inputs]


def ways(method: str, spread: str, protect: str, rounding: str) -> tuple[Any, Any, Any]:
    """What is usual for a method, where what stands there is usual for another; what somebody chose stays."""
    known = [usual(part) for part in METHODS.values()]
    mine, there = usual(METHODS[method]), {"spread": spread, "protect": globs(protect), "rounding": rounding}
    new = {name: mine[name] if value in [other[name] for other in known] else gr.skip()
           for name, value in there.items()}
    return (new["spread"],
            ", ".join(new["protect"]) if isinstance(new["protect"], tuple) else new["protect"], new["rounding"])


def seeded(method: str) -> bool:
    """Whether a method draws numbers; for others a seed would be a cause without an effect."""
    return getattr(METHODS[method], "seeded", False)


def spread_options(units: str, blind: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """How the ratio is divided, greyed out where it cannot be; ``blind`` says why data cannot be looked at."""
    rows = []
    for name in SPREADS.ordered():
        spread = SPREADS[name]()
        refusal = spread.refuses(units)
        rows.append(option(name, spread.label, spread.explained,
                           refusal.message if refusal else blind.get(spread.sees)))
    return rows


def looks_at_data(request: Mapping[str, Any]) -> bool:
    """Whether a request needs samples to look at."""
    return (request["update"] or SPREADS[request.get("spread", "layer")].sees != "weights"
            or sees(METHODS[request["method"]]) != "weights")


def method_options(units: str, blind: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """The methods as choices, greyed out where they do not score such units or, by ``blind``, cannot see the data."""
    rows = []
    for row in methods():
        part = METHODS[row.name]
        off = blind.get(sees(part)) if units in row.units else f"{row.name} does not score {units}."
        rows.append(option(row.name, row.name.title(), (part.__doc__ or "").strip().splitlines()[0], off))
    return rows


def family_options(reasons: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """The families, each greyed out with its reason where the component has none of its units."""
    return [option(value, label, "", reasons.get(value)) for value, label in FAMILIES.items()]


def inner_options(reasons: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Which inner units go, each greyed out with its reason."""
    return [option(value, label, "", reasons.get(value)) for value, label in INNER.items()]


def build() -> Setup:
    """The column, in the order in which one decides."""
    with gr.Column(elem_id="setup", scale=0, min_width=316):
        source = gr.State(BUNDLED[0])
        undo = gr.Button("Undo", size="sm", elem_id="undo", interactive=False)
        model = choice("Model", model_options(), BUNDLED[0], elem_id="model")
        with gr.Group(visible=False) as other:
            named = gr.Textbox(label="Hub id or folder", placeholder="owner/name", elem_id="named", max_lines=1)
            load = gr.Button("Load", elem_id="load")
        load_problem = gr.HTML("", elem_classes="problem", elem_id="load-problem")
        component = choice("Prune", [option("unet", "U-Net"), option("vae.decoder", "VAE decoder"),
                                     option("text_encoder", "Text encoder")], "unet", look="tabs", elem_id="component")
        family = choice("Family", family_options({}), "weight", look="tabs", elem_id="family")
        explained = gr.HTML(f'<p class="hint">{EXPLAINED["weight"]}</p>')
        inner = choice("Units", inner_options({}), "width", look="tabs", elem_id="inner", visible=False)
        method = choice("Method", method_options("weight", {}), "magnitude", elem_id="method")
        groups, options = controls.of_methods(METHODS)
        pattern = choice("Pattern", PATTERN_OPTIONS, "2:4", look="tabs", elem_id="pattern",
                         visible=False)
        with gr.Group() as share:
            ratio = gr.Slider(0, 95, 30, step=1, label="Remove, %", elem_id="ratio", buttons=["reset"])
            of = choice("Percent of", OF_OPTIONS, "units", look="tabs", elem_id="of")
        achieved = gr.HTML("", js_on_load=script("achieved"), table="", now="", elem_id="achieved")
        problem = gr.HTML("", elem_classes="problem", elem_id="setup-problem")
        looking = gr.HTML("", elem_id="looking")
        with gr.Row():
            halt = gr.Button("Stop", size="sm", elem_id="stop-looking", visible=False)
            again = gr.Button("Look at the data", size="sm", elem_id="look-again", visible=False)
        spread = choice("Spread", spread_options("weight", {}), "layer", elem_id="spread")
        with gr.Group(visible=False) as widths, gr.Accordion("Whole channels: how shares are rounded", open=False):
            rounding = choice("Rounding", ROUNDING_OPTIONS, "nearest", elem_id="rounding")
            multiple = choice("Widths in multiples of", MULTIPLE_OPTIONS, "1", look="tabs", elem_id="multiple")
        with gr.Group(visible=False) as looks, gr.Accordion("Samples to look at", open=False):
            shown = looked_at()
        update = gr.Checkbox(False, label="Adjust the weights that stay", elem_id="update",
                             info="They make up for those that go (OBS, no training). Takes a while at Generate.")
        with gr.Accordion("Advanced: protected layers", open=False):
            protect = gr.Textbox(", ".join(DEFAULT), label="Protected layers", elem_id="protect",
                                 info="Patterns on module names, between commas. Empty releases all.")
            only = gr.Textbox("", label="Only these layers", elem_id="only", placeholder="up_blocks.*",
                              info="Empty means all that are not protected.")
            most = gr.Slider(5, 100, 100, step=1, label="At most of one layer, %", elem_id="most")
            seed = gr.Number(0, label="Seed of the method", precision=0, elem_id="prune-seed", visible=False)
    return Setup(source, model, named, load, load_problem, other, component, family, explained, inner, method, pattern,
                 share, ratio, spread, protect, only, seed, of, most, update, widths, rounding, multiple, gr.State(()),
                 looks, shown, groups, options, achieved, problem, undo, gr.State(()), gr.State(None), gr.State(None),
                 looking, halt, again)


