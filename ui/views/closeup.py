"""One site under the lens: its mask, its scores, its groups, in small values. Asks the seam for scores and plans."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from pruning.decisions import pattern
from pruning.decisions.kind import kind_of
from pruning.network.subject import Subject, subject
from pruning.planning import microscope
from pruning.planning.microscope import Microscope
from pruning.spreads import protect
from pruning.timing.kernels import Ceiling, ceiling, kernel_for
from pruning.types import PlanStep, Recipe
from pruning.units.site import Site, indices
from ui import device
from ui.plots import mask as pictures
from ui.plots.group import Group
from ui.views import coupling


@dataclass(frozen=True)
class MaskView:
    """One site's mask in small values. ``picture`` and ``near`` are pictures; larger units have ``group`` instead."""

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
    group: Group | None = None
    micro: Microscope | None = None
    kernels: tuple[tuple[str, str | None], ...] = ()  # (device, why it has no kernel for this layer; None where it has)
    most: tuple[tuple[str, Ceiling], ...] = ()  # (device, what such kernels can win for the whole component)


def mask(wanted: Recipe, name: str, at: tuple[float, float] | None = None) -> MaskView:
    """One site's mask: as tiles, and as single weights around ``at`` (shares of the width and height)."""
    scored = device.scores(wanted)
    site, step = scored.catalog.sites[name], device.plan(wanted).steps[-1]
    reason = protect.left_alone(site, wanted)
    title = name if reason is None else f"{name} ({reason})"
    if name in scored.values:
        return units(wanted, site, step, title)
    return weights(wanted, site, step, title, at or (0.5, 0.5))


def units(wanted: Recipe, site: Site, step: PlanStep, title: str) -> MaskView:
    """Heads, neurons or channels: which stay, and what goes along with them."""
    scored, entry = device.scores(wanted), step.decision.sites.get(site.name)
    kept = set(range(site.units) if entry is None else indices(entry))
    net = subject(device.pipeline(wanted.model), wanted.component).net
    group = coupling.coupled(scored.catalog, site, site.units - len(kept), coupling.tables(net))
    return MaskView(site.kind, title, len(kept), site.units, scores=tuple(scored.values[site.name].tolist()),
                    keep=tuple(unit in kept for unit in range(site.units)), quota=site.quota, group=group)


def weights(wanted: Recipe, site: Site, step: PlanStep, title: str, at: tuple[float, float]) -> MaskView:
    """Single weights: all of them as tiles, those around a place one by one, their scores, and a pattern's groups."""
    looked_at = subject(device.pipeline(wanted.model), wanted.component, wanted.seed)
    stored = looked_at.net.get_parameter(site.tensor).detach()
    rows = site.rows(stored).reshape(-1, site.inputs).float().cpu().numpy()
    stays, entry = staying(looked_at, step, site, rows.shape), step.decision.sites.get(site.name)
    row, column = (min(n - 1, int(n * share)) for n, share in zip(rows.shape, reversed(at), strict=True))
    m = pattern.parse_pattern(wanted.pattern)[1] if wanted.pattern and entry is not None else 0
    sketch = device.scores(wanted).sketches[site.name]
    counts, edges = coarser(sketch.counts, sketch.edges())
    picture, pooled = pictures.tiles(stays)
    return MaskView(site.kind, title, int(stays.sum()), site.units, picture, pooled, rows.shape,
                    pictures.zoom(stays, row, column, m), at, edges, counts,
                    None if entry is None else kind_of(step.decision).level(entry), rows[row], stays[row], m,
                    **(lens(wanted, site, stored) if m else {}))


def staying(looked_at: Subject, step: PlanStep, site: Site, shape: tuple[int, ...]) -> np.ndarray:
    """Which weights stay, as rows."""
    if site.name not in step.decision.sites:
        return np.ones(shape, dtype=bool)
    with device.LOCK:
        ((_, found),) = kind_of(step.decision).masks(looked_at, step, [site.name])
    return site.rows(found).reshape(-1, site.inputs).numpy()


def lens(wanted: Recipe, site: Site, stored: torch.Tensor) -> dict[str, Any]:
    """What a pattern keeps in its groups, which kernels skip the rest, and what they can win."""
    assert wanted.pattern is not None
    whole = device.scores(wanted).whole(site.name)
    kernels = tuple((where, kernel_for(site, tuple(stored.shape), dtype, kind, wanted.pattern))
                    for where, dtype, kind in devices(stored))
    return {"micro": microscope.look(site, stored.float(), whole, wanted.pattern), "kernels": kernels,
            "most": ceilings(wanted)}


def devices(tensor: torch.Tensor) -> tuple[tuple[str, torch.dtype, str], ...]:
    """(words, type, kind): this device as it computes, and a GPU with sparse tensor cores to compare it with."""
    here = tensor.device.type
    gpu = ("a GPU with 2:4 kernels, half precision", torch.float16, "cuda")
    return (("this GPU" if here == "cuda" else "this CPU", tensor.dtype, here), *(() if here == "cuda" else (gpu,)))


def ceilings(wanted: Recipe) -> tuple[tuple[str, Ceiling], ...]:
    """How much faster the component can get by N:M at most, here and on a GPU with such kernels."""
    scored = device.scores(wanted)
    net = subject(device.pipeline(wanted.model), wanted.component).net
    sites = [site for site in scored.catalog if not protect.left_alone(site, wanted)]
    return tuple((where, ceiling(sites, scored.catalog.costs, dtype, kind, wanted.pattern or "2:4"))
                 for where, dtype, kind in devices(next(net.parameters())))


def coarser(counts: torch.Tensor, edges: torch.Tensor, most: int = 60) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The histogram in at most ``most`` bins, without the long tail of the smallest 0.1 % of scores."""
    share = counts.cumsum(0) / counts.sum()
    first = int((share < 0.001).sum())
    first = min(first, max(0, len(counts) - 2))
    step = max(1, -(-(len(counts) - first) // most))
    starts = list(range(first, len(counts), step))
    merged = tuple(int(counts[s : s + step].sum()) for s in starts)
    return merged, (*(float(edges[s]) for s in starts), float(edges[-1]))
