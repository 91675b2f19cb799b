"""The one seam between the page and the engine: f(recipe, shot) -> small values.

Weights, scores and pruned pipelines stay here, in caches that are bounded in bytes; what crosses is recipes, shots,
numbers and small pictures. One lock serves everyone: it is held for a step at a time, never across a wait.
"""

import fnmatch
import os
import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

import pruning
from pruning.cache import GB, Cache
from pruning.calibration import samples
from pruning.criteria import METHODS
from pruning.decisions import applying
from pruning.drawing import canvas
from pruning.errors import Refused
from pruning.models import sources
from pruning.network import memory
from pruning.network.subject import LABELS, components, parts_of, subject
from pruning.observe import timesteps
from pruning.planning import preview, request, resolve
from pruning.planning.overlap import Overlap, overlapping
from pruning.planning.preview import Table, Totals
from pruning.progress import Looked, drained
from pruning.scores import repeats
from pruning.scores.scores import Curve, Scores
from pruning.spreads import deciding, protect
from pruning.spreads.spread import spread_of
from pruning.timing.machine import threads
from pruning.types import Calibration, Plan, Recipe
from pruning.units.catalog import why_not
from pruning.units.unit import single
from ui import limits
from ui.turns import Turns
from ui.values import Layer

PUBLIC = bool(os.environ.get("SPACE_ID"))
ALLOWED = tuple(filter(None, map(str.strip, os.environ.get("PRUNESCOPE_MODELS", "").split(","))))

MEMORY = memory.limit()
PART = min(GB, MEMORY // 16)  # what a cache's share is measured in: all of them together take three of it
LOCK, LOADING = Turns(), threading.RLock()
SCORES, PLANS = Cache("scores", PART // 2), Cache("plans", PART // 16)
PRUNED, PREVIEWS = Cache("pruned pipelines", PART // 2), Cache("previews", PART // 64)
TRAININGS, TRAINED = Cache("trainings", PART), Cache("trained pipelines", PART // 2)  # by recipe and options
TABLES, QUANTILES = Cache("tables", PART // 64), Cache("quantiles", PART // 64)
MISSED = Cache("sensitivities", PART // 256)
QUICK = 50_000_000  # weights that are scored while one waits
T = TypeVar("T")
E = TypeVar("E")
PIPES = Cache("pipelines", MEMORY // 2, lambda source: forget(source))


@dataclass(frozen=True)
class Opened:
    """A model as the page shows it."""

    source: str
    where: str  # device, threads, type
    components: tuple[tuple[str, str], ...]  # (path, label)
    prompted: bool  # whether it draws what it is told


@dataclass(frozen=True)
class Outlook:
    """What a recipe would do, before anything is done: shares of what the component has, and every layer."""

    totals: Totals
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    unsure: float = 0.0  # by how much the share of a layer may be off, until the plan is made


def forget(source: str) -> None:
    """Let go of what a dropped pipeline left behind: scores and pruned pipelines share its weights."""
    for cache in (SCORES, PLANS, PRUNED, TABLES, QUANTILES, MISSED):
        cache.drop(lambda key: key.model == source)
    for cache in (TRAININGS, TRAINED):
        cache.drop(lambda key: key[0].model == source)
    PREVIEWS.drop(lambda key: key == source)


def nbytes(pipe: Any) -> int:
    """Bytes of all weights of a pipeline."""
    return sum(p.numel() * p.element_size() for part in parts_of(pipe).values() for p in part.parameters())


def pipeline(source: str) -> Any:
    """The dense pipeline, loaded once."""
    if PUBLIC and source not in sources.BUNDLED and source not in ALLOWED:
        raise Refused("This public page runs its bundled and listed models only.",
                      "Duplicate the Space, or run it on your machine, to load others.")
    found = PIPES.look(source)
    if found is not None:  # a download by somebody else must not hold up a model that is there
        return found
    with LOADING:
        weights = "random" if source in sources.SLUGS else "trained"
        return PIPES.get_or(source, lambda: (pipe := pruning.load(source, weights=weights), nbytes(pipe)))


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
    around = canvas.of(pipe)
    return Opened(source, f"{where}, {dtype}", named, around is None or around.prompted)


def obstacles(source: str, component: str) -> dict[str, str | None]:
    """Why a component has no units of a kind, or cannot be looked at; None where it can."""
    looked_at = subject(pipeline(source), component)
    label = LABELS.get(component, "This model")
    kinds = {units: why_not(looked_at.net, units, label)
             for units in ("weight", "nm", "head", "neuron", "channel", "width")}
    return kinds | {sees: samples.why_not(looked_at, sees) for sees in ("inputs", "gradients")}


def recipe(source: str, **asked: Any) -> Recipe:
    """The checked recipe of what the page asks for.

    A calibration whose source is open takes the model's usual one. Ratios of single layers of another component, which
    the page remembers, are left out.
    """
    looks = asked["calibration"] = Calibration.of(asked.get("calibration"))
    limits.request(asked)
    pipe = pipeline(source)
    if own := asked.get("overrides"):
        names = [name for name, _ in subject(pipe, asked.get("component")).net.named_modules()]
        there = set(names)
        asked["overrides"] = {glob: ratio for glob, ratio in own.items()
                              if glob in there or fnmatch.filter(names, glob)}
    if PUBLIC and looks and looks.source not in ("", "bundled", "generated", "noise"):
        raise Refused("This public page looks at its own samples.",
                      "Duplicate the Space, or run it on your machine, to look at pictures of yours.")
    return request.request(pipe, **asked)


def known(wanted: Recipe) -> bool:
    """Whether all that a recipe has to look at has been looked at."""
    trying = spread_of(wanted).looks(wanted)
    return SCORES.look(wanted.scoring) is not None and (trying is None or MISSED.look(trying) is not None)


def needed(wanted: Recipe) -> Recipe:
    """The part of a request that it has to look at."""
    return spread_of(wanted).looks(wanted) or wanted.scoring


def quick(wanted: Recipe) -> bool:
    """Whether scores are there, or can be in no time: those of weights alone, of a small model."""
    if known(wanted):
        return True
    if spread_of(wanted).sees != "weights":
        return False
    net = subject(pipeline(wanted.model), wanted.component).net
    return wanted.calibration is None and sum(p.numel() for p in net.parameters()) < QUICK


def looking(wanted: Recipe) -> Generator[Looked, None, None]:
    """Look at all that a recipe needs, step by step; then it is there. Closing the iterator stops the work."""
    if SCORES.look(wanted.scoring) is None:
        taken = yield from stepwise(resolve.scoring(pipeline(wanted.model), wanted))
        SCORES.get_or(wanted.scoring, lambda: (taken, taken.nbytes))
    if not known(wanted):
        yield from _tried(wanted)


def _tried(wanted: Recipe) -> Generator[Looked, None, None]:
    """Prune one layer at a time, at shares that do not depend on the ratio: every ratio follows from what is found."""
    looked_at = subject(pipeline(wanted.model), wanted.component, wanted.seed)
    spread, trying = spread_of(wanted), needed(wanted)
    found = yield from stepwise(spread.measuring(looked_at, trying, scores(wanted)))
    MISSED.get_or(trying, lambda: (found, 400 * len(found.errors)))


def stepwise(work: Generator[E, None, T]) -> Generator[E, None, T]:
    """Some work of which nobody else is kept waiting for more than a step."""
    try:
        while True:
            with LOCK:
                event = next(work)
            yield event
    except StopIteration as done:
        return done.value


def settled(wanted: Recipe) -> Recipe:
    """A recipe with the ratios that a spread by sensitivity comes to; any other as it is."""
    if (trying := spread_of(wanted).looks(wanted)) is None:
        return wanted
    while (found := MISSED.look(trying)) is None:
        drained(looking(wanted))
    return found.divided(wanted, scores(wanted))


def agreement(wanted: Recipe, method: str) -> Generator[Looked, None, dict[str, Overlap]]:
    """How far another method wants the same to go, at the same ratio and spread."""
    same = ("component", "units", "pattern", "of", "spread", "protect", "only", "seed", "most", "calibration")
    rival = recipe(wanted.model, method=method, ratio=None if wanted.pattern else wanted.ratio,
                   overrides=dict(wanted.overrides), **{name: getattr(wanted, name) for name in same})
    for one in (wanted, rival):
        yield from looking(one)
    return (yield from stepwise(overlapping(scores(wanted), settled(wanted), scores(rival), settled(rival))))


def scores(wanted: Recipe) -> Scores:
    """Scores for a recipe, taken once. Those that are there do not wait for what somebody else is doing."""
    if (found := SCORES.look(wanted.scoring)) is not None:
        return found
    pipe = pipeline(wanted.model)
    with LOCK:
        return SCORES.get_or(wanted.scoring, lambda: (taken := drained(resolve.scoring(pipe, wanted)), taken.nbytes))


def plan(wanted: Recipe) -> Plan:
    """The plan of a recipe, resolved once."""
    return drained(planned(wanted))


def planned(wanted: Recipe) -> Generator[Looked, None, Plan]:
    """The same, step by step."""
    wanted = settled(wanted)
    if (found := PLANS.look(wanted)) is not None:
        return found
    found = yield from stepwise(resolve.resolving(pipeline(wanted.model), wanted, scores(wanted)))
    return PLANS.get_or(wanted, lambda: weighed(found))


def weighed(found: Plan) -> tuple[Plan, int]:
    """A plan and its bytes: those of its masks, and some for the rest."""
    return found, (1 << 18) + sum(bits.nbytes for bits in found.tensors.values())


def pruned(wanted: Recipe) -> Generator[Looked, None, Any]:
    """The pruned pipeline of a recipe, made once; only the component that changed takes memory."""
    if PRUNED.look(wanted) is None:
        yield from looking(wanted)
    wanted = settled(wanted)
    found = PRUNED.look(wanted)
    if found is None:
        decided = yield from planned(wanted)
        found = yield from stepwise(applying.applying(pipeline(wanted.model), decided))
        found = PRUNED.get_or(wanted, lambda: (found, nbytes(subject(found, wanted.component).net)))
    return found


def outlook(wanted: Recipe) -> Outlook:
    """What a recipe would do: shares in total and per layer, from sketches and shapes, without a pass."""
    scored, exact = scores(wanted), settled(wanted)
    going = preview.counts(scored, exact)
    totals = preview.totals(scored, exact, going)
    ranks = QUANTILES.get_or(wanted.scoring, lambda: (
        {site.name: preview.quantiles(scored, site) for site in scored.catalog}, 200 * len(scored.catalog.sites)))
    rows = tuple(Layer(site.name, site.kind, site.units, going[site.name],
                       deciding.reason(site, going[site.name], exact), ranks[site.name],
                       tuple(scored.profiles[site.name].tolist()) if site.name in scored.profiles else (),
                       protect.ratio_of(site, wanted)) for site in scored.catalog)
    note = ""
    if single(wanted.units):
        note = "The zeros stay in the files and in the arithmetic: nothing gets smaller or faster by itself."
    elif abs(totals.units - wanted.ratio) > 0.005:
        note = "Units are whole, so layers snap to the steps that they have: Masks says where."
    notes = [text for text in (note, multiples(scored, exact, totals), repeats.said(scored.repeatability)) if text]
    return Outlook(totals, rows, tuple(notes), preview.unsure(scored, exact))


def multiples(scored: Scores, wanted: Recipe, totals: Totals) -> str:
    """What it costs that widths stay multiples of something; nothing where they may be any."""
    if wanted.multiple == 1:
        return ""
    free = replace(wanted, multiple=1)
    try:
        without = preview.totals(scored, free, preview.counts(scored, free))
    except Refused:
        return ""
    what, now, then = ("MACs", totals.macs, without.macs) if totals.macs is not None and without.macs is not None else (
        "params", totals.params, without.params)
    return (f"Widths in multiples of {wanted.multiple}: {now:.1%} of the {what} go; at any width "
            f"{then:.1%} would.").replace("%", " %")


def curve(wanted: Recipe) -> Curve | None:
    """The loss at single timesteps and which of them count, of a method that listens to some, once it has listened."""
    method = METHODS.make(wanted.method, dict(wanted.options))
    if not hasattr(method, "curve") or wanted.calibration is None:
        return None
    looked_at = subject(pipeline(wanted.model), wanted.component, wanted.seed)
    taken = timesteps.known(looked_at, wanted.calibration, method.every)
    return None if taken is None else method.curve(looked_at, wanted.calibration, taken)


def table(wanted: Recipe) -> Table:
    """What other ratios would do, for the line that answers while one drags. N:M has one ratio only."""
    scored = scores(wanted)
    return TABLES.get_or(replace(wanted, ratio=0.0), lambda: (preview.table(scored, wanted, settled), 1 << 17))


def warm(source: str) -> None:
    """Load the bundled model beforehand, so that the first click does not wait for imports."""
    try:
        wanted = recipe(source, method="magnitude", ratio=0.3, units="weight")
        outlook(wanted)
    except Refused:
        return  # the page says so when it is asked
