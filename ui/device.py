"""The one seam between the page and the engine: f(recipe, shot) -> small values.

Weights, scores and pruned pipelines stay here, in caches that are bounded in bytes; what crosses is recipes, shots,
numbers and small pictures. One lock serves everyone: it is held for a step at a time, never across a wait.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import psutil
import torch

import pruning
from pruning import images, models, planning, preview, spread
from pruning.clock import Measured, Turn, machine, threads, turns
from pruning.errors import Refused
from pruning.preview import Table, Totals
from pruning.quality import Divergence, compared, judge_for
from pruning.scores import Scores
from pruning.subject import LABELS, components, parts_of, subject
from pruning.types import Plan, Recipe, Shot
from pruning.units.catalog import why_not
from pruning.units.site import WEIGHTS
from ui.kept import GB, Kept
from ui.pairs import Pair
from ui.plots.layers import Layer
from ui.plots.markup import png
from ui.plots.pair import Moment, Side, difference, kept_steps

PUBLIC = bool(os.environ.get("SPACE_ID"))
ALLOWED = tuple(filter(None, map(str.strip, os.environ.get("PRUNESCOPE_MODELS", "").split(","))))

LOCK, LOADING = threading.RLock(), threading.RLock()
SCORES, PLANS, PRUNED, PREVIEWS = Kept(GB // 2), Kept(GB // 8), Kept(GB // 2), Kept(GB // 64)
TABLES, QUANTILES = Kept(GB // 64), Kept(GB // 64)
CLOCKED = 8  # steps of a run on the clock: the median of a step needs no more
PIPES = Kept(psutil.virtual_memory().total // 2, lambda source: forget(source))


@dataclass(frozen=True)
class Opened:
    """A model as the page shows it."""

    source: str
    where: str  # device, threads, type
    components: tuple[tuple[str, str], ...]  # (path, label)


@dataclass(frozen=True)
class Outlook:
    """What a recipe would do, before anything is done: shares of what the component has, and every layer."""

    totals: Totals
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """The pair while it is drawn."""

    dense: Side
    pruned: Side


def forget(source: str) -> None:
    """Let go of what a dropped pipeline left behind: scores and pruned pipelines share its weights."""
    for cache in (SCORES, PLANS, PRUNED, TABLES, QUANTILES):
        cache.drop(lambda key: key.model == source)
    PREVIEWS.drop(lambda key: key == source)


def nbytes(pipe: Any) -> int:
    """Bytes of all weights of a pipeline."""
    return sum(p.numel() * p.element_size() for part in parts_of(pipe).values() for p in part.parameters())


def pipeline(source: str) -> Any:
    """The dense pipeline, loaded once."""
    if PUBLIC and source not in models.BUNDLED and source not in ALLOWED:
        raise Refused("This public page runs its bundled and listed models only.",
                      "Duplicate the Space, or run it on your machine, to load others.")
    found = PIPES.look(source)
    if found is not None:  # a download by somebody else must not hold up a model that is there
        return found
    with LOADING:
        return PIPES.get_or(source, lambda: (pipe := pruning.load(source), nbytes(pipe)))


def open_model(source: str) -> Opened:
    """Load a model, or say why not."""
    source = source.strip()
    if not source:
        raise Refused("No model is named yet.", "Type a hub id such as owner/name, or a folder.")
    pipe = pipeline(source)
    net = subject(pipe).net
    device = next(net.parameters()).device
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {threads()}"
    dtype = str(next(net.parameters()).dtype).removeprefix("torch.")
    named = tuple((path, LABELS.get(path, "Model").removeprefix("The ").capitalize().replace("U-net", "U-Net")
                   .replace("Vae", "VAE")) for path in components(pipe))
    return Opened(source, f"{where}, {dtype}", named)


def obstacles(source: str, component: str) -> dict[str, str | None]:
    """Why a component has no units of a kind; None where it has."""
    net = subject(pipeline(source), component).net
    label = LABELS.get(component, "This model")
    return {units: why_not(net, units, label) for units in ("weight", "nm", "head", "neuron", "channel", "width")}


def recipe(source: str, **asked: Any) -> Recipe:
    """The checked recipe of what the page asks for."""
    return planning.request(pipeline(source), **asked)


def scores(wanted: Recipe) -> Scores:
    """Scores for a recipe, taken once."""
    pipe = pipeline(wanted.model)
    with LOCK:
        return SCORES.get_or(wanted.scoring, lambda: (taken := planning.scored(pipe, wanted), taken.nbytes))


def plan(wanted: Recipe) -> Plan:
    """The plan of a recipe, resolved once."""
    pipe = pipeline(wanted.model)
    with LOCK:
        return PLANS.get_or(wanted, lambda: (planning.resolved(pipe, wanted, scores(wanted)), 1 << 18))


def pruned(wanted: Recipe) -> Any:
    """The pruned pipeline of a recipe, made once; only the component that changed takes memory."""
    def make() -> tuple[Any, int]:
        made = pruning.apply(pipeline(wanted.model), plan(wanted))
        return made, nbytes(subject(made, wanted.component).net)

    with LOCK:
        return PRUNED.get_or(wanted, make)


def outlook(wanted: Recipe) -> Outlook:
    """What a recipe would do: shares in total and per layer, from sketches and shapes, without a pass."""
    scored = scores(wanted)
    going = preview.counts(scored, wanted)
    totals = preview.totals(scored, wanted, going)
    ranks = QUANTILES.get_or(wanted.scoring, lambda: (
        {site.name: preview.quantiles(scored, site) for site in scored.catalog}, 200 * len(scored.catalog.sites)))
    rows = tuple(Layer(site.name, site.kind, site.units, going[site.name],
                       spread.reason(site, going[site.name], wanted), ranks[site.name]) for site in scored.catalog)
    note = ""
    if wanted.units in WEIGHTS:
        note = "The zeros stay in the files and in the arithmetic: nothing gets smaller or faster by itself."
    elif abs(totals.units - wanted.ratio) > 0.005:
        note = "Units are whole, so layers snap to the nearest step that they have: Masks says where."
    return Outlook(totals, rows, (note,) if note else ())


def table(wanted: Recipe) -> Table:
    """What other ratios would do, for the line that answers while one drags. N:M has one ratio only."""
    scored = scores(wanted)
    return TABLES.get_or(replace(wanted, ratio=0.0), lambda: (preview.table(scored, wanted), 1 << 17))


def pair(wanted: Recipe, shot: Shot) -> Iterator[Frame | Pair]:
    """Both pictures, step by step, and at last the finished pair.

    Closing the iterator stops the work and leaves the engine as it was.
    """
    dense, smaller, done = pipeline(wanted.model), pruned(wanted), plan(wanted)
    sides: dict[str, Side] = {}
    apart, film = Divergence(), list[Moment]()
    clocks: dict[str, list[float]] = {"dense": [], "pruned": []}
    finished: dict[str, images.Drawn] = {}
    events = images.draw_pair(dense, smaller, shot)
    while True:
        with LOCK:
            event = next(events, None)
        if event is None:
            break
        if isinstance(event, images.Drawn):
            finished[event.side] = event
            continue
        with LOCK:
            colours = PREVIEWS.get_or(wanted.model, lambda: (images.preview_of(dense), 1 << 10))
        apart.add(event)
        clocks[event.side].append(event.ms)
        sides[event.side] = Side(tuple(png(colours.image(latent)) for latent in event.latents),
                                 median(clocks[event.side]), event.index + 1, event.steps)
        if len(clocks["dense"]) == len(clocks["pruned"]):
            if event.index + 1 in kept_steps(event.steps):
                film.append(Moment(event.index + 1, *(sides[side].pictures[0] for side in ("dense", "pruned"))))
            yield Frame(sides["dense"], sides["pruned"])
    with LOCK:
        report = pruning.report(dense, smaller, done).to_dict()
        far = compared(finished["dense"], finished["pruned"], shot.prompts, apart.steps, judge_for(wanted.model))
    ends = {name: Side(tuple(map(png, drawn.images)), median(drawn.ms), len(drawn.ms), len(drawn.ms),
                       drawn.origin.params, drawn.origin.zeros, drawn.origin.weights)
            for name, drawn in finished.items()}
    changes = tuple(png(difference(a, b))
                    for a, b in zip(finished["dense"].images, finished["pruned"].images, strict=True))
    yield Pair(wanted, shot, ends["dense"], ends["pruned"], changes, tuple(film), report, far.to_dict(),
               machine(dense))
    trim()


def trim() -> None:
    """Hand freed memory back to the system: glibc keeps it, for each of the server's many threads apart."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def measured(old: Pair, repeats: int) -> Iterator[Turn | Pair]:
    """The pair's models on the clock, a whole run at a time, and at last the pair with what was measured."""
    dense, smaller, done = pipeline(old.recipe.model), pruned(old.recipe), plan(old.recipe)
    shot = replace(old.shot, steps=min(old.shot.steps, CLOCKED))
    runs = turns(dense, smaller, shot, repeats)
    while True:
        with LOCK:  # nobody else draws or prunes during a run
            event = next(runs)
            if isinstance(event, Measured):
                yield old.with_report(pruning.report(dense, smaller, done, measured=event).to_dict())
                return
        yield event


def warm(source: str) -> None:
    """Load the bundled model beforehand, so that the first click does not wait for imports."""
    try:
        wanted = recipe(source, method="magnitude", ratio=0.3, units="weight")
        outlook(wanted)
    except Refused:
        return  # the page says so when it is asked
