"""The one seam between the page and the engine: f(recipe, shot) -> small values.

Weights, scores and pruned pipelines stay here, in caches that are bounded in bytes; what crosses is recipes, shots,
numbers and small pictures. One lock serves everyone: it is held for a step at a time, never across a wait.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

import pruning
from pruning import images, models, planning, spread, surgery
from pruning.clock import threads
from pruning.errors import Refused
from pruning.scores import Scores
from pruning.subject import LABELS, components, parts_of, subject
from pruning.types import Plan, Recipe, Shot
from pruning.units.catalog import why_not
from pruning.units.site import indices
from ui.kept import GB, Kept
from ui.plots import mask as pictures
from ui.plots.layers import Layer
from ui.plots.markup import png
from ui.plots.pair import Side, difference

PUBLIC = bool(os.environ.get("SPACE_ID"))
ALLOWED = tuple(filter(None, map(str.strip, os.environ.get("PRUNESCOPE_MODELS", "").split(","))))

LOCK, LOADING = threading.RLock(), threading.RLock()
SCORES, PLANS, PRUNED, PREVIEWS = Kept(GB // 2), Kept(GB // 8), Kept(2 * GB), Kept(GB // 64)
PIPES = Kept(psutil.virtual_memory().total // 2, lambda source: forget(source))


@dataclass(frozen=True)
class Opened:
    """A model as the page shows it."""

    source: str
    where: str  # device, threads, type
    components: tuple[tuple[str, str], ...]  # (path, label)


@dataclass(frozen=True)
class Outlook:
    """What a recipe would do, before anything is done: shares of what the component has.

    ``zeros`` and ``zero_macs`` count what stays in place as zeros; ``params``, ``macs`` and ``disk`` what really goes.
    """

    units: float
    params: float
    macs: float | None
    disk: float
    layers: tuple[Layer, ...]
    zeros: float = 0.0
    zero_macs: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """The pair at one moment. The last frame has the report, the differences and the pruned fingerprint."""

    dense: Side
    pruned: Side
    done: bool = False
    report: dict[str, Any] | None = None
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskView:
    """One site's mask in small values. ``picture`` and ``near`` are pictures; ``strip`` is for larger units."""

    kind: str
    title: str
    kept: int
    units: int
    picture: Image.Image | None = None
    pooled: tuple[int, int] = (1, 1)
    shape: tuple[int, int] = (0, 0)
    near: Image.Image | None = None
    at: tuple[float, float] = (0.5, 0.5)
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    threshold: float | None = None
    row: np.ndarray | None = None
    row_keep: np.ndarray | None = None
    m: int = 0
    scores: tuple[float, ...] = ()
    keep: tuple[bool, ...] = ()
    quota: int = 1


def forget(source: str) -> None:
    """Let go of what a dropped pipeline left behind: scores and pruned pipelines share its weights."""
    for cache in (SCORES, PLANS, PRUNED):
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
    """What a recipe would do: shares in total and per layer, counted from the plan and the shapes."""
    decided, scored = plan(wanted), scores(wanted)
    catalog, decision = scored.catalog, decided.steps[-1].decision
    gone = {site.name: spread.gone(decision, site) for site in catalog}
    free = [site for site in catalog if not spread.protected(site, wanted)]
    units = sum(gone[site.name] for site in free) / max(1, sum(site.units for site in free))
    rows = tuple(Layer(site.name, site.kind, site.units, gone[site.name],
                       spread.reason(site, gone[site.name], wanted)) for site in catalog)
    params, macs = catalog.costs.count()
    if decision.kind == "keep":
        after = catalog.count({name: site.units - gone[name] for name, site in catalog.sites.items() if gone[name]})
        share = 1 - after[0] / params
        note = "Units are whole, so layers snap to the nearest step that they have: Masks says where."
        return Outlook(units, share, 1 - after[1] / macs if macs else None, share, rows,
                       notes=(note,) if abs(units - wanted.ratio) > 0.005 else ())
    idle = sum(gone[site.name] * catalog.costs.uses.get(site.tensor, 0) for site in catalog)
    return Outlook(units, 0.0, 0.0 if macs else None, 0.0, rows, sum(gone.values()) / params,
                   idle / macs if macs else None,
                   ("The zeros stay in the files and in the arithmetic: nothing gets smaller or faster by itself.",))


def pair(wanted: Recipe, shot: Shot) -> Iterator[Frame]:
    """Both pictures, step by step. Closing the iterator stops the work and leaves the engine as it was."""
    dense, smaller, done = pipeline(wanted.model), pruned(wanted), plan(wanted)
    sides: dict[str, Side] = {}
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
            preview = PREVIEWS.get_or(wanted.model, lambda: (images.preview_of(dense), 1 << 10))
        clocks[event.side].append(event.ms)
        sides[event.side] = Side(tuple(png(preview.image(latent)) for latent in event.latents),
                                 median(clocks[event.side]), event.index + 1, event.steps)
        if len(clocks["dense"]) == len(clocks["pruned"]):
            yield Frame(sides["dense"], sides["pruned"])
    with LOCK:
        report = pruning.report(dense, smaller, done).to_dict()
    ends = {name: Side(tuple(map(png, drawn.images)), median(drawn.ms), len(drawn.ms), len(drawn.ms),
                       drawn.origin.params, drawn.origin.zeros, drawn.origin.weights)
            for name, drawn in finished.items()}
    changes = tuple(png(difference(a, b))
                    for a, b in zip(finished["dense"].images, finished["pruned"].images, strict=True))
    yield Frame(ends["dense"], ends["pruned"], True, report, changes)


def mask(wanted: Recipe, name: str, at: tuple[float, float] | None = None) -> MaskView:
    """One site's mask: as tiles, and as single weights around ``at`` (shares of the width and height)."""
    scored, decided = scores(wanted), plan(wanted)
    site, step = scored.catalog.sites[name], decided.steps[-1]
    entry = step.decision.sites.get(name)
    reason = spread.left_alone(site, wanted)
    title = name if reason is None else f"{name} ({reason})"
    if name in scored.values:
        values = scored.values[name]
        kept = set(indices(entry)) if entry is not None else set(range(site.units))
        keep = tuple(u in kept for u in range(site.units))
        return MaskView(site.kind, title, len(kept), site.units, scores=tuple(values.tolist()), keep=keep,
                        quota=site.quota)
    looked_at = subject(pipeline(wanted.model), wanted.component, wanted.seed)
    weight = site.rows(looked_at.net.get_parameter(site.tensor).detach()).float().cpu().numpy()
    if entry is None:
        stays = np.ones(weight.shape, dtype=bool)
    else:
        with LOCK:
            ((_, found),) = surgery.kept_masks(looked_at, step, [name])
        stays = found.cpu().numpy()
    m = spread.parse_pattern(wanted.pattern)[1] if wanted.pattern and entry is not None else 0
    across, down = at = at or (0.5, 0.5)
    row, column = (min(n - 1, int(n * share)) for n, share in zip(weight.shape, (down, across), strict=True))
    picture, pooled = pictures.tiles(stays)
    sketch = scored.sketches[name]
    edges = sketch.edges()
    counts, bins = coarser(sketch.counts, edges)
    threshold = None
    if step.decision.kind == "threshold" and entry is not None:
        threshold = float(torch.tensor(entry[0], dtype=torch.int32).view(torch.float32))
    return MaskView(site.kind, title, int(stays.sum()), site.units, picture, pooled, weight.shape,
                    pictures.zoom(stays, row, column, m), at, bins, counts, threshold, weight[row], stays[row], m)


def coarser(counts: torch.Tensor, edges: torch.Tensor, most: int = 60) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The histogram in at most ``most`` bins, without the long tail of the smallest 0.1 % of scores."""
    share = counts.cumsum(0) / counts.sum()
    first = int((share < 0.001).sum())
    first = min(first, max(0, len(counts) - 2))
    step = max(1, -(-(len(counts) - first) // most))
    starts = list(range(first, len(counts), step))
    merged = tuple(int(counts[s : s + step].sum()) for s in starts)
    return merged, (*(float(edges[s]) for s in starts), float(edges[-1]))


def warm(source: str) -> None:
    """Load the bundled model beforehand, so that the first click does not wait for imports."""
    try:
        wanted = recipe(source, method="magnitude", ratio=0.3, units="weight")
        outlook(wanted)
    except Refused:
        return  # the page says so when it is asked
