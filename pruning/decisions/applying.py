"""A plan becomes a new pipeline. The old one stays as it was, and they share every tensor that did not change."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from torch import nn

from pruning.decisions.check import check
from pruning.decisions.kind import kind_of, shrinks
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.notes import note, plan_of, with_plan
from pruning.network.subject import Subject, shell, subject
from pruning.progress import Looked
from pruning.surgery import repair
from pruning.surgery.masking import places_of, put
from pruning.types import Adjusted, Plan, PlanStep, Trained
from pruning.units.catalog import find
from pruning.values import flag, instance


def applying(pipe: Any, plan: Plan, masked: bool = False) -> Generator[Looked, None, Any]:
    """A new pipeline with the plan's steps carried out; steps that the pipeline already went through are not repeated.

    Where a recipe asks for it, the weights that stay are adjusted afterwards, and a step more says so.

    Raises:
        Refused: the plan was resolved on another architecture or, where its decision depends on them, other weights;
            or it has adjusted weights, which cannot be made again.
    """
    instance("plan", plan, Plan, "Give what pruning.plan gave, or read a file of it with Plan.from_json.")
    masked, done = flag("masked", masked), plan_of(pipe)
    before = done.steps if done else ()
    steps = plan.steps[len(before):] if plan.steps[: len(before)] == before else plan.steps
    if not steps:
        return pipe  # it went through all of them
    if again := [step for step in steps if not step.decides]:
        what = "fine-tuned" if isinstance(again[-1].decision, Trained) else "adjusted"
        raise Refused(f"This plan's model was {what} after pruning, and a plan does not hold weights.",
                      "Load the folder that it was saved in, or make the plan again from its recipe.")
    carried: list[PlanStep] = []
    for number, step in enumerate(steps):
        if masked and number and shrinks(steps[number - 1].decision):
            raise Refused("masked=True shows one width step only: the next step's indices count the smaller layers.",
                          "Apply the plan without masked.")
        looked_at = subject(pipe, step.recipe.component, step.recipe.seed)
        looked_at.check_copies()
        check(step, looked_at.net)
        if any(name.endswith("#stream") for name in step.decision.sites):
            looked_at.check_streams()
        net = carried_out(looked_at, step, masked)
        carried.append(step)
        if step.recipe.update:
            carried.append((yield from _adjusting(looked_at, net, step)))
        pipe = looked_at.holding(net)
    if masked and any(shrinks(step.decision) for step in steps):
        note(pipe, masked=True)
    return with_plan(pipe, replace(plan, steps=(*before, *carried)))


def _adjusting(looked_at: Subject, net: nn.Module, step: PlanStep) -> Generator[Looked, None, PlanStep]:
    """Adjust what stays in a new module; the step that says so."""
    prints = fingerprint(net)
    found = yield from repair.adjusting(looked_at, net, step)
    places = places_of(net)
    for site in find(net, step.recipe.units):
        if site.name in found and (weight := found[site.name].weight) is not None:
            put(places, site.tensor, weight)
    errors = {name: [layer.before, layer.after] for name, layer in found.items()}
    return PlanStep(replace(step.recipe, update=False), *prints, Adjusted(errors))


def carried_out(looked_at: Subject, step: PlanStep, masked: bool) -> nn.Module:
    """The component after one step, as a new module."""
    net = shell(looked_at.net)
    kind_of(step.decision).carry_out(looked_at, net, step, masked)
    return net
