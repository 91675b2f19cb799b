"""Requested, achieved, bytes, MACs: what a plan cost and saved, counted on the models themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import le
from typing import Any

import torch
from torch import Tensor, nn

from pruning.decisions.applying import carried_out
from pruning.decisions.kind import gone, shrinks
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.notes import plan_of
from pruning.network.size import total, weight, written_as
from pruning.network.subject import Subject, subject
from pruning.reports.aftercare import adjusted_after, adjusted_in_words, recovered
from pruning.reports.report import LayerReport, Report
from pruning.reports.speed import kernels_for, part_on_the_clock, speed
from pruning.spreads.deciding import reason
from pruning.spreads.protect import left_alone, protected, ratio_of
from pruning.types import Plan, PlanStep, digest
from pruning.units.catalog import find
from pruning.units.costs import Costs, on_meta, trace
from pruning.units.site import Site
from pruning.values import instance


def account(dense: Any, pruned: Any, plan: Plan, measured: Mapping[str, Any] | None = None) -> Report:
    """The report of the plan's last step.

    ``macs`` are all that multiply, attention included; ``published`` among them as papers on pruning count.
    Layers are those of the step. Params and MACs compare the dense component with the pruned one; ``nonzero`` counts
    what is left when zeros are not counted. Where streams cross, what both would save is told of the first that runs.
    Whether what stays was adjusted is read off the pruned model: a plan that is yet to be carried out does not say.

    Raises:
        Refused: the plan was made on another model than the dense one, or is not what the pruned one went through.
    """
    instance("plan", plan, Plan, "Give what pruning.plan gave, or what is noted on the pruned model.")
    step, done = plan.decided, plan_of(pruned) or plan
    mended = adjusted_after(done, step)
    before, after = subject(dense, step.recipe.component), subject(pruned, step.recipe.component)
    start = _start(before, plan)
    _check(before, after, plan, measured)
    costs, cut = trace(before.net, before.example), trace(after.net, before.example)
    zeros = {name: int(tensor.numel() - torch.count_nonzero(tensor)) for name, tensor in after.net.named_parameters()
             if tensor.device.type != "meta"}
    params = {"dense": total(before.net), "pruned": total(after.net), "nonzero": total(after.net) - sum(zeros.values())}
    macs = {"dense": costs.count()[1], "pruned": cut.count()[1],
            "nonzero": cut.count()[1] - sum(n * cut.uses.get(name, 0) for name, n in zeros.items()),
            "published": {"dense": costs.as_published(), "pruned": cut.as_published()},
            "counted_at": before.example.to_dict()} if costs.known and cut.known else dict.fromkeys(
                ("dense", "pruned", "nonzero", "published", "counted_at"))
    base = costs if start is before.net else trace(start, before.example)
    sites = list(find(start, step.recipe.units))
    layers = tuple(_layers(sites, step, base, mended.decision.sites if mended else {}))
    free = [layer for layer, site in zip(layers, sites, strict=True) if not protected(site, step.recipe)]
    stored = written_as(dense)
    return Report(
        {"ratio": step.recipe.ratio, "of": step.recipe.of},
        {"total": sum(layer.units for layer in free), "gone": sum(layer.gone for layer in free)},
        params, macs,
        {"dense": weight(before.net, stored), "pruned": weight(after.net, stored),
         "dtype": str(stored).removeprefix("torch.")},
        speed(step, macs, measured, kernels_for(step, sites, cut, next(after.net.parameters())), costs.why or cut.why),
        {"dense": fingerprint(before.net)[1], "pruned": fingerprint(after.net)[1]}, layers,
        adjusted_in_words(mended, again=mended not in plan.steps) if mended else None,
        recovered(done) if done.decided == step else None)


def _check(before: Subject, after: Subject, plan: Plan, measured: Mapping[str, Any] | None) -> None:
    """Refuse two models, a plan and a measurement that do not belong together."""
    dense, pruned = (dict(side.net.named_parameters()) for side in (before, after))
    if dense.keys() != pruned.keys() or not all(map(_within, pruned.values(), dense.values())):
        raise Refused("The pruned model does not come of the dense one: names or shapes of their tensors do not fit.",
                      "Give the model that was pruned, then what pruning.apply made of it.")
    step, done = plan.decided, plan_of(after.pipe)
    if done and digest(step.to_dict()) not in [digest(own.to_dict()) for own in done.steps]:
        raise Refused("The pruned model did not go through this plan.", "Give the plan that pruning.apply was given.")
    if not done and any(gone(step.decision, site) for site in find(before.net, step.recipe.units)) and (
            fingerprint(before.net) == fingerprint(after.net)):
        raise Refused("Nothing was removed yet: both models are the dense one.", "Give what pruning.apply makes of it.")
    if measured and part_on_the_clock(step.recipe.component) not in measured["parts"]:
        raise Refused(f"{before.label} was not on the clock in this measurement.", "Measure these two pipelines.")


def _within(cut: Tensor, whole: Tensor) -> bool:
    """Whether a tensor may be what was left of another."""
    return cut.ndim == whole.ndim and all(map(le, cut.shape, whole.shape))


def _start(before: Subject, plan: Plan) -> nn.Module:
    """The component as the last step found it: of several steps, the earlier ones are repeated on shapes alone.

    Raises:
        Refused: no step was resolved on the dense model.
    """
    own = [step for step in plan.steps if step == plan.decided or (
        step.decides and step.recipe.component == plan.decided.recipe.component)]
    arch = fingerprint(before.net)[0]
    places = [i for i, step in enumerate(own) if step.arch == arch]
    if not places:
        raise Refused("This plan was made for another architecture: names or shapes of its tensors differ.",
                      "Report on the model that the plan was made on.")
    if not shrinks(plan.decided.decision) and fingerprint(before.net)[1] not in [step.weights for step in own]:
        raise Refused("This plan was made on other weights than the dense model's, and its masks depend on them.",
                      "Report on the model that the plan was made on.")
    net = before.net
    for step in own[places[-1]:-1]:
        if shrinks(step.decision):
            net = carried_out(replace(before, net=on_meta(net)), step, masked=False)
    return net


def _layers(sites: Sequence[Site], step: PlanStep, costs: Costs,
            errors: Mapping[str, Sequence[float]]) -> Iterator[LayerReport]:
    """What each site lost. Width goes site by site in their order, so that the parts add up to the whole."""
    left: dict[Site, int] = {}
    before = costs.count()
    for site in sites:
        count, own = gone(step.decision, site), ratio_of(site, step.recipe)
        params = macs = 0
        if count and shrinks(step.decision):
            left[site] = site.units - count
            after = costs.count(left)
            params, macs = before[0] - after[0], before[1] - after[1]
            before = after
        elif count:
            params, macs = count, count * costs.uses.get(site.tensor, 0)
        requested = step.recipe.ratio if own is None else own
        yield LayerReport(site.name, site.kind, site.units, count, params, macs if costs.known else None,
                          0.0 if left_alone(site, step.recipe) else requested, reason(site, count, step.recipe),
                          (error[0], error[1]) if (error := errors.get(site.name)) else None)


