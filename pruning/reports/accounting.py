"""Requested, achieved, bytes, MACs: what a plan cost and saved, counted on the models themselves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import le
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from pruning.errors import Refused
from pruning.network.size import total, weight, written_as
from pruning.network.subject import DENOISERS, Subject, fingerprint, plan_of, subject
from pruning.spreads.spread import gone, left_alone, protected, ratio_of, reason
from pruning.surgery.applying import carried_out
from pruning.timing import intervals
from pruning.timing.kernels import Ceiling, amdahl, ceiling
from pruning.types import Calibration, Plan, PlanStep, digest
from pruning.units.catalog import find
from pruning.units.costs import Costs, on_meta, trace
from pruning.units.site import Site
from pruning.values import instance


@dataclass(frozen=True)
class LayerReport:
    """One site: how many units it had and lost, and what that took.

    ``error`` is the relative squared error of what the layer hands on, before and after what stays was adjusted; None
    where that was not asked for, or the layer could not be looked at.
    """

    name: str
    kind: str
    units: int
    gone: int
    params_gone: int
    macs_gone: int | None
    requested: float
    reason: str | None
    error: tuple[float, float] | None = None

    @property
    def share(self) -> float:
        """The share of its units that went."""
        return self.gone / self.units


@dataclass(frozen=True)
class Report:
    """What was asked for and what came of it, for the pruned component. Speed is measured elsewhere."""

    requested: Mapping[str, Any]
    units: Mapping[str, int]
    params: Mapping[str, int]
    macs: Mapping[str, Any]
    bytes: Mapping[str, Any]
    speed: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    layers: tuple[LayerReport, ...]
    adjusted: Mapping[str, Any] | None = None  # what stays, where a recipe asked for that
    recovered: Mapping[str, Any] | None = None  # how it was trained afterwards, and what that did to its error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


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
    mended = _mended(done, step)
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
        speed(step, macs, measured, _sparse(step, sites, cut, next(after.net.parameters())), costs.why or cut.why),
        {"dense": fingerprint(before.net)[1], "pruned": fingerprint(after.net)[1]}, layers,
        _adjusted(mended, again=mended not in plan.steps) if mended else None,
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
    if measured and _part(step.recipe.component) not in measured["parts"]:
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
        step.decision.kind != "recovered" and step.recipe.component == plan.decided.recipe.component)]
    arch = fingerprint(before.net)[0]
    places = [i for i, step in enumerate(own) if step.arch == arch]
    if not places:
        raise Refused("This plan was made for another architecture: names or shapes of its tensors differ.",
                      "Report on the model that the plan was made on.")
    if plan.decided.decision.kind != "keep" and fingerprint(before.net)[1] not in [step.weights for step in own]:
        raise Refused("This plan was made on other weights than the dense model's, and its masks depend on them.",
                      "Report on the model that the plan was made on.")
    net = before.net
    for step in own[places[-1]:-1]:
        if step.decision.kind == "keep":
            net = carried_out(replace(before, net=on_meta(net)), step, masked=False)
    return net


def _sparse(step: PlanStep, sites: Sequence[Site], costs: Costs, stored: Tensor) -> Ceiling | None:
    """What kernels for the step's pattern win where the pruned component is and in its type; None without a pattern."""
    pattern = step.recipe.pattern
    return ceiling((site for site in sites if gone(step.decision, site)), costs, stored.dtype, stored.device.type,
                   pattern) if pattern else None


def _mended(done: Plan, step: PlanStep) -> PlanStep | None:
    """The step that adjusted what a step left."""
    pairs = zip(done.steps, done.steps[1:], strict=False)
    return next((b for a, b in pairs if a == step and b.decision.kind == "recovered" and b.decision.sites
                 and "" not in b.decision.sites), None)


def _adjusted(step: PlanStep, again: bool) -> dict[str, Any]:
    """How many layers were adjusted, of how many that were looked at; the medians of their errors; all in words.

    ``again`` says that the plan at hand is one that was asked for: it adjusts anew wherever it is carried out.
    """
    errors = list(step.decision.sites.values())
    count = sum(after < before for before, after in errors)
    was, now = (median(side) for side in zip(*errors, strict=True))
    return {"layers": count, "of": len(errors), "before": was, "after": now,
            "said": f"{_fell(count, len(errors), was, now)}{', on samples kept apart' if _apart(step) else ''}; " + (
                "the plan adjusts them anew wherever it is carried out." if again else
                "the plan alone cannot make this model again, the saved folder is the model.")}


def recovered(plan: Plan) -> dict[str, Any] | None:
    """How a model was trained since its last pruning: steps of all trainings, errors of the last one, all in words."""
    if not plan.trained:
        return None
    last, steps = plan.trained[-1], sum(entry["steps"] for entry in plan.trained)
    was, now, dense = (None if last.get(key) is None else f"{last[key]:.3g}" for key in ("before", "after", "dense"))
    fell = "stays at" if was == now else f"{'fell' if last['after'] < last['before'] else 'rose'} from {was} to"
    of_dense = f" (of the dense model: {dense})" if dense else ""
    return {"steps": steps, "before": last["before"], "after": last["after"], "dense": last.get("dense"),
            "said": f"What stays was fine-tuned for {steps} step{'s' * (steps > 1)}: the denoising error {fell} {now}"
                    f"{of_dense}, on {last.get('on', 'its samples')}; the plan alone cannot make this model again, "
                    "the saved folder is the model."}


def _fell(count: int, of: int, was: float, now: float) -> str:
    if not count:
        return f"What stays was left as it is: adjusted, none of {of} layers came nearer to its output"
    what = f"What stays was adjusted in {count} of {of} layers: "
    if f"{was:.3g}" == f"{now:.3g}":
        return f"{what}the output error is {now:.3g} as before (median of all)"
    return f"{what}the output error fell from {was:.3g} to {now:.3g} (median of all)"


def _apart(step: PlanStep) -> bool:
    """Whether errors were taken on other samples than those that were adjusted by: of one there is no half."""
    shown = step.recipe.calibration or Calibration()
    return shown.samples > 1 and len(set(shown.prompts)) != 1


def _layers(sites: Sequence[Site], step: PlanStep, costs: Costs,
            errors: Mapping[str, Sequence[float]]) -> Iterator[LayerReport]:
    """What each site lost. Width goes site by site in their order, so that the parts add up to the whole."""
    left: dict[Site, int] = {}
    before = costs.count()
    for site in sites:
        count, own = gone(step.decision, site), ratio_of(site, step.recipe)
        params = macs = 0
        if count and step.decision.kind == "keep":
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


def speed(step: PlanStep, macs: Mapping[str, Any], measured: Mapping[str, Any] | None,
          sparse: Ceiling | None = None, uncounted: str = "") -> dict[str, Any]:
    """Theory: the dense MACs over those that are not zero. Reachable: over those that this device has to do, as far as
    time goes into such arithmetic. Measured: the clock; ``timed_for`` says which part of it counts.

    ``sparse`` is what kernels for the step's pattern win on this device at most; once measured, those that ran count.
    ``uncounted`` says why MACs are not known, where they are not.
    """
    if macs["dense"] is None:
        return {"theory": None, "reachable": None, "measured": measured,
                "why": uncounted}
    ran = ran_sparse(measured, step.recipe.component)
    if sparse and ran:
        sparse = replace(sparse, eligible=ran["used"], skipped=ran["skipped"], without=ran["without"],
                         f=2 * ran["skipped"] / max(1, macs["pruned"]))  # of 2:4, half of the MACs are skipped
    share = _shrinks(measured, sparse) if measured and _denoises(step.recipe.component) else None
    left = macs["pruned"] - (sparse.skipped if sparse else 0)
    reachable = amdahl(macs["dense"], left, 1.0 if share is None else share)
    few = 0.99 if step.decision.kind == "keep" else 1  # every model has some zeros of its own
    zeros = macs["nonzero"] < few * macs["pruned"]
    why = [*_cause(macs, zeros, sparse, ran), *(_limit(reachable, share) if left < macs["dense"] else ())]
    if measured:
        why += [_on_the_clock(timed_for(measured, step.recipe.component), reachable, share,
                              bool(sparse and sparse.eligible))]
    return {"theory": macs["dense"] / max(1, macs["nonzero"]), "reachable": reachable, "measured": measured,
            "why": " ".join(why)}


def _shrinks(measured: Mapping[str, Any], sparse: Ceiling | None) -> float | None:
    """The share of a step that can get shorter: with sparse kernels, theirs; with smaller layers, all but Python's.

    Norms, activations and copies are no MACs, and yet they shrink with the layers.
    """
    if sparse and sparse.eligible:
        return measured["kernels"]
    return None if measured["between"] is None else 1 - measured["between"]


def timed_for(measured: Mapping[str, Any], component: str) -> Mapping[str, Any]:
    """The part of what was measured that a component answers for, as ``clock.Timed`` has it."""
    return measured["parts"][_part(component)]


def _part(component: str) -> str:
    return "step" if _denoises(component) else component


def ran_sparse(measured: Mapping[str, Any] | None, component: str) -> Mapping[str, Any] | None:
    """How a component's 2:4 layers were run on the clock; None without such layers, or where nobody noted it."""
    return ((measured or {}).get("sparse") or {}).get(component)


def _denoises(component: str) -> bool:
    return component in ("", *DENOISERS)


def _cause(macs: Mapping[str, Any], zeros: bool, sparse: Ceiling | None,
           ran: Mapping[str, Any] | None) -> Iterator[str]:
    """Why less has to be done, or not."""
    if macs["pruned"] < macs["dense"]:
        yield "The layers are smaller, so every kernel does less."
    if sparse and ran and ran["used"] + ran["lost"]:
        yield _ran(sparse, ran)
    elif sparse and sparse.eligible:
        yield (f"{sparse.eligible} of {sparse.layers} pruned layers, with {_percent(sparse.f)} of the MACs, have a "
               "kernel that skips zeros, by type and shape; measuring tries each on this device and runs it where it "
               "is faster.")
    elif zeros:
        reasons = _reasons(sparse.without) if sparse else ""
        yield ("Zeros are stored and multiplied like other numbers: "
               f"{reasons or 'this device has no kernel that skips them'}.")
    elif macs["pruned"] == macs["dense"]:
        yield "Nothing was removed."


def _ran(sparse: Ceiling, ran: Mapping[str, Any]) -> str:
    """How many layers ran sparse kernels on the clock, and why the others did not."""
    share = f", with {_percent(sparse.f)} of the MACs," if ran["used"] else ""
    told = [f"{ran['used'] or 'None'} of {sparse.layers} pruned layers{share} ran kernels that skip zeros"]
    if ran["lost"]:
        told.append(f"for {ran['lost']} the dense kernel was as fast or faster in a probe on this device")
    if ran["without"]:
        told.append(f"{sum(ran['without'].values())} cannot: {_reasons(ran['without'])}")
    return "; ".join(told) + "."


def _reasons(without: Mapping[str, int], most: int = 3) -> str:
    """Why layers have no kernel; how many each, when there are several reasons."""
    return ", ".join(reason if len(without) == 1 else f"{reason} ({count})"
                     for reason, count in list(without.items())[:most])


def _limit(reachable: float, share: float | None) -> Iterator[str]:
    """What stands between fewer MACs and less time."""
    if share is None:
        yield f"{reachable:.2f}× is reachable if all of the time shrinks with the MACs."
    else:
        yield f"{_percent(1 - share)} of a step cannot shrink, so {reachable:.2f}× is reachable."


def _on_the_clock(timed: Mapping[str, Any], reachable: float, share: float | None, skips: bool = False) -> str:
    """How the clock compares with what is reachable."""
    ratio = intervals.found_in(timed)
    told = f"Measured: {intervals.said(ratio)}"
    if ratio is None or not intervals.differs(ratio):
        noisy = intervals.state(ratio) in (intervals.NOISE, intervals.FEW)
        return f"{told}. Measure again with more runs, while nothing else runs." if noisy else f"{told}."
    if intervals.agrees(ratio, reachable):
        return f"{told}, no different from {reachable:.2f}× beyond noise."
    if reachable == 1:
        return f"{told}, though both do the same arithmetic: was other work running? Measure again."
    if ratio[0] > reachable:
        return f"{told}, above {reachable:.2f}×: " + (
            "work that MACs do not count (norms, softmax, memory traffic) shrinks, too.")
    if skips:
        return f"{told}, below {reachable:.2f}×: kernels that skip half of the work take more than half of the time."
    return f"{told}, below {reachable:.2f}×: " + (
        "part of the time does not shrink with the MACs (norms, copies, Python)." if share is None else
        "smaller kernels do fewer operations a second, and norms and copies shrink less than MACs.")


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
