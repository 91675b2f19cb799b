"""How much a component's answer misses each layer, and the ratios that follow from it."""

from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace

from torch import Tensor, nn

from pruning import samples
from pruning.call import Call
from pruning.observe import resting
from pruning.scores import Scores
from pruning.spread import Asked, Room, decide, free_sites
from pruning.subject import Subject, fingerprint
from pruning.surgery import carried_out
from pruning.types import PlanStep, Recipe
from pruning.work import Looked

LOOKS = 4  # calls of the calibration that every layer is judged by, evenly spread over its noise levels


def measuring(looked_at: Subject, recipe: Recipe, scores: Scores) -> Generator[Looked, None, dict[str, float]]:
    """For each site, the relative squared error of the answer when it alone is pruned at the recipe's ratio.

    Where that is less than one of a site's units, one goes, and the error is taken to have grown with the cube.
    """
    calls = samples.calls(looked_at, samples.settled(looked_at, recipe.calibration))
    calls = sorted(calls, key=lambda call: call.level)[:: max(1, len(calls) // LOOKS)][:LOOKS]
    whole = answers(looked_at.net, calls)
    alone = replace(recipe, spread="layer", of="units", overrides=(), update=False)
    arch, weights = fingerprint(looked_at.net)
    sites, errors = free_sites(scores.catalog, recipe), {}
    for site in sites:
        errors[site.name], room = 0.0, Room.of(site, alone, scores.catalog)
        if room.most:
            ratio = recipe.ratio if room.steps(site.units * recipe.ratio) else room.step / site.units
            step = PlanStep(alone, arch, weights, decide(
                replace(scores, catalog=scores.catalog.only(site.name)), replace(alone, ratio=ratio)))
            less = carried_out(looked_at, step, masked=True)
            errors[site.name] = apart(whole, answers(less, calls)) * (recipe.ratio / ratio) ** 3
        yield Looked(len(errors), len(sites), "pruning one layer at a time")
    return errors


def answers(net: nn.Module, calls: Iterable[Call]) -> list[Tensor]:
    """A network's answers, with nothing left to chance."""
    with resting(net):
        return [samples.answer(net, call) for call in calls]


def apart(whole: list[Tensor], less: list[Tensor]) -> float:
    """The squared distance of some answers over the squared size of the first."""
    far = sum(float((a - b).double().square().sum()) for a, b in zip(whole, less, strict=True))
    return far / max(1e-30, sum(float(a.double().square().sum()) for a in whole))


def suggesting(looked_at: Subject, recipe: Recipe, scores: Scores) -> Generator[Looked, None, Recipe]:
    """The recipe with a ratio of its own for each layer, of the same amount in all.

    The smallest x of a layer's weights, with their density nearly even around zero, have a squared sum that grows with
    x cubed. With e the error at the asked ratio, the sum of e (x / ratio)^3 at a given amount is least where x goes
    with the root of size / e, a layer's size being all that it could give to the amount.
    """
    errors = yield from measuring(looked_at, recipe, scores)
    ratios = suggested(recipe, scores, errors)
    return replace(recipe, spread="layer", overrides=tuple(sorted({**dict(recipe.overrides), **ratios}.items())))


def suggested(recipe: Recipe, scores: Scores, errors: Mapping[str, float]) -> dict[str, float]:
    """Layer -> ratio; layers that have a ratio of their own keep it."""
    asked = Asked.of(scores.catalog, recipe)
    least = max(errors.values()) * 1e-6 or 1.0
    whole = [((room.site.units * room.worth) ** 3 / max(least, errors[room.site.name])) ** 0.5 for room in asked.rooms]
    amounts = asked.filled(whole, [float(room.amount) for room in asked.rooms])
    return {room.site.module: amount / (room.site.units * room.worth)
            for room, amount in zip(asked.rooms, amounts, strict=True)}
