"""Both sides drawn, trained and measured, as streams of small values. Asks ``device`` for the models.

The lock is held for a step at a time, or for a whole run on the clock.
"""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from statistics import median
from typing import Any

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


class Sides:
    """Both sides while they are drawn: what each has come to, the film, and how far they are apart."""

    def __init__(self) -> None:
        self.apart, self.film = Divergence(), list[Moment]()
        self._at: dict[str, Side] = {}
        self._clocks: dict[str, list[float]] = {"dense": [], "pruned": []}

    def frame(self, event: images.Stepped, colours: images.Preview) -> Frame | None:
        """The pair after a step; None while one side is a step ahead."""
        self.apart.add(event)
        self._clocks[event.side].append(event.ms)
        self._at[event.side] = Side(tuple(png(colours.image(latent)) for latent in event.latents),
                                    median(self._clocks[event.side]), event.index + 1, event.steps)
        if len(self._clocks["dense"]) != len(self._clocks["pruned"]):
            return None
        frame = Frame(self._at["dense"], self._at["pruned"])
        if event.index + 1 in kept_steps(event.steps):
            self.film.append(Moment(event.index + 1, frame.dense.pictures[0], frame.pruned.pictures[0]))
        return frame


def pair(wanted: Recipe, shot: Shot, options: Recovery | None = None) -> Iterator[Looked | Frame | Pair]:
    """Both pictures, step by step, and at last the finished pair. Before that, what it takes to prune.

    With ``options`` the pruned side is the model that was trained so.

    Closing the iterator stops the work and leaves the engine as it was.
    """
    dense, shot = device.pipeline(wanted.model), heard(wanted, shot)
    smaller = yield from tuned.pruned(wanted, options)
    done = plan_of(smaller) or device.plan(wanted)
    sides, finished = Sides(), dict[str, images.Drawn]()
    events = images.draw_pair(dense, smaller, shot)
    while True:
        with LOCK:
            event = next(events, None)
        if event is None:
            break
        if isinstance(event, images.Drawn):
            finished[event.side] = event
        elif frame := sides.frame(event, colours(wanted.model, dense)):
            yield frame
    with LOCK:
        report = pruning.report(dense, smaller, done).to_dict()
        far = compared(finished["dense"], finished["pruned"], shot.prompts, sides.apart.steps, judge_for(wanted.model))
    ends = {name: ended(drawn) for name, drawn in finished.items()}
    changes = tuple(png(difference(a, b))
                    for a, b in zip(finished["dense"].images, finished["pruned"].images, strict=True))
    yield Pair(wanted, shot, ends["dense"], ends["pruned"], changes, tuple(sides.film), report, far.to_dict(),
               machine(dense), recovery=options, notes=finished["dense"].notes,
               exact=done.decided.recipe if spread_of(wanted).sees != "weights" else None,
               thumb=png(thumb(finished["pruned"].images[0])))
    trim()


def colours(source: str, dense: Any) -> images.Preview:
    """How a model's latents become small pictures, found once."""
    with LOCK:
        return PREVIEWS.get_or(source, lambda: (images.preview_of(dense), 1 << 10))


def ended(drawn: images.Drawn) -> Side:
    """A side with its finished pictures."""
    return Side(tuple(map(png, drawn.images)), median(drawn.ms), len(drawn.ms), len(drawn.ms), drawn.origin.params,
                drawn.origin.zeros, drawn.origin.weights)


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
