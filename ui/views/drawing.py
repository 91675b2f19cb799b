"""Both sides drawn, trained and measured, as streams of small values. Asks ``device`` for the models.

The lock is held for a step at a time, or for a whole run on the clock.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from statistics import median

import pruning
from pruning.drawing import canvas, images
from pruning.errors import Refused
from pruning.metrics.judge import judge_for
from pruning.metrics.latents import Divergence
from pruning.metrics.quality import compared
from pruning.network.notes import plan_of
from pruning.progress import Looked, drained
from pruning.recovery import Event, Recovery
from pruning.spreads.spread import spread_of
from pruning.timing.clock import Measured, Turn, turns
from pruning.timing.machine import machine
from pruning.types import Recipe, Shot
from ui import device, limits
from ui.device import LOCK, PREVIEWS
from ui.plots.markup import png
from ui.plots.pair import difference, kept_steps, thumb
from ui.state import Pair
from ui.values import Moment, Side
from ui.views import tuned

CLOCKED = 8  # steps of a run on the clock: the median of a step needs no more


@dataclass(frozen=True)
class Frame:
    """The pair while it is drawn."""

    dense: Side
    pruned: Side


def pair(wanted: Recipe, shot: Shot, options: Recovery | None = None) -> Iterator[Looked | Frame | Pair]:
    """Both pictures, step by step, and at last the finished pair. Before that, what it takes to prune.

    With ``options`` the pruned side is the model that was trained so.

    Closing the iterator stops the work and leaves the engine as it was.
    """
    dense, shot = device.pipeline(wanted.model), heard(wanted, shot)
    smaller = yield from tuned.pruned(wanted, options)
    done = plan_of(smaller) or device.plan(wanted)
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
               machine(dense), recovery=options, notes=finished["dense"].notes,
               exact=done.decided.recipe if spread_of(wanted).sees != "weights" else None,
               thumb=png(thumb(finished["pruned"].images[0])))
    trim()


def heard(wanted: Recipe, shot: Shot) -> Shot:
    """A shot without what a recipe's model does not listen to.

    Raises:
        Refused: the model cannot draw, or so much of it not on a public page.
    """
    around = canvas.drawing(device.pipeline(wanted.model))
    pixels = prod(canvas.size(around, shot.size)) * around.factor**2
    if device.PUBLIC and shot.images * shot.steps * pixels > limits.PIXELS:
        raise Refused(f"This public page does not draw {shot.images} × {shot.steps} steps of this model at once.",
                      "Choose fewer images or steps, or run it on your machine.")
    return shot if around.prompted else replace(shot, prompts=("",), negative="")


def recovered(wanted: Recipe, shot: Shot, options: Recovery, known: Sequence[Pair]) -> Iterator[Event | Frame | Pair]:
    """The pair before, the training, and the pair after. A pair before that is ``known`` is not drawn again."""
    shot = heard(wanted, shot)
    before = next((one for one in known if (one.recipe, one.shot, one.recovery) == (wanted, shot, None)), None)
    if before:
        yield before
    else:
        yield from pair(wanted, shot)
    yield from tuned.training(wanted, options)
    yield from pair(wanted, shot, options)


def trim() -> None:
    """Hand freed memory back to the system: glibc keeps it, for each of the server's many threads apart."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def measured(old: Pair, repeats: int) -> Iterator[Turn | Pair]:
    """The pair's models on the clock, a whole run at a time, and at last the pair with what was measured."""
    dense, smaller = device.pipeline(old.recipe.model), drained(tuned.pruned(old.recipe, old.recovery))
    done = plan_of(smaller) or device.plan(old.recipe)
    shot = replace(old.shot, steps=min(old.shot.steps, CLOCKED))
    runs = turns(dense, smaller, shot, repeats)
    while True:
        with LOCK:  # nobody else draws or prunes during a run; never over a yield: who left might not come back
            event = next(runs)
            told = old.with_report(pruning.report(dense, smaller, done, measured=event).to_dict()) if isinstance(
                event, Measured) else event
        yield told
        if isinstance(told, Pair):
            return
