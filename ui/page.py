"""The page: components in the order in which they appear, then its events."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import gradio as gr

from pruning.errors import Refused, in_words, out_of_memory
from pruning.models.sources import BUNDLED
from pruning.planning.preview import RATIOS, Table, Totals
from pruning.progress import Looked
from pruning.types import Recipe, Shot
from pruning.units.unit import single
from ui import (
    address,
    clicks,
    closeup,
    compare,
    device,
    drawing,
    importance,
    masks,
    recover,
    report,
    setup,
    speed,
    tuned,
)
from ui.controls import option
from ui.door import Door, heard
from ui.pairs import History, Pair
from ui.plots import agreement as agreement_plots
from ui.plots import cards, layers
from ui.plots import importance as importance_plots
from ui.plots.markup import tag, text
from ui.progress import kept_in, noted, paced

TITLE = "Prunescope"
TABS = {"compare": "Compare", "importance": "Importance", "masks": "Masks", "recover": "Recover", "speed": "Speed",
        "report": "Report"}
LINKED = 300  # own ratios of layers that a link can hold
REMEMBERED = 50  # requests that Undo goes back through


def head(where: str) -> str:
    """The line on top."""
    acts = (tag("button", "Copy link", type="button", data_act="link"),
            tag("button", "Present", type="button", data_act="present", aria_pressed="false",
                title="Pictures, verdict and figures alone. Escape ends it."))
    return tag("div", tag("h1", TITLE), tag("span", "see what pruning does to a diffusion model", class_="tag"),
               tag("span", text(where), class_="where"), tag("span", *acts, class_="acts"), class_="bar")


def alert(error: Refused | str = "") -> str:
    """A refusal near the control that caused it."""
    return tag("p", text(error), class_="alert", role="alert") if str(error) else ""


def page() -> gr.Blocks:
    """Everything."""
    with Door(title="Prunescope: see what pruning does to a diffusion model", fill_width=True,
              analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        top = gr.HTML(head(f"{BUNDLED[0]} · starting"), js_on_load=clicks.HEAD, elem_id="head")
        link = gr.HTML("", js_on_load=clicks.ADDRESS, elem_id="address")
        with gr.Row(elem_id="page"):
            asked = setup.build()
            with gr.Column(elem_id="main", scale=1):
                prompt = compare.build_prompt()
                with gr.Tabs() as tabs:
                    with gr.Tab(TABS["compare"], id="compare"):
                        pair = compare.build(prompt)
                    with gr.Tab(TABS["importance"], id="importance", render_children=True):
                        rows = importance.build(setup.method_options("weight", {}))
                    with gr.Tab(TABS["masks"], id="masks", render_children=True):
                        mask = masks.build()
                    with gr.Tab(TABS["recover"], id="recover", render_children=True):
                        trainer = recover.build()
                    with gr.Tab(TABS["speed"], id="speed", render_children=True):
                        clock = speed.build()
                    with gr.Tab(TABS["report"], id="report", render_children=True):
                        told = report.build()
        Page(demo, top, link, tabs, asked, pair, rows, mask, trainer, clock, told).wire()
        demo.unload(demo.left)
    return demo


VIEW: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
ALONE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress": "hidden"}
TOGETHER: dict[str, Any] = {"concurrency_limit": 4, "concurrency_id": "look", "show_progress": "hidden"}
NEWEST = {**VIEW, "trigger_mode": "always_last"}


@dataclass
class Page:
    """The page's parts, and what happens between them.

    ALONE: one drawing or measurement at a time, whoever asks. TOGETHER: what is looked at takes turns with it, and with
    what others look at, step by step.
    """

    demo: Door
    top: gr.HTML
    link: gr.HTML
    tabs: gr.Tabs
    asked: setup.Setup
    pair: compare.Compare
    rows: importance.Importance
    mask: masks.Masks
    trainer: recover.Recover
    clock: speed.Speed
    told: report.Report

    @property
    def request(self) -> list[Any]:
        """Everything that a recipe and a shot are restored into."""
        return [*self.asked.inputs, self.asked.model, self.asked.other, self.asked.named, *self.pair.inputs]

    def restored(self, recipe: Recipe, shot: Shot | None) -> list[Any]:
        """Values for ``request``. Without a shot the prompt and its seed stay."""
        shots = compare.restored(shot) if shot else [gr.skip()] * len(self.pair.inputs)
        return [*setup.restored(self.asked, recipe), *setup.listed(recipe.model), *shots]

    def wire(self) -> None:
        """Every event of the page."""
        self.tab = gr.State("compare")
        asked, pair, mask = self.asked, self.pair, self.mask
        self.outlook = (self.refreshed, [asked.trail, asked.sent, mask.picked, *asked.inputs], [
            asked.achieved, asked.problem, mask.layers, self.rows.rows, pair.stale, asked.family, asked.inner,
            asked.method, asked.explained, asked.pattern, asked.share, asked.spread, asked.seed, asked.looks,
            asked.update, asked.widths, self.rows.curve, self.rows.heard,
            *asked.groups.values(), asked.trail, asked.sent, asked.undo, asked.wanted, asked.again])
        self.look = (self.looked, [mask.picked, mask.place, *asked.inputs], [mask.detail, mask.histogram])
        self.addressed = (self.query, [self.tab, mask.picked, *pair.inputs, *asked.inputs], self.link)
        self.help = (compare.help_with, [pair.prompt, asked.source, pair.prompted], pair.unknown)
        self.open = (opened, [asked.source, asked.component],
                     [self.top, asked.component, asked.load_problem, *pair.telling])
        self.wire_setup()
        self.wire_looking()
        self.wire_views()
        self.wire_pair()
        self.wire_recovery()
        self.wire_clock()

    def ready(self, opening: Any) -> None:
        """A model was opened: everything that is about the former one is made anew."""
        opening.then(*self.open, **VIEW).then(*self.outlook, **VIEW).then(*self.look, **VIEW).then(
            *self.help, **VIEW).then(*self.addressed, **VIEW)

    def wire_setup(self) -> None:
        """What is asked for: a link, a model, a method, a ratio."""
        asked, mask = self.asked, self.mask
        self.ready(self.demo.load(self.from_link, None, [*self.request, self.tabs, self.tab, mask.picked,
                                                         asked.load_problem], **VIEW))
        chosen = asked.method.input(setup.ways, [asked.method, asked.spread, asked.protect, asked.rounding],
                                    [asked.spread, asked.protect, asked.rounding], **VIEW)
        changed = gr.on([
            asked.component.input, asked.family.input, asked.inner.input, asked.pattern.input, asked.spread.input,
            asked.rounding.input, asked.multiple.input, asked.achieved.select, asked.protect.blur,
            asked.protect.submit, asked.only.blur, asked.only.submit, asked.seed.change, asked.of.input,
            asked.most.change, asked.update.input,
            *(c.input if isinstance(c, gr.HTML) else c.change for c in asked.shown.values()),
            *(c.change for c in asked.options.values())], *self.outlook, **NEWEST)
        for shown in (changed, chosen.then(*self.outlook, **NEWEST)):
            shown.then(*self.look, **NEWEST).then(*self.addressed, **NEWEST)
        self.ready(asked.undo.click(self.undone, [asked.trail], [*self.request, asked.trail], **VIEW))
        # Loading has a queue of its own: a download must not hold up those who draw.
        self.ready(asked.model.input(choose_model, [asked.model, asked.source],
                                     [asked.other, asked.source, asked.load_problem], **VIEW))
        self.ready(gr.on([asked.load.click, asked.named.submit], load_model, [asked.named, asked.source],
                         [asked.source, asked.load_problem], concurrency_id="load", concurrency_limit=1,
                         api_name="load", api_visibility="private"))

    def wire_looking(self) -> None:
        """Looking at data takes a while: it says how far it is, and can be stopped. Scores, suggestions, agreement."""
        asked, rows = self.asked, self.rows
        begin = {"js": clicks.LOOKING, **VIEW}
        looking = gr.on([asked.wanted.change, asked.again.click], self.looking, [asked.wanted, *asked.inputs],
                        [asked.looking, asked.halt, asked.again], api_visibility="private", **TOGETHER)
        looking.then(self.looked_at, [asked.looking], [asked.looking, asked.halt, asked.again], **VIEW).then(
            *self.outlook, **VIEW).then(*self.look, **VIEW).then(*self.addressed, **VIEW)
        rows.suggest.click(None, None, [asked.halt, asked.looking], **begin)
        suggesting = rows.suggest.click(self.suggesting, asked.inputs, [
            asked.looking, asked.halt, asked.spread, rows.trouble], api_name="suggest", **TOGETHER)
        suggesting.then(self.looked_at, [asked.looking], [asked.looking, asked.halt, asked.again], **VIEW).then(
            *self.outlook, **VIEW).then(*self.look, **VIEW).then(*self.addressed, **VIEW)
        rows.agree.click(None, None, [asked.halt, asked.looking], **begin)
        agreeing = rows.agree.click(self.agreeing, [rows.rival, *asked.inputs],
                                    [asked.looking, asked.halt, rows.agreement], api_name="agreement", **TOGETHER)
        agreeing.then(self.looked_at, [asked.looking], [asked.looking, asked.halt, asked.again], **VIEW).then(
            *self.outlook, **VIEW)
        gr.on([asked.halt.click], None, cancels=[looking, suggesting, agreeing], **VIEW)
        rows.rows.override(importance.overridden, [asked.own], [asked.own], **VIEW).then(*self.outlook, **NEWEST).then(
            *self.look, **NEWEST).then(*self.addressed, **NEWEST)

    def wire_views(self) -> None:
        """Tabs, layers, places in a mask."""
        mask = self.mask
        for tab in self.tabs.children:
            assert isinstance(tab, gr.Tab)
            name = str(tab.id)
            tab.select(lambda name=name: name, None, self.tab, **VIEW).then(*self.addressed, **VIEW).then(
                self.filled, [self.tab, self.pair.history], [self.told.card, self.told.texts], **VIEW)
        mask.layers.select(picked_site, None, [mask.picked, mask.place], **VIEW).then(*self.look, **NEWEST).then(
            *self.addressed, **NEWEST)
        self.rows.rows.select(opened_site, None, [mask.picked, mask.place, self.tabs, self.tab], **VIEW).then(
            *self.outlook, **NEWEST).then(*self.look, **NEWEST).then(*self.addressed, **NEWEST)
        mask.detail.select(picked_place, None, [mask.place], **VIEW).then(*self.look, **NEWEST)

    def wire_pair(self) -> None:
        """The pair is drawn, stopped, brought back."""
        pair = self.pair
        shows = [*pair.finished, self.clock.panel]
        begin = [pair.generate.click, pair.prompt.submit]
        gr.on(begin, None, None, [pair.stop, pair.problem], js=clicks.WAIT, **VIEW)
        running = gr.on(begin, self.generated, [pair.history, self.trainer.use, *pair.inputs, *self.asked.inputs],
                        [*shows, pair.problem, pair.history, pair.drawing], api_name="generate", **ALONE)
        # What Stop shows waits until the drawing has really ended: a last step may still be on its way to the page.
        self.drawing = running
        running.then(self.ended, [pair.history, pair.drawing], [*shows, pair.stop, pair.problem, pair.drawing],
                     **VIEW).then(self.filled, [self.tab, pair.history], [self.told.card, self.told.texts], **VIEW)
        self.ready(pair.earlier.select(self.back, [pair.history], [*self.request, *shows, pair.history], **VIEW))
        pair.dice.click(compare.new_seed, None, pair.seed, **VIEW)
        for chips in (pair.chips, pair.unknown):
            chips.select(said, None, pair.prompt, **VIEW)
        pair.prompt.change(*self.help, **NEWEST)
        gr.on([control.input if control is pair.sampler else control.change for control in pair.inputs],
              *self.addressed, **NEWEST)

    def wire_recovery(self) -> None:
        """What stays is trained, in a queue of its own: others draw between its steps."""
        pair, trainer = self.pair, self.trainer
        trainer.train.click(None, None, [trainer.stop, trainer.progress], js=clicks.WAIT, **VIEW)
        running = trainer.train.click(
            self.recovered, [pair.history, *trainer.inputs, *pair.inputs, *self.asked.inputs],
            [trainer.progress, trainer.curve, trainer.pictures, trainer.use, pair.history, trainer.busy],
            concurrency_id="train", concurrency_limit=1, show_progress="hidden", api_name="recover")
        trainer.stop.click(None, None, cancels=[running], **VIEW)
        running.then(self.rested, [pair.history, trainer.busy, *trainer.inputs, *self.asked.inputs],
                     [*self.shown_places, trainer.stop, trainer.progress, trainer.busy], **VIEW).then(
            self.filled, [self.tab, pair.history], [self.told.card, self.told.texts], **VIEW)

    def wire_clock(self) -> None:
        """The shown pair's models are measured."""
        pair, clock = self.pair, self.clock
        begin, found = [clock.measure.click, pair.offer.click], gr.State(None)
        gr.on(begin, None, None, [clock.stop, clock.progress], js=clicks.WAIT, **VIEW)
        gr.on(begin, None, None, [pair.stop, pair.timing], js=clicks.WAIT, **VIEW)
        running = gr.on(begin, measured, [pair.history, clock.repeats], [clock.progress, pair.timing, found],
                        api_name="measure", **ALONE)
        gr.on([pair.stop.click, clock.stop.click], None, cancels=[self.drawing, running], **VIEW)
        running.then(self.timed, [pair.history, found, clock.progress], [
            *pair.finished, clock.panel, pair.history, found, clock.stop, pair.stop, clock.progress, pair.timing],
            **VIEW).then(self.filled, [self.tab, pair.history], [self.told.card, self.told.texts], **VIEW)

    # What the events do.

    def shown(self, history: History) -> list[Any]:
        """The pair that the history stands at, in every place that shows it."""
        return [*compare.shown(history), speed.panel(history.shown)]

    def refreshed(self, trail: tuple[Recipe | None, ...], sent: Recipe | None, picked: str, *read: Any) -> list[Any]:
        """What a change in the setup shows: the achieved line, the layers, what is greyed out."""
        source, request = self.asked.asked(read)
        width, nm = not single(request["units"]), request["units"] == "nm"
        shape: list[Any] = [gr.skip()] * 3
        wanted, seen, curve, problem = None, None, None, ""
        reasons: dict[str, str | None] = {}
        try:
            reasons = device.obstacles(source, request["component"])
            shape = [gr.HTML(options=setup.family_options(reasons)),
                     gr.HTML(options=setup.inner_options(reasons), visible=width),
                     gr.HTML(options=setup.method_options(request["units"], reasons))]
            recipe = device.recipe(source, **request)
            curve = device.curve(recipe)
            if device.quick(recipe):
                seen = device.outlook(recipe)
            else:
                wanted = device.needed(recipe)
        except Refused as error:
            problem = alert(error)
        if seen is None:  # figures of another request would mislead
            figures = ["", problem, layers.layers(()), importance_plots.importance(()), gr.HTML(plan="")]
            sent = None
            trail = trail if trail[-1:] == (None,) else (*trail, None)
        else:
            bars = cards.achieved(recipe.ratio, achieved(seen.totals), seen.notes)
            now = json.dumps([row.gone / row.units for row in seen.layers])
            apart = replace(recipe, ratio=0.0)
            if apart == sent and request["units"] == "weight":  # only shares changed: the browser paints them
                figures = [gr.HTML(value=bars, now=now), "", gr.skip(), gr.skip(), gr.HTML(plan=recipe.digest)]
            else:
                of = "" if nm else table(device.table(recipe), [row.name for row in seen.layers])
                figures = [gr.HTML(value=bars, now="", table=of), "", layers.layers(seen.layers, picked),
                           importance_plots.importance(seen.layers, picked, cut=not nm, unsure=seen.unsure),
                           gr.HTML(plan=recipe.digest)]
            sent = apart
            trail = trail if trail[-1:] == (recipe,) else (*trail, recipe)[-REMEMBERED:]
        return [*figures, *shape, f'<p class="hint">{setup.EXPLAINED[request["units"]]}</p>',
                gr.HTML(options=setup.PATTERN_OPTIONS, visible=nm), gr.Group(visible=not nm),
                gr.HTML(options=setup.spread_options(request["units"], reasons), visible=not nm),
                gr.Number(visible=setup.seeded(request["method"])),
                gr.Group(visible=setup.looks_at_data(request)),
                gr.Checkbox(visible=not width), gr.Group(visible=width),
                *importance.listened(curve),
                *(gr.Group(visible=owner == request["method"]) for owner in self.asked.groups),
                trail, sent, gr.Button(interactive=len(trail) > 1), wanted,
                gr.skip() if wanted else gr.Button(visible=False)]

    def looking(self, wanted: Recipe | None, *read: Any) -> Iterator[list[Any]]:
        """Take the scores that the setup asks for."""
        if wanted is None:
            yield ["", gr.Button(visible=False), gr.Button(visible=False)]
            return
        source, request = self.asked.asked(read)
        try:
            for note in paced(device.looking(device.recipe(source, **request))):
                yield [note, gr.Button(visible=True), gr.Button(visible=False)]
        except Refused as error:
            yield [alert(error), gr.Button(visible=False), gr.Button(visible=True)]
            return
        yield ["", gr.Button(visible=False), gr.Button(visible=False)]

    def looked_at(self, note: str) -> list[Any]:
        """Looking has ended: done, refused, or stopped, which is said."""
        stopped = bool(note) and "alert" not in note
        if stopped:
            note = tag("p", "Stopped; nothing was changed.", class_="hint", role="status")
        return [note, gr.Button(visible=False), gr.Button(visible=True) if stopped else gr.skip()]

    def suggesting(self, *read: Any) -> Iterator[list[Any]]:
        """Ratios for single layers that the answer bears best: the spread by sensitivity, tried at this ratio."""
        source, request = self.asked.asked(read)
        on, off = gr.Button(visible=True), gr.Button(visible=False)
        try:
            if request["units"] == "nm":
                raise Refused("N:M removes the same share everywhere.", "Choose Weights or Width to suggest ratios.")
            for note in paced(device.looking(device.recipe(source, **request | {"spread": "sensitivity"}))):
                yield [note, on, gr.skip(), ""]
        except Refused as error:
            yield ["", off, gr.skip(), alert(error)]
            return
        yield ["", off, "sensitivity", ""]

    def agreeing(self, rival: str, *read: Any) -> Iterator[list[Any]]:
        """Whether another method wants the same to go."""
        source, request = self.asked.asked(read)
        on, off = gr.Button(visible=True), gr.Button(visible=False)
        try:
            recipe, found = device.recipe(source, **request), list[Any]()
            if rival == recipe.method:
                raise Refused(f"{rival} agrees with itself.", "Choose another method to compare it with.")
            for note in paced(kept_in(found, device.agreement(recipe, rival))):
                yield [note, on, gr.skip()]
        except Refused as error:
            yield ["", off, alert(error)]
            return
        asked = recipe.pattern or f"{recipe.ratio:.0%}"
        yield ["", off, agreement_plots.agreement(found[0], recipe.method, rival, asked)]

    def undone(self, trail: tuple[Recipe | None, ...]) -> list[Any]:
        """The setup as it was before the last change; prompt and pair stay."""
        before = trail[:-1]
        while before and before[-1] is None:
            before = before[:-1]
        if not before or before[-1] is None:
            return [*[gr.skip()] * len(self.request), trail]
        return [*self.restored(before[-1], None), before]

    def back(self, history: History, event: gr.EventData) -> list[Any]:
        """An earlier pair, with the setup and the prompt that made it."""
        at = heard(event, "said")
        if not at.isdecimal() or len(at) > 3:
            raise Refused(f"No earlier pair is number {shortened(at)}.", "Reload the page.")
        history = history.showing(int(at))
        pair = history.shown
        return [*self.restored(pair.recipe, pair.shot), *self.shown(history), history]

    def from_link(self, request: gr.Request) -> list[Any]:
        """What the address asks for: nothing, a whole view, or something that cannot be, which is said."""
        blank: list[Any] = [gr.skip()] * (len(self.request) + 3)
        given = {key: value for key, value in request.query_params.items() if not key.startswith("__")}
        if not given:
            return [*blank, gr.skip()]
        try:
            wanted = address.read(given)
        except Refused as error:
            return [*blank, alert(error)]
        recipe, note = wanted.recipe, ""
        if device.PUBLIC and recipe.model not in (*BUNDLED, *device.ALLOWED):
            return [*blank, alert(Refused("The link is about a model that this public page does not run.",
                                          "Duplicate the Space, or run it on your machine."))]
        if setup.listed(recipe.model)[0] == setup.OTHER:  # a link must not make anybody download or open a folder
            note = tag("p", text(f"The link is about {recipe.model}. Press Load to open it."), class_="hint")
            values = self.restored(replace(recipe, model=BUNDLED[0]), wanted.shot)
            values[len(self.asked.inputs) : len(self.asked.inputs) + 3] = setup.listed(recipe.model)
        else:
            values = self.restored(recipe, wanted.shot)
        tab = wanted.tab if wanted.tab in TABS and not wanted.present else "compare"  # a projector shows the pair
        return [*values, gr.Tabs(selected=tab), tab, wanted.layer, note]

    def query(self, tab: str, picked: str, *values: Any) -> Any:
        """The page as it stands, for the address line; what cannot be asked leaves the address as it is."""
        shots, read = values[: len(self.pair.inputs)], values[len(self.pair.inputs) :]
        source, request = self.asked.asked(read)
        if Path(source).exists():  # a folder of this machine is nobody else's business
            return gr.skip()
        if len(request.get("overrides", ())) > LINKED:  # browsers and servers cut longer addresses short
            request |= {"overrides": {}}
        try:
            return address.query(device.recipe(source, **request), compare.shot(shots), tab=tab, layer=picked)
        except Refused:
            return gr.skip()

    def looked(self, picked: str, place: tuple[float, float] | None, *read: Any) -> tuple[Any, Any]:
        """The picked layer under the present recipe."""
        if not picked:
            return masks.EMPTY, gr.Plot(visible=False)
        source, request = self.asked.asked(read)
        try:
            recipe = device.recipe(source, **request)
            if not device.quick(recipe) or picked not in device.scores(recipe).catalog.sites:
                return masks.EMPTY, gr.Plot(visible=False)
            seen = closeup.mask(recipe, picked, place)
        except Refused as error:
            return alert(error), gr.Plot(visible=False)
        return masks.shown(seen), masks.figure(seen)

    def recovered(self, history: History, *values: Any) -> Iterator[list[Any]]:
        """The training as it goes: pictures before, the curve, pictures after."""
        own, shots = len(self.trainer.inputs), len(self.pair.inputs)
        shown = recover.Live()
        try:
            options, shot = recover.options(values[:own]), compare.shot(values[own : own + shots])
            source, request = self.asked.asked(values[own + shots :])
            recipe = device.recipe(source, **request)
            if state := tuned.reached(recipe, options):  # the curve of a training that goes on begins where it began
                shown.losses += state.losses
            for event in drawing.recovered(recipe, shot, options, history.pairs):
                if isinstance(event, Pair):
                    history = history if event in history.pairs else history.added(event)
                    shown.pairs.append(event)
                    yield [gr.skip(), shown.curve(options.steps), recover.before_after(shown.pairs), gr.skip(), history,
                           True]
                elif note := shown.noted(event, options.steps):
                    yield [note, shown.curve(options.steps), gr.skip(), gr.skip(), history, True]
        except Exception as error:
            known = error if isinstance(error, Refused) else in_words(error) if out_of_memory(error) else ""
            yield [alert(known), gr.skip(), gr.skip(), gr.skip(), history, False]
            if not known:  # a fault of ours is shown as one
                raise
            return
        yield ["", gr.skip(), gr.skip(), gr.Checkbox(True, visible=True), history, False]

    def rested(self, history: History, busy: bool, *values: Any) -> list[Any]:
        """Training has ended: done, refused, or stopped, which is said with how far it came."""
        off = gr.Button(interactive=False)
        if not busy:
            return [*self.shown(history), off, gr.skip(), False]
        own = len(self.trainer.inputs)
        source, request = self.asked.asked(values[own:])
        try:
            state = tuned.reached(device.recipe(source, **request), recover.options(values[:own]))
        except Refused:  # the setup has changed meanwhile
            state = None
        note = f"Stopped after {state.step} steps; Fine-tune goes on from there." if state else "Stopped."
        return [*self.shown(history), off, tag("p", note, class_="hint", role="status"), False]

    def generated(self, history: History, use: bool, *values: Any) -> Iterator[list[Any]]:
        """The pair as it is drawn, or one sentence why not; the last good pair is back then."""
        same = [gr.skip()] * len(self.shown_places)
        yield [*same, tag("p", "Preparing the pruned model.", class_="note", role="status"), gr.skip(), True]
        shots, read = values[: len(self.pair.inputs)], values[len(self.pair.inputs) :]
        try:
            source, request = self.asked.asked(read)
            shot = compare.shot(shots)
            recipe = device.recipe(source, **request)
            for event in drawing.pair(recipe, shot, history.trained(recipe) if use else None):
                if isinstance(event, Looked):
                    yield [*same, noted(event, "Preparing the pruned model: "), gr.skip(), True]
                elif isinstance(event, drawing.Frame):
                    yield [compare.running(event, shot), *same[1:], "", gr.skip(), True]
                else:
                    history = history.added(event)
                    yield [*self.shown(history), "", history, False]
        except Exception as error:
            known = error if isinstance(error, Refused) else in_words(error) if out_of_memory(error) else ""
            yield [*self.shown(history), alert(known), gr.skip(), False]
            if not known:  # a fault of ours is shown as one
                raise

    def ended(self, history: History, drawing: bool) -> list[Any]:
        """Nothing is left to stop. A drawing that was stopped leaves the last finished pair, as if it had not begun."""
        off = gr.Button(interactive=False)
        if not drawing:
            return [*[gr.skip()] * len(self.shown_places), off, gr.skip(), False]
        note = tag("p", "Stopped. The pair shown is the last that was finished.", class_="hint", role="status")
        return [*self.shown(history), off, note, False]

    def timed(self, history: History, found: tuple[Pair, Pair] | None, note: str) -> list[Any]:
        """A measurement has ended: with figures, with a refusal that stays, or because it was stopped."""
        off, same = gr.Button(interactive=False), [gr.skip()] * len(self.shown_places)
        if found:
            history = history.changed(*found)
            return [*self.shown(history), history, None, off, off, "", ""]
        if "alert" not in (note or ""):
            note = tag("p", "Stopped; nothing was measured.", class_="note", role="status")
        return [*same, gr.skip(), None, off, off, note, note]

    @property
    def shown_places(self) -> list[Any]:
        """The components that ``shown`` has values for."""
        return [*self.pair.finished, self.clock.panel]

    def filled(self, tab: str, history: History) -> tuple[Any, Any]:
        """The report of the shown pair, made when somebody looks at it."""
        if tab != "report":
            return gr.skip(), gr.skip()
        return report.card(history.shown), report.texts(history.shown)


def measured(history: History, repeats: Any) -> Iterator[tuple[str, str, Any]]:
    """How far the measurement is, and at last the pair that was shown when it began, before and after."""
    pair = history.shown
    try:
        for note, changed in speed.measured(pair, repeats):
            yield note, note, (pair, changed) if changed else None
    except Exception as error:
        known = error if isinstance(error, Refused) else in_words(error) if out_of_memory(error) else ""
        yield alert(known), alert(known), None
        if not known:
            raise


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


def picked_site(event: gr.EventData) -> tuple[str, None]:
    """The layer that was clicked; its picture begins in the middle."""
    return heard(event, "site"), None


def opened_site(event: gr.EventData) -> tuple[str, None, gr.Tabs, str]:
    """The layer that was clicked among all, to be seen in Masks."""
    return heard(event, "site"), None, gr.Tabs(selected="masks"), "masks"


def picked_place(event: gr.EventData) -> tuple[float, float]:
    """The place in a mask's picture, as shares of its width and height."""
    return within(heard(event, "x", (int, float))), within(heard(event, "y", (int, float)))


def within(share: float) -> float:
    """A share of a width, kept inside it."""
    return min(1.0, max(0.0, float(share)))


def said(event: gr.EventData) -> str:
    """What a chip says."""
    return heard(event, "said")


def choose_model(model: str, before: str) -> tuple[Any, str, str]:
    """A listed model is opened at once; another waits for Load."""
    if model == setup.OTHER:
        return gr.Group(visible=True), before, ""
    return gr.Group(visible=False), model, ""


def load_model(named: str | None, before: str) -> Iterator[tuple[str, str]]:
    """Load another model; when that fails, the one in use stays."""
    named = named or ""
    yield before, tag("p", text(f"Loading {named}. A download can take minutes."), class_="hint", role="status")
    try:
        device.open_model(named)
    except Refused as error:
        yield before, alert(error)
    except (OSError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, OSError) or out_of_memory(error)):
            raise
        yield before, alert(in_words(error))
    else:
        yield named.strip(), ""


def opened(source: str, component: str) -> list[Any]:
    """What the page says about the model in use. A component that the model has, too, stays chosen."""
    try:
        model = device.open_model(source)
    except Refused as error:
        return [head(source), gr.skip(), alert(error), *[gr.skip()] * 5]
    labels = [option(path, label) for path, label in model.components]
    kept = component if component in dict(model.components) else model.components[0][0]
    return [head(f"{model.source} · {model.where}"), gr.HTML(value=kept, options=labels), gr.skip(),
            *compare.told_what(model.prompted)]
