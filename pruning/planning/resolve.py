"""A request resolved on one model: score, divide the ratio, write down what goes."""

from collections.abc import Generator
from typing import Any

from pruning.calibration import samples
from pruning.criteria import METHODS
from pruning.decisions import bits
from pruning.decisions.kind import kind_of, shrinks
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint, stamp
from pruning.network.notes import plan_of
from pruning.network.subject import Subject, log, subject
from pruning.planning.request import sees
from pruning.progress import Looked
from pruning.scores.scores import Scores, check_finite, collecting
from pruning.spreads.deciding import decide
from pruning.spreads.spread import spread_of
from pruning.types import (
    Calibration,
    Decision,
    Plan,
    PlanStep,
    Recipe,
)
from pruning.units.catalog import catalog, left_out
from pruning.values import instance


def scoring(pipe: Any, recipe: Recipe) -> Generator[Looked, None, Scores]:
    """Scores for a recipe; they do not depend on its ratio, spread or protection. Closing stops the work."""
    looked_at: Subject = subject(pipe, recipe.component, recipe.seed)
    looked_at.check_copies()
    absent = [name for name, tensor in looked_at.net.named_parameters() if tensor.device.type == "meta"]
    if absent and len(absent) < len(list(looked_at.net.parameters())):
        raise Refused(f"{looked_at.label} lacks some of its weights: {absent[0]} has a shape and no values.",
                      "Load all of it again: a part was moved away (offloaded), or never loaded.")
    if absent:
        raise Refused(f"{looked_at.label} has shapes and no weights, so there is nothing to score.",
                      'Load it with weights="random", or with trained ones.')
    sites = catalog(looked_at.net, recipe.units, looked_at.example, looked_at.label)
    for reason, layers in left_out(looked_at.net, recipe.units).items():
        log.info("%s keeps all of its units: %s (%d of such layers)", layers[0], reason, len(layers))
    criterion = METHODS.make(recipe.method, dict(recipe.options))
    return (yield from collecting(looked_at, sites, criterion, shown(criterion, recipe)))


def shown(criterion: Any, recipe: Recipe) -> Calibration | None:
    """The data that a criterion is shown; None for one that sees weights alone."""
    return None if sees(criterion) == "weights" else recipe.calibration


def resolving(pipe: Any, recipe: Recipe, scores: Scores) -> Generator[Looked, None, Plan]:
    """The plan: the pipeline's own steps so far, and this one. Closing stops the work.

    A spread by sensitivity is measured now, and written down as a ratio for each layer.

    Raises:
        Refused: the scores are of another model or component, or not finite; or the ratio cannot be.
    """
    looked_at = subject(pipe, recipe.component, recipe.seed)
    check(looked_at, recipe, scores)
    spread = spread_of(recipe)
    if spread.sees != "weights":
        found = yield from spread.measuring(looked_at, recipe, scores)
        recipe = found.divided(recipe, scores)
    decision = decide(scores, recipe)
    if sees(scores.criterion) != "weights" and not shrinks(decision):
        decision = yield from as_bits(scores, decision)
    before = plan_of(pipe)
    return Plan((*(before.steps if before else ()), PlanStep(recipe, *fingerprint(looked_at.net), decision)))


def check(looked_at: Subject, recipe: Recipe, scores: Scores) -> None:
    """Refuse scores that are not those that a recipe asks for, or are of weights that have changed since."""
    instance("scores", scores, Scores, "Give what pruning.score gave, or leave them out.")
    net = looked_at.net
    if scores.stamp != stamp(scores.subject.net):
        raise Refused("The weights changed after these scores were taken.", "Score the model as it is now.")
    if scores.subject.net is not net and fingerprint(scores.subject.net) != fingerprint(net):
        raise Refused("These scores were taken on another model or component.", "Score this one.")
    for name, site in scores.catalog.sites.items():
        check_finite(net, site, scores.values.get(name), scores.sketches.get(name))
    if recipe.units != scores.catalog.units:
        raise Refused(f"These scores are of {scores.catalog.units}, not of {recipe.units}.", "Score those units.")
    criterion = METHODS.make(recipe.method, dict(recipe.options))
    if (scores.criterion, scores.calibration, scores.subject.seed) != (criterion, shown(criterion, recipe),
                                                                       recipe.seed):
        raise Refused("These scores were taken with another method, option, calibration or seed.",
                      "Plan with those that the scores were taken with, or score again.")
    if scores.calibration and scores.subject.pipe is not looked_at.pipe and samples.mark(
            scores.subject, scores.calibration) != samples.mark(looked_at, scores.calibration):
        raise Refused("These scores were taken with samples of another pipeline.", "Score this one.")


def as_bits(scores: Scores, decision: Decision) -> Generator[Looked, None, Decision]:
    """The masks themselves: what was chosen by looking at data does not come out the same on another device."""
    sites, tensors = dict[str, Any](), dict[str, Any]()
    shapes = scores.catalog.costs.shapes
    kept = kind_of(decision).resolved(decision, scores.stream(decision.sites), lambda site: shapes[site.tensor])
    for site, keep in kept:
        tensors[site.name] = bits.packed(keep)
        sites[site.name] = [bits.mark(tensors[site.name]), int(keep.numel() - keep.sum())]
        yield Looked(len(sites), len(decision.sites), "masks")
    return Decision("bits", sites, tensors)
