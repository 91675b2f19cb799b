"""The page: components in the order in which they appear, then its events."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from pruning.errors import Refused, in_words, out_of_memory
from pruning.models import BUNDLED
from pruning.units.site import WEIGHTS
from ui import clicks, compare, device, masks, setup
from ui.controls import option
from ui.plots import cards, layers
from ui.plots.markup import tag, text

TITLE = "Prunescope"


def head(where: str) -> str:
    """The line on top."""
    return tag("div", tag("h1", TITLE), tag("span", "see what pruning does to a diffusion model", class_="tag"),
               tag("span", text(where), class_="where"), class_="bar")


def alert(error: Refused | str = "") -> str:
    """A refusal near the control that caused it."""
    return tag("p", text(error), class_="alert", role="alert") if str(error) else ""


def page() -> gr.Blocks:
    """Everything."""
    with gr.Blocks(title="Prunescope: see what pruning does to a diffusion model", fill_width=True,
                   analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        top = gr.HTML(head(f"{BUNDLED[0]} · starting"), elem_id="head")
        with gr.Row(elem_id="page"):
            asked = setup.build()
            with gr.Column(elem_id="main", scale=1):
                prompt = compare.build_prompt()
                with gr.Tabs():
                    with gr.Tab("Compare", id="compare"):
                        pair = compare.build(prompt)
                    with gr.Tab("Masks", id="masks", render_children=True):
                        mask = masks.build()
        wire(demo, top, asked, pair, mask)
    return demo


def wire(demo: gr.Blocks, top: gr.HTML, asked: setup.Setup, pair: compare.Compare, mask: masks.Masks) -> None:
    """Every event of the page."""
    view: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    alone = {"concurrency_limit": 1, "concurrency_id": "model"}  # one drawing at a time, whoever asks
    newest = {**view, "trigger_mode": "always_last"}

    def outlook(*values: Any) -> list[Any]:
        *read, picked = values
        return refreshed(asked, read, picked)

    def look(*values: Any) -> tuple[Any, Any]:
        *read, picked, place = values
        return looked(asked, read, picked, place)

    def ready(opening: Any) -> None:
        """A model was opened: everything that is about the former one is made anew."""
        opening.then(*outlook_events, **view).then(*look_events, **view).then(*help_events, **view)

    outlook_events = (outlook, [*asked.inputs, mask.picked], [
        asked.achieved, asked.problem, mask.layers, pair.stale, asked.family, asked.inner, asked.method,
        asked.explained, asked.pattern, asked.share, asked.spread, asked.seed, *asked.groups.values()])
    look_events = (look, [*asked.inputs, mask.picked, mask.place], [mask.detail, mask.histogram])
    help_events = (compare.help_with, [pair.prompt, asked.source], pair.unknown)
    opened_events = (opened, [asked.source, asked.component], [top, asked.component, asked.load_problem])

    gr.on([asked.component.input, asked.family.input, asked.inner.input, asked.method.input, asked.pattern.input,
           asked.spread.input, asked.ratio.change, asked.protect.blur, asked.protect.submit, asked.only.blur,
           asked.only.submit, asked.seed.change, *(c.change for c in asked.options.values())],
          *outlook_events, **newest).then(*look_events, **newest)
    ready(demo.load(*opened_events, **view))
    mask.layers.select(picked_site, None, [mask.picked, mask.place], **view).then(*look_events, **newest)
    mask.detail.select(picked_place, None, [mask.place], **view).then(*look_events, **newest)

    # A model is loaded. It has a queue of its own: a download must not hold up those who draw.
    ready(asked.model.input(choose_model, [asked.model, asked.source], [asked.other, asked.source, asked.load_problem],
                            **view).then(*opened_events, **view))
    ready(gr.on([asked.load.click, asked.named.submit], load_model, [asked.named, asked.source],
                [asked.source, asked.load_problem], concurrency_id="load", concurrency_limit=1, api_name="load",
                api_visibility="private").success(*opened_events, **view))

    # The pair is drawn.
    def generate(shown: dict[str, Any], *values: Any) -> Iterator[Any]:
        yield from generated(asked, shown, values[: len(pair.inputs)], values[len(pair.inputs) :])

    begin = [pair.generate.click, pair.prompt.submit]
    gr.on(begin, None, None, pair.stop, js=clicks.ENABLE, **view)  # at once, also for those who wait
    running = gr.on(begin, generate, [pair.shown, *pair.inputs, *asked.inputs],
                    [pair.stage, pair.cards, pair.problem, pair.shown, pair.stale, pair.drawing],
                    show_progress="hidden", api_name="generate", **alone)
    # What Stop shows waits until the drawing has really ended: a last step may still be on its way to the page.
    pair.stop.click(None, cancels=[running], **view)
    running.then(ended, [pair.shown, pair.drawing], [pair.stage, pair.cards, pair.stop, pair.problem, pair.drawing],
                 **view)
    pair.dice.click(compare.new_seed, None, pair.seed, **view)
    for chips in (pair.chips, pair.unknown):
        chips.select(said, None, pair.prompt, **view)
    pair.prompt.change(*help_events, **newest)


def picked_site(event: gr.EventData) -> tuple[str, None]:
    """The layer that was clicked; its picture begins in the middle."""
    return event.site, None


def picked_place(event: gr.EventData) -> tuple[float, float]:
    """The place in a mask's picture, as shares of its width and height."""
    return float(event.x), float(event.y)


def said(event: gr.EventData) -> str:
    """What a chip says."""
    return event.said


def refreshed(asked: setup.Setup, read: list[Any], picked: str) -> list[Any]:
    """What a change in the setup shows: the achieved line, the layers, what is greyed out."""
    source, request = asked.asked(read)
    width, nm = request["units"] not in WEIGHTS, request["units"] == "nm"
    shape: list[Any] = [gr.skip()] * 3
    try:
        reasons = device.obstacles(source, request["component"])
        shape = [gr.HTML(options=setup.family_options(reasons)),
                 gr.HTML(options=setup.inner_options(reasons), visible=width),
                 gr.HTML(options=setup.method_options(request["units"]))]
        recipe = device.recipe(source, **request)
        seen = device.outlook(recipe)
        figures = [cards.achieved(recipe.ratio, achieved(seen), seen.notes), "", layers.layers(seen.layers, picked),
                   gr.HTML(plan=recipe.digest)]
    except Refused as error:  # figures of another request would mislead
        figures = ["", alert(error), layers.layers(()), gr.HTML(plan="")]
    family = "width" if width else request["units"]
    return [*figures, *shape, f'<p class="hint">{setup.EXPLAINED[family]}</p>',
            gr.HTML(options=setup.PATTERN_OPTIONS, visible=nm), gr.Group(visible=not nm),
            gr.HTML(options=setup.SPREAD_OPTIONS, visible=not nm),
            gr.Number(visible=setup.seeded(request["method"])),
            *(gr.Group(visible=owner == request["method"]) for owner in asked.groups)]


def achieved(seen: device.Outlook) -> list[tuple[str, float, str]]:
    """The bars under the ratio. What only becomes zero is not called gone."""
    rows = [("units", seen.units, "of all units that may go")]
    if seen.zeros:
        rows.append(("zeros", seen.zeros, "of the component's parameters are zero and stay where they are"))
        if seen.zero_macs is not None:
            rows.append(("idle MACs", seen.zero_macs, "of the multiplications are by zero, and still done"))
    rows.append(("params", seen.params, "of the component's parameters are gone"))
    if seen.macs is not None:
        rows.append(("MACs", seen.macs, "of one pass are gone, attention included"))
    return [*rows, ("disk", seen.disk, "of the component's bytes as saved")]


def looked(asked: setup.Setup, read: list[Any], picked: str, place: tuple[float, float] | None) -> tuple[Any, Any]:
    """The picked layer under the present recipe."""
    if not picked:
        return masks.EMPTY, gr.Plot(visible=False)
    source, request = asked.asked(read)
    try:
        recipe = device.recipe(source, **request)
        if picked not in device.scores(recipe).catalog.sites:
            return masks.EMPTY, gr.Plot(visible=False)
        seen = device.mask(recipe, picked, place)
    except Refused as error:
        return alert(error), gr.skip()
    return masks.shown(seen), masks.figure(seen)


def choose_model(model: str, before: str) -> tuple[Any, str, str]:
    """A listed model is opened at once; another waits for Load."""
    if model == setup.OTHER:
        return gr.Group(visible=True), before, ""
    return gr.Group(visible=False), model, ""


def load_model(named: str, before: str) -> Iterator[tuple[str, str]]:
    """Load another model; when that fails, the one in use stays."""
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


def opened(source: str, component: str) -> tuple[str, Any, Any]:
    """What the page says about the model in use. A component that the model has, too, stays chosen."""
    try:
        model = device.open_model(source)
    except Refused as error:
        return head(source), gr.skip(), alert(error)
    labels = [option(path, label) for path, label in model.components]
    kept = component if component in dict(model.components) else model.components[0][0]
    return head(f"{model.source} · {model.where}"), gr.HTML(value=kept, options=labels), gr.skip()


def generated(asked: setup.Setup, shown: dict[str, Any], shots: Any, read: Any) -> Iterator[Any]:
    """The pair as it is drawn, or one sentence why not; the last good pair is back then."""
    yield gr.skip(), gr.skip(), "", gr.skip(), gr.skip(), True
    source, request = asked.asked(read)
    try:
        for stage, figures, memory in compare.drawn(source, request, compare.shot(shots)):
            mark = gr.HTML(pair=memory["plan"]) if memory else gr.skip()
            yield stage, figures or gr.skip(), "", memory or gr.skip(), mark, not memory
    except Exception as error:
        known = error if isinstance(error, Refused) else in_words(error) if out_of_memory(error) else ""
        yield shown["stage"], shown["cards"], alert(known), gr.skip(), gr.skip(), False
        if not known:  # a fault of ours is shown as one
            raise


def ended(shown: dict[str, Any], drawing: bool) -> tuple[Any, Any, gr.Button, Any, bool]:
    """Nothing is left to stop. A drawing that was stopped leaves the last finished pair, as if it had not begun."""
    off = gr.Button(interactive=False)
    if not drawing:
        return gr.skip(), gr.skip(), off, gr.skip(), False
    note = tag("p", "Stopped. The pair shown is the last that was finished.", class_="hint", role="status")
    return shown["stage"], shown["cards"], off, note, False
