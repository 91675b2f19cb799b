"""A plan becomes a new pipeline. The old one stays as it was, and they share every tensor that did not change."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pruning.criteria import METHODS
from pruning.decisions import masks
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.notes import plan_of, with_plan
from pruning.network.subject import Subject, shell, subject
from pruning.progress import Looked
from pruning.scores.scores import streamed
from pruning.surgery import repair
from pruning.surgery.check import check
from pruning.surgery.masking import mask_units, places_of, put, zeroed
from pruning.surgery.slices import slice_units
from pruning.types import Decision, Plan, PlanStep
from pruning.units.catalog import catalog, find
from pruning.units.site import Site, indices
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
    if again := [step for step in steps if step.decision.kind == "recovered"]:
        what = "fine-tuned" if "" in again[-1].decision.sites else "adjusted"
        raise Refused(f"This plan's model was {what} after pruning, and a plan does not hold weights.",
                      "Load the folder that it was saved in, or make the plan again from its recipe.")
    carried: list[PlanStep] = []
    for number, step in enumerate(steps):
        if masked and number and steps[number - 1].decision.kind == "keep":
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
    if masked and any(step.decision.kind == "keep" for step in steps):
        object.__setattr__(pipe, "prunescope_masked", True)  # its shapes are not those that its plan says
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
    return PlanStep(replace(step.recipe, update=False), *prints, Decision("recovered", errors))


def carried_out(looked_at: Subject, step: PlanStep, masked: bool) -> nn.Module:
    """The component after one step, as a new module."""
    net = shell(looked_at.net)
    if step.decision.kind == "keep":
        (mask_units if masked else slice_units)(net, kept_units(net, step))
        return net
    places = places_of(net)
    for site, keep in kept_masks(looked_at, step, list(step.decision.sites)):
        put(places, site.tensor, zeroed(net.get_parameter(site.tensor).detach(), keep))
    return net


def kept_units(net: nn.Module, step: PlanStep) -> dict[Site, Tensor]:
    """The units that stay of each site that a width step touches, (units kept,) indices."""
    sites = {site.name: site for site in find(net, step.recipe.units)}
    return {sites[name]: torch.tensor(indices(spans)) for name, spans in step.decision.sites.items()}


def kept_masks(looked_at: Subject, step: PlanStep, names: Sequence[str]) -> Iterator[tuple[Site, Tensor]]:
    """Which weights of some weight sites stay: (site, bool in the weight's shape), resolved again or as written."""
    recipe, net = step.recipe, looked_at.net
    if step.decision.kind == "bits":
        sites = {site.name: site for site in find(net, recipe.units)}
        for name in names:
            yield sites[name], masks.unpacked(step.decision, sites[name], net.get_parameter(sites[name].tensor).shape)
        return
    some = catalog(net, recipe.units, looked_at.example, looked_at.label).only(*names)
    criterion = METHODS.make(recipe.method, dict(recipe.options))
    yield from masks.resolved(step.decision, streamed(criterion, looked_at, some, recipe.calibration),
                              lambda site: net.get_parameter(site.tensor).shape)


