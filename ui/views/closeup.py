"""One site under the lens: its mask, its scores, its groups, in small values. Asks the seam for scores and plans."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from pruning.decisions import pattern
from pruning.decisions.kind import kind_of
from pruning.network.subject import subject
from pruning.planning import microscope
from pruning.planning.microscope import Microscope
from pruning.spreads import protect
from pruning.timing.kernels import Ceiling, ceiling, kernel_for
from pruning.types import Recipe
from pruning.units.site import indices
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
    scored, decided = device.scores(wanted), device.plan(wanted)
    site, step = scored.catalog.sites[name], decided.steps[-1]
    entry = step.decision.sites.get(name)
    reason = protect.left_alone(site, wanted)
    title = name if reason is None else f"{name} ({reason})"
    if name in scored.values:
        values = scored.values[name]
        kept = set(indices(entry)) if entry is not None else set(range(site.units))
        keep = tuple(u in kept for u in range(site.units))
        net = subject(device.pipeline(wanted.model), wanted.component).net
        return MaskView(site.kind, title, len(kept), site.units, scores=tuple(values.tolist()), keep=keep,
                        quota=site.quota, group=coupling.coupled(scored.catalog, site, site.units - len(kept),
                                                                 coupling.tables(net)))
    looked_at = subject(device.pipeline(wanted.model), wanted.component, wanted.seed)
    stored = looked_at.net.get_parameter(site.tensor).detach()
    weight = site.rows(stored).reshape(-1, site.inputs).float().cpu().numpy()
    if entry is None:
        stays = np.ones(weight.shape, dtype=bool)
    else:
        with device.LOCK:
            ((_, found),) = kind_of(step.decision).masks(looked_at, step, [name])
        stays = site.rows(found).reshape(-1, site.inputs).numpy()
    m, lens = 0, dict[str, Any]()
    if wanted.pattern and entry is not None:
        m = pattern.parse_pattern(wanted.pattern)[1]
        lens = {"micro": microscope.look(site, stored.float(), scored.whole(name), wanted.pattern),
                "kernels": tuple((where, kernel_for(site, tuple(stored.shape), dtype, kind, wanted.pattern))
                                 for where, dtype, kind in devices(stored)), "most": ceilings(wanted)}
    across, down = at = at or (0.5, 0.5)
    row, column = (min(n - 1, int(n * share)) for n, share in zip(weight.shape, (down, across), strict=True))
    picture, pooled = pictures.tiles(stays)
    sketch = scored.sketches[name]
    edges = sketch.edges()
    counts, bins = coarser(sketch.counts, edges)
    threshold = None
    if entry is not None and (level := kind_of(step.decision).level(entry)) is not None:
        threshold = level
    return MaskView(site.kind, title, int(stays.sum()), site.units, picture, pooled, weight.shape,
                    pictures.zoom(stays, row, column, m), at, bins, counts, threshold, weight[row], stays[row], m,
                    **lens)


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
