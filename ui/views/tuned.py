"""Pruned models that were trained, and trainings under way. Asks ``device`` for what they begin with."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from pruning.errors import Refused
from pruning.network.subject import subject
from pruning.progress import Looked
from pruning.recovery import Event, Recovery, Training, recovering
from pruning.types import Recipe
from ui import device
from ui.device import TRAINED, TRAININGS

STEPS, BATCH = 200, 16  # that a visitor of a public page may ask for


def training(wanted: Recipe, options: Recovery) -> Generator[Event, None, None]:
    """Train the pruned model of a recipe, step by step; then it is there. A stopped training goes on where it was.

    More steps go on from where fewer came to; fewer than were taken begin anew.
    """
    if device.PUBLIC and (options.steps > STEPS or options.batch > BATCH):
        raise Refused(f"This public page trains for {STEPS} steps of {BATCH} samples at most.",
                      "Duplicate the Space, or run it on your machine, to train for longer.")
    smaller = yield from device.pruned(wanted)
    wanted = device.settled(wanted)
    dense, net = device.pipeline(wanted.model), subject(smaller).net
    size = 16 * sum(p.numel() for p in net.parameters())  # weights, their average, two moments
    under_way = (wanted, replace(options, steps=1))
    if reached(wanted, options) is None:
        TRAININGS.drop(lambda key: key == under_way)
    state = TRAININGS.get_or(under_way, lambda: (Training(), size))
    if TRAINED.look((wanted, options)) is None:
        made = yield from device.stepwise(recovering(smaller, dense, options, state=state))
        TRAINED.get_or((wanted, options), lambda: (made, device.nbytes(subject(made).net)))


def reached(wanted: Recipe, options: Recovery) -> Training | None:
    """How far the training of a recipe's model has come; None where it was not begun, or has gone too far."""
    if not device.known(wanted):  # what was not looked at was not trained
        return None
    found = TRAININGS.look((device.settled(wanted), replace(options, steps=1)))
    return found if found and found.step <= options.steps else None


def pruned(wanted: Recipe, options: Recovery | None) -> Generator[Looked, None, Any]:
    """The pruned pipeline of a recipe; with ``options`` the one that was trained so.

    Raises:
        Refused: it is not kept any more.
    """
    if options is None:
        return (yield from device.pruned(wanted))
    if (found := TRAINED.look((device.settled(wanted), options))) is None:
        raise Refused("The fine-tuned model is not kept any more.",
                      "Fine-tune it again in Recover, or draw without the fine-tuned weights.")
    return found
