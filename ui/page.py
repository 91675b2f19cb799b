"""The page: components in the order in which they appear, then its events."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from pruning.errors import Refused
from pruning.models import BUNDLED
from ui import compare, device, masks, setup
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
    outlook_outputs = [asked.achieved, asked.problem, mask.layers, pair.stale, asked.family, asked.inner, asked.method,
                       asked.explained, asked.pattern, asked.ratio, asked.spread, *asked.options.values()]

    def outlook(*values: Any) -> list[Any]:
        *read, picked, shown = values
        source, request = asked.asked(read)
        return refreshed(asked, source, request, read[2], picked, shown)

    changed = gr.on([asked.component.input, asked.family.input, asked.inner.input, asked.method.input,
                     asked.pattern.input, asked.spread.input, asked.ratio.change, asked.protect.blur,
                     asked.protect.submit, asked.only.blur, asked.only.submit, asked.seed.change,
                     *(c.change for c in asked.options.values()), demo.load],
                    outlook, [*asked.inputs, mask.picked, pair.shown], outlook_outputs, trigger_mode="always_last",
                    api_name="outlook", **view)
    detail = ([mask.detail, mask.histogram], {**view, "trigger_mode": "always_last"})

    def look(*values: Any) -> tuple[Any, Any]:
        *read, picked, place = values
        return looked(asked, read, picked, place)

    changed.then(look, [*asked.inputs, mask.picked, mask.place], detail[0], **detail[1])

    def pick(event: gr.EventData) -> tuple[str, None]:
        return event.site, None

    def point(event: gr.EventData) -> tuple[float, float]:
        return float(event.x), float(event.y)

    mask.layers.select(pick, None, [mask.picked, mask.place], **view).then(
        look, [*asked.inputs, mask.picked, mask.place], detail[0], **detail[1])
    mask.detail.select(point, None, [mask.place], **view).then(
        look, [*asked.inputs, mask.picked, mask.place], detail[0], **detail[1])

    # A model is loaded.
    asked.model.input(choose_model, [asked.model], [asked.other, asked.source, asked.load_problem], **view).then(
        opened, [asked.source], [top, asked.component, asked.load_problem], **view).then(
        outlook, [*asked.inputs, mask.picked, pair.shown], outlook_outputs, **view)
    loaded = gr.on([asked.load.click, asked.named.submit], load_model, [asked.named, asked.source],
                   [asked.source, asked.load_problem], concurrency_id="model", concurrency_limit=1,
                   api_name="load", api_visibility="private")
    loaded.then(opened, [asked.source], [top, asked.component, asked.load_problem], **view).then(
        outlook, [*asked.inputs, mask.picked, pair.shown], outlook_outputs, **view)
    demo.load(opened, [asked.source], [top, asked.component, asked.load_problem], **view)

    # The pair is drawn.
    def generate(*values: Any) -> Iterator[Any]:
        shots, read = values[: len(pair.inputs)], values[len(pair.inputs) :]
        yield from generated(asked, shots, read)

    running = gr.on([pair.generate.click, pair.prompt.submit], generate, [*pair.inputs, *asked.inputs],
                    [pair.stage, pair.cards, pair.problem, pair.shown, pair.stale, pair.stop], concurrency_id="model",
                    concurrency_limit=1, show_progress="hidden", api_name="generate")
    pair.stop.click(stopped, [pair.shown], [pair.stage, pair.cards, pair.stop, pair.problem], cancels=[running],
                    **view)
    pair.dice.click(compare.new_seed, None, pair.seed, **view)
    for chips in (pair.chips, pair.unknown):
        chips.select(said, None, pair.prompt, **view)
    pair.prompt.change(compare.help_with, [pair.prompt, asked.source], pair.unknown, trigger_mode="always_last", **view)


def said(event: gr.EventData) -> str:
    """What a chip says."""
    return event.said


def refreshed(asked: setup.Setup, source: str, request: dict[str, Any], family: str, picked: str,
              shown: dict[str, Any] | None) -> list[Any]:
    """What a change in the setup shows: the achieved line, the layers, what is greyed out, whether the pair is old."""
    reasons = device.obstacles(source, request["component"])
    width, nm = family == "width", family == "nm"
    shape = [gr.HTML(options=setup.family_options(reasons)),
             gr.HTML(options=setup.inner_options(reasons), visible=width),
             gr.HTML(options=setup.method_options(request["units"])),
             f'<p class="hint">{setup.EXPLAINED[family]}</p>',
             gr.HTML(options=setup.PATTERN_OPTIONS, visible=nm), gr.Slider(visible=not nm),
             gr.HTML(options=setup.SPREAD_OPTIONS, visible=not nm),
             *(type(c)(visible=owner == request["method"] and width) for (owner, _), c in asked.options.items())]
    try:
        recipe = device.recipe(source, **request)
        seen = device.outlook(recipe)
    except Refused as error:
        return ["", alert(error), gr.skip(), gr.skip(), *shape]  # an achieved line of another request would mislead
    rows = [("units", seen.units, "the share of all units that may go"),
            ("params", seen.params, "of the component's parameters"),
            *([("MACs", seen.macs, "without zeros, if a kernel could skip them" if not seen.disk else
                "of one pass, attention included")] if seen.macs is not None else []),
            ("disk", seen.disk, "of the component's bytes as saved")]
    old = shown and shown.get("recipe") and shown["recipe"] != recipe.to_dict()
    note = tag("p", "The pictures are from an earlier plan. Press Generate to draw with this one.") if old else ""
    return [cards.achieved(recipe.ratio, rows, seen.notes), "", layers.layers(seen.layers, picked), note, *shape]


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


def choose_model(model: str) -> tuple[Any, Any, str]:
    """A bundled model is there at once; another waits for Load."""
    if model == setup.OTHER:
        return gr.Group(visible=True), gr.skip(), ""
    return gr.Group(visible=False), model, ""


def load_model(named: str, before: str) -> Iterator[tuple[str, str]]:
    """Load another model; when that fails, the one in use stays."""
    yield before, tag("p", text(f"Loading {named}. A download can take minutes."), class_="hint", role="status")
    try:
        device.open_model(named)
    except Refused as error:
        yield before, alert(error)
        return
    yield named.strip(), ""


def opened(source: str) -> tuple[str, Any, Any]:
    """What the page says about the model in use."""
    try:
        model = device.open_model(source)
    except Refused as error:
        return head(source), gr.skip(), alert(error)
    labels = [option(path, label) for path, label in model.components]
    return head(f"{model.source} · {model.where}"), gr.HTML(value=model.components[0][0], options=labels), gr.skip()


def generated(asked: setup.Setup, shots: Any, read: Any) -> Iterator[Any]:
    """The pair as it is drawn, or one sentence why not; the last good pair stays then."""
    yield gr.skip(), gr.skip(), "", gr.skip(), "", gr.Button(interactive=True)
    source, request = asked.asked(read)
    try:
        for stage, figures, memory in compare.drawn(source, request, compare.shot(shots)):
            yield stage, figures or gr.skip(), "", memory or gr.skip(), "", gr.Button(interactive=memory is None)
    except (Refused, MemoryError, RuntimeError) as error:
        if not isinstance(error, Refused) and "memory" not in str(error).lower():
            raise
        sentence = error if isinstance(error, Refused) else Refused(
            "There is not enough memory to draw this.", "Ask for fewer images a side, or a smaller model.")
        yield gr.skip(), gr.skip(), alert(sentence), gr.skip(), gr.skip(), gr.Button(interactive=False)


def stopped(shown: dict[str, Any]) -> tuple[str, str, Any, str]:
    """The last finished pair, as if nothing had been begun."""
    return shown["stage"], shown["cards"], gr.Button(interactive=False), tag(
        "p", "Stopped. The pair above is the last that was finished.", class_="hint", role="status")

