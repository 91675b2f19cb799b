"""Setup: model, component, what kind of unit, which method, how much. Everything on the left of the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pruning import DEFAULT, methods
from pruning.criteria import CRITERIA
from pruning.models import BUNDLED
from pruning.types import Recipe
from pruning.units.site import WEIGHTS
from ui import clicks, controls, device
from ui.address import PATTERNS
from ui.controls import choice, option, slider

FAMILIES = (("weight", "Weights"), ("nm", "N:M"), ("width", "Width"))
INNER = (("width", "All three"), ("head", "Heads"), ("neuron", "Neurons"), ("channel", "Channels"))
PATTERN_OPTIONS = [option(pattern, pattern) for pattern in PATTERNS]
SPREAD_OPTIONS = [option("layer", "Every layer alike", "each loses the same share"),
                  option("global", "All layers together", "the lowest scores go, wherever they are")]
EXPLAINED = {
    "weight": "Removed weights become zero. The file and the clock stay as they are unless a kernel skips zeros.",
    "nm": "Of each M neighbours along the input channels, N stay. Sparse tensor cores read 2:4.",
    "width": "Units are cut out of every tensor they touch. The network really gets smaller.",
}
OTHER = "other"


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
    groups: dict[str, gr.Group]
    options: dict[tuple[str, str], Any]
    achieved: gr.HTML
    problem: gr.HTML
    undo: gr.Button
    trail: gr.State  # recipes that were asked for, the newest last; None where the request could not be
    sent: gr.State  # the recipe whose table the browser has

    @property
    def inputs(self) -> list[Any]:
        """The components that a request is read from, in the order in which ``asked`` takes their values."""
        return [self.source, self.component, self.family, self.inner, self.method, self.pattern, self.ratio,
                self.spread, self.protect, self.only, self.seed, *self.options.values()]

    def asked(self, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
        """(model, keywords of ``pruning.plan``) of the components' values."""
        source, component, family, inner, method, pattern, ratio, spread, protect, only, seed, *rest = values
        units = inner if family == "width" else family
        options = {name: value for (owner, name), value in zip(self.options, rest, strict=True) if owner == method}
        request = {"method": method, "component": component, "units": units, "spread": spread,
                   "protect": globs(protect), "only": globs(only), "seed": int(seed or 0) if seeded(method) else 0,
                   **options}
        if units == "nm":
            return source, request | {"pattern": pattern, "spread": "layer"}
        return source, request | {"ratio": None if ratio is None else ratio / 100}


def restored(asked: Setup, recipe: Recipe) -> list[Any]:
    """Values for ``Setup.inputs`` that ask for a recipe again; what it says nothing of stays as it is."""
    width = recipe.units not in WEIGHTS
    options = dict(recipe.options)
    return [recipe.model, recipe.component, "width" if width else recipe.units,
            recipe.units if width else gr.skip(), recipe.method, recipe.pattern or gr.skip(),
            gr.skip() if recipe.pattern else round(recipe.ratio * 100, 10), recipe.spread, ", ".join(recipe.protect),
            ", ".join(recipe.only), recipe.seed,
            *(options.get(name, gr.skip()) if owner == recipe.method else gr.skip() for owner, name in asked.options)]


def listed(model: str) -> tuple[str, Any, str]:
    """How the list of models shows the one in use: (choice, the box for others, what stands in it)."""
    if model in {row["value"] for row in model_options()}:
        return model, gr.Group(visible=False), ""
    return OTHER, gr.Group(visible=True), model


def seeded(method: str) -> bool:
    """Whether a method draws numbers; for others a seed would be a cause without an effect."""
    return getattr(CRITERIA[method], "seeded", False)


def globs(text: str) -> tuple[str, ...]:
    """Globs between commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def model_options() -> list[dict[str, Any]]:
    """The bundled model and, where they may be loaded, others. A public page offers those that its host listed."""
    rows = [option(name, name, "bundled, runs at once") for name in BUNDLED]
    if device.PUBLIC:
        return rows + [option(name, name, "from the Hugging Face hub") for name in device.ALLOWED]
    return [*rows, option(OTHER, "Other…", "from the Hugging Face hub or a folder")]


def method_options(units: str) -> list[dict[str, Any]]:
    """The methods as choices, greyed out where they do not score such units."""
    rows = []
    for row in methods():
        part = CRITERIA[row.name]
        off = None if units in row.units else f"{row.name} does not score {units}."
        rows.append(option(row.name, row.name.capitalize(), (part.__doc__ or "").strip().splitlines()[0], off))
    return rows


def family_options(reasons: dict[str, str | None]) -> list[dict[str, Any]]:
    """The families, each greyed out with its reason where the component has none of its units."""
    return [option(value, label, "", reasons.get(value)) for value, label in FAMILIES]


def inner_options(reasons: dict[str, str | None]) -> list[dict[str, Any]]:
    """Which inner units go, each greyed out with its reason."""
    return [option(value, label, "", reasons.get(value)) for value, label in INNER]


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
        method = choice("Method", method_options("weight"), "magnitude", elem_id="method")
        groups, options = controls.of_methods(CRITERIA)
        pattern = choice("Pattern", PATTERN_OPTIONS, "2:4", look="tabs", elem_id="pattern",
                         visible=False)
        with gr.Group() as share:
            ratio = slider(0, 95, 30, step=1, label="Remove, %", elem_id="ratio", buttons=["reset"])
        achieved = gr.HTML("", js_on_load=clicks.ACHIEVED, table="", now="", elem_id="achieved")
        problem = gr.HTML("", elem_classes="problem", elem_id="setup-problem")
        spread = choice("Spread", SPREAD_OPTIONS, "layer", elem_id="spread")
        with gr.Accordion("Advanced: protected layers", open=False):
            protect = gr.Textbox(", ".join(DEFAULT), label="Protected layers", elem_id="protect",
                                 info="Patterns on module names, between commas. Empty releases all.")
            only = gr.Textbox("", label="Only these layers", elem_id="only", placeholder="up_blocks.*",
                              info="Empty means all that are not protected.")
            seed = gr.Number(0, label="Seed of the method", precision=0, elem_id="prune-seed", visible=False)
    return Setup(source, model, named, load, load_problem, other, component, family, explained, inner, method, pattern,
                 share, ratio, spread, protect, only, seed, groups, options, achieved, problem, undo, gr.State(()),
                 gr.State(None))
