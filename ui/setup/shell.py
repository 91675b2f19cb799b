"""What stands around the tabs, and what all of them share: the setup, the row, the address, the pair that is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.models.sources import BUNDLED
from pruning.types import Recipe, Shot
from ui import device, links
from ui.plots.markup import tag, text
from ui.setup import model, request, row
from ui.state import History
from ui.views import pairs
from ui.widgets.alert import alert
from ui.widgets.events import VIEW, After
from ui.widgets.places import Places

LINKED = 300  # own ratios of layers that a link can hold


@dataclass
class Shell:
    """The components around the tabs, and how a recipe and a shot go in and out of them."""

    top: gr.HTML
    line: gr.HTML  # the address
    asked: request.Setup
    row: row.Row
    places: Places
    tabs: gr.Tabs
    history: gr.State = field(default_factory=lambda: gr.State(History((pairs.prepared(),))))
    tab: gr.State = field(default_factory=lambda: gr.State("compare"))  # the one that is open
    picked: gr.State = field(default_factory=lambda: gr.State(""))  # the layer that is looked at

    @property
    def inputs(self) -> list[Any]:
        """The components that a recipe and a shot are read from."""
        return [*self.row.inputs, *self.asked.inputs]

    def wanted(self, values: Sequence[Any]) -> tuple[Recipe, Shot]:
        """The recipe and the shot of the values of ``inputs``.

        Raises:
            Refused: one of them cannot be.
        """
        own = len(self.row.inputs)
        shot = row.shot(values[:own])
        return self.asked.recipe(values[own:]), shot

    @property
    def parts(self) -> list[Any]:
        """Everything that a recipe and a shot are restored into."""
        return [*self.asked.inputs, self.asked.model, self.asked.other, self.asked.named, *self.row.inputs]

    def restored(self, recipe: Recipe, shot: Shot | None) -> list[Any]:
        """Values for ``parts``. Without a shot the prompt and its seed stay."""
        shots = row.restored(shot) if shot else [gr.skip()] * len(self.row.inputs)
        return [*request.restored(self.asked, recipe), *model.listed(recipe.model), *shots]

    def wire(self, demo: gr.Blocks, after: After) -> None:
        """A link, the setup, the row, and Undo."""
        after.ready(demo.load(self.from_link, None, [*self.parts, self.tabs, self.tab, self.picked,
                                                     self.asked.load_problem], **VIEW))
        self.asked.wire(after)
        self.row.wire(after)
        after.ready(self.asked.undo.click(self.undone, [self.asked.trail], [*self.parts, self.asked.trail], **VIEW))
        for tab in self.tabs.children:
            assert isinstance(tab, gr.Tab)
            name = str(tab.id)
            after.shown(tab.select(lambda name=name: name, None, self.tab, **VIEW).then(*after.address, **VIEW))

    def undone(self, trail: tuple[Recipe | None, ...]) -> list[Any]:
        """The setup as it was before the last change; prompt and pair stay."""
        before = trail[:-1]
        while before and before[-1] is None:
            before = before[:-1]
        if not before or before[-1] is None:
            return [*[gr.skip()] * len(self.parts), trail]
        return [*self.restored(before[-1], None), before]

    def from_link(self, request: gr.Request) -> list[Any]:
        """What the address asks for: nothing, a whole view, or something that cannot be, which is said."""
        blank: list[Any] = [gr.skip()] * (len(self.parts) + 3)
        given = {key: value for key, value in request.query_params.items() if not key.startswith("__")}
        if not given:
            return [*blank, gr.skip()]
        try:
            return self.linked(links.read(given))
        except Refused as error:
            return [*blank, alert(error)]

    def linked(self, wanted: links.Address) -> list[Any]:
        """The view that a link asks for.

        Raises:
            Refused: its model cannot be.
        """
        recipe, note = wanted.recipe, ""
        if device.PUBLIC and recipe.model not in (*BUNDLED, *device.ALLOWED):
            raise Refused("The link is about a model that this public page does not run.",
                          "Duplicate the Space, or run it on your machine.")
        values = self.restored(recipe, wanted.shot)
        if model.listed(recipe.model)[0] == model.OTHER:  # a link must not make anybody download or open a folder
            note = tag("p", text(f"The link is about {recipe.model}. Press Load to open it."), class_="hint")
            values = self.restored(replace(recipe, model=BUNDLED[0]), wanted.shot)
            values[len(self.asked.inputs) : len(self.asked.inputs) + 3] = model.listed(recipe.model)
        there = {tab.id for tab in self.tabs.children if isinstance(tab, gr.Tab)}
        tab = wanted.tab if wanted.tab in there and not wanted.present else "compare"  # a projector shows the pair
        return [*values, gr.Tabs(selected=tab), tab, wanted.layer, note]

    def query(self, tab: str, picked: str, *values: Any) -> Any:
        """The page as it stands, for the address line; what cannot be asked leaves the address as it is."""
        own = len(self.row.inputs)
        source, asked = self.asked.asked(values[own:])
        if Path(source).exists():  # a folder of this machine is nobody else's business
            return gr.skip()
        try:
            recipe = device.recipe(source, **short(asked))
            return links.query(recipe, row.shot(values[:own]), tab=tab, layer=picked)
        except Refused:
            return gr.skip()


def short(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request that a link can hold: browsers and servers cut longer addresses short."""
    return asked if len(asked.get("overrides", ())) <= LINKED else {**asked, "overrides": {}}
