"""Prunescope's engine: pick what a diffusion model can lose, take it out, draw with both, count and measure.

    pipe = pruning.load("emoji-sd")
    plan = pruning.plan(pipe, method="magnitude", ratio=0.5)
    smaller = pruning.apply(pipe, plan)
    report = pruning.report(pipe, smaller, plan)

Knows neither gradio nor plotly.
"""

import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

if sys.orig_argv[1:3] == ["-m", "pruning"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while torch loads for the command line; ``shell`` goes on

import torch

from pruning import criteria, decisions, recovery, spreads, systems, units
from pruning.criteria import METHODS
from pruning.decisions import DECISIONS, applying
from pruning.decisions.kind import carried
from pruning.drawing import images
from pruning.drawing.images import Drawn, Stepped
from pruning.errors import Later, Refused, put_in_words
from pruning.models import sources
from pruning.planning import request, resolve
from pruning.progress import drained
from pruning.recovery import Recovery
from pruning.registry import knobs
from pruning.reports import accounting
from pruning.reports.report import LayerReport, Report
from pruning.scores.scores import Scores
from pruning.spreads import SPREADS
from pruning.timing import clock
from pruning.timing.clock import Measured
from pruning.types import DEFAULT_PROTECT, Calibration, Plan, Recipe, Shot
from pruning.units import UNITS
from pruning.values import instance, told

UNITS.fill(units.__name__)
DECISIONS.fill(decisions.__name__)
UNITS.require(carried)
SPREADS.fill(spreads.__name__)
METHODS.fill(criteria.__name__)
METHODS.fill(systems.__name__)
DEFAULT = DEFAULT_PROTECT
SHOT = 'Give a pruning.Shot, such as pruning.Shot("a cat").'


class Method(NamedTuple):
    """One row of ``methods``."""

    name: str
    family: str
    units: tuple[str, ...]
    options: Mapping[str, Any]
    paper: str
    status: str


def methods() -> list[Method]:
    """Every method of this version: criteria first, then systems."""
    rows = [Method(name, getattr(part, "family", "criterion"), part.units, {f.name: f.default for f in knobs(part)},
                   part.paper, "available") for name, part in sorted(METHODS.items())]
    return sorted(rows, key=lambda row: row.family)


def load(source: str | Path, *, device: str | None = None, dtype: torch.dtype | None = None,
         weights: str = "trained", seed: int = 0) -> Any:
    """A pipeline by bundled name, architecture, hub id or local folder (a bare model's folder gives the bare model).

    ``weights="random"`` (the same for the same ``seed``) and ``"meta"`` (shapes only) need configs and no weights.
    ``dtype=None`` is float32 on a CPU and the stored type elsewhere.

    Raises:
        Refused: it cannot be had; the sentence says why and what would work.
    """
    with put_in_words():
        return sources.load_pipeline(source, device=device, dtype=dtype, weights=weights, seed=seed)


def score(pipe: Any, method: str, *, component: str | None = None, units: str | None = None,
          calibration: Calibration | None = None, seed: int = 0, **options: Any) -> Scores:
    """Importance of every unit of one component. Valid for any ratio and spread."""
    pattern = "2:4" if isinstance(units, str) and units == "nm" else None  # scores do not depend on the pattern
    recipe = request.request(pipe, method, None if pattern else 0.0, component=component, units=units,
                              pattern=pattern, calibration=calibration, seed=seed, **options)
    return drained(resolve.scoring(pipe, recipe))


def plan(pipe: Any, method: str = "magnitude", ratio: float | None = None, *, component: str | None = None,
         units: str | None = None, pattern: str | None = None, of: str = "units", spread: str | None = None,
         protect: tuple[str, ...] | None = None, only: tuple[str, ...] = (),
         overrides: Mapping[str, float] | None = None, calibration: Calibration | None = None, seed: int = 0,
         scores: Scores | None = None, most: float = 1.0, update: bool = False, rounding: str | None = None,
         multiple: int = 1, **options: Any) -> Plan:
    """What would go: the request resolved on this model. Nothing is changed.

    What is None is usual for the method: single weights, spread over each layer alike, ``DEFAULT`` protected; a system
    has ways of its own (Diff-Pruning: channels, all but the answer's convolution, and the paper's rounding).

    ``ratio`` is the share that is removed, 0 to 1. ``pattern="2:4"`` keeps 2 of each 4 neighbours along the inputs and
    implies ``units="nm"``. ``protect`` and ``only`` are globs on module names; ``overrides`` maps globs to ratios, the
    longest wins. ``of`` says what the ratio is a share of: units, params or macs of the component. ``spread`` divides
    it: over each layer or row alike, all layers ranked together (global), those of one kind (isomorphic), or by how
    much the answer misses each (sensitivity). Of any one layer at most the share ``most`` goes, and never all.
    ``update`` lets the weights that stay make up for those that go; ``calibration`` is what is looked at for that, by
    the spread by sensitivity, and by methods that see data. Layers lose whole units: ``rounding`` says how a share
    becomes some (nearest; the paper's rule of Diff-Pruning; the newer one of Torch-Pruning), and ``multiple`` keeps
    widths at multiples of 8, 16 or 32 where norm groups and dense widths let it. ``scores`` of an earlier ``score``
    are used when given.

    Raises:
        Refused: a value is missing, out of range or infeasible; the sentence names what would work.
    """
    recipe = request.request(pipe, method, ratio, component=component, units=units, pattern=pattern, of=of,
                              spread=spread, protect=protect, only=only, overrides=overrides, calibration=calibration,
                              seed=seed, most=most, update=update, rounding=rounding, multiple=multiple, **options)
    scores = drained(resolve.scoring(pipe, recipe)) if scores is None else scores
    return drained(resolve.resolving(pipe, recipe, scores))


def apply(pipe: Any, plan: Plan, *, masked: bool = False) -> Any:
    """A new pipeline (or bare model) that went through the plan; the given one stays as it was.

    ``masked=True`` keeps every shape and puts zeros where units are removed.

    Raises:
        Refused: the plan belongs to another model.
    """
    return drained(applying.applying(pipe, plan, masked))


def recover(pruned: Any, dense: Any = None, *, component: str | None = None, steps: int = Recovery.steps,
            batch: int = Recovery.batch, rate: float = Recovery.rate, average: float = Recovery.average,
            unprompted: float = Recovery.unprompted, dropout: bool = False, half: bool = False,
            losses: Mapping[str, float] | None = None, calibration: Calibration | None = None, seed: int = 0) -> Any:
    """A new pipeline whose denoiser was trained further; the given ones stay as they were.

    ``dense`` is the model before pruning: its own pictures, or what it draws, are the samples; without it,
    ``calibration`` names a folder of pictures. Of eight samples one is held out, and the error there before and after
    is in the plan. Zeros that a mask made stay zero. ``losses`` are weights of what is made small ({"task": 1}).
    ``recovery.recovering`` is the same as a stream, which can be stopped and goes on where it was.

    Raises:
        Refused: the component cannot be trained, or a value or the samples cannot be.
    """
    options = Recovery(steps, batch, rate, average, unprompted, dropout, half, seed,
                       Recovery.losses if losses is None else losses, calibration)  # type: ignore[arg-type]
    return drained(recovery.recovering(pruned, dense, options, component))


def report(dense: Any, pruned: Any, plan: Plan, *, measured: Measured | None = None) -> Report:
    """What was asked for and what came of it, counted on both models."""
    if measured is not None:
        instance("measured", measured, Measured, "Give what pruning.measure gave, or leave it out.")
    return accounting.account(dense, pruned, plan, measured.to_dict() if measured else None)


def generate(pipe: Any, shot: Shot) -> Iterator[images.Event]:
    """Draw, as a stream of ``Stepped`` and one last ``Drawn``. Closing the stream stops the work."""
    return images.draw(pipe, instance("shot", shot, Shot, SHOT))


def measure(dense: Any, pruned: Any, shot: Shot, *, repeats: int = clock.PAIRS) -> Measured:
    """Milliseconds per step of both and of every part of a drawing, interleaved, with intervals.

    ``repeats`` counts pairs of runs, one of each side; fewer than six cannot tell a difference from chance.
    ``clock.turns`` is the same as a stream, one event a run.

    Raises:
        Refused: one of the two cannot be drawn, or they differ in more than what was pruned.
    """
    return clock.interleaved(dense, pruned, instance("shot", shot, Shot, SHOT), repeats)


def save(pipe: Any, folder: str | Path) -> Path:
    """Write an ordinary diffusers folder, with ``plan.json`` when the pipeline was pruned. Never pickles."""
    from pruning.models import saving  # it brings diffusers, which takes seconds: the page comes up first

    with put_in_words():
        return saving.write(pipe, folder)


def export(pipe: Any, path: str | Path, format: str = "torch") -> Path:
    """Write one file to run elsewhere."""
    raise Later(f"Export to {told(format)}")


__all__ = ["DEFAULT", "Calibration", "Drawn", "LayerReport", "Later", "Measured", "Method", "Plan", "Recipe",
           "Recovery", "Refused", "Report", "Scores", "Shot", "Stepped", "apply", "export", "generate", "load",
           "measure", "methods", "plan", "recover", "report", "save", "score"]
