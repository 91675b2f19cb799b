"""Requested, achieved, bytes, MACs: what a plan cost and saved, counted on the models themselves."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pruning.costs import Costs, on_meta, trace
from pruning.errors import Refused
from pruning.spread import gone, left_alone, parse_pattern, protected, ratio_of, reason
from pruning.subject import Subject, fingerprint, parts_of, subject
from pruning.surgery import carried_out
from pruning.types import Plan, PlanStep
from pruning.units.catalog import find
from pruning.units.site import Site


@dataclass(frozen=True)
class LayerReport:
    """One site: how many units it had and lost, and what that took."""

    name: str
    kind: str
    units: int
    gone: int
    params_gone: int
    macs_gone: int | None
    requested: float
    reason: str | None

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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def account(dense: Any, pruned: Any, plan: Plan, measured: Mapping[str, Any] | None = None) -> Report:
    """The report of the plan's last step.

    Layers are those of the step. Params and MACs compare the dense component with the pruned one; ``nonzero`` counts
    what is left when zeros are not counted.
    """
    step = plan.steps[-1]
    before, after = subject(dense, step.recipe.component), subject(pruned, step.recipe.component)
    costs, cut = trace(before.net, before.example), trace(after.net, before.example)
    zeros = {name: int(tensor.numel() - torch.count_nonzero(tensor)) for name, tensor in after.net.named_parameters()
             if tensor.device.type != "meta"}
    params = {"dense": total(before.net), "pruned": total(after.net), "nonzero": total(after.net) - sum(zeros.values())}
    macs = {"dense": costs.count()[1], "pruned": cut.count()[1],
            "nonzero": cut.count()[1] - sum(n * cut.uses.get(name, 0) for name, n in zeros.items()),
            "counted_at": before.example.to_dict()} if costs.known else {
                "dense": None, "pruned": None, "nonzero": None, "counted_at": None}
    start = _start(before, plan)
    base = costs if start is before.net else trace(start, before.example)
    sites = list(find(start, step.recipe.units))
    layers = tuple(_layer(site, step, base) for site in sites)
    free = [layer for layer, site in zip(layers, sites, strict=True) if not protected(site, step.recipe)]
    stored = written_as(dense)
    return Report(
        {"ratio": step.recipe.ratio, "of": step.recipe.of},
        {"total": sum(layer.units for layer in free), "gone": sum(layer.gone for layer in free)},
        params, macs,
        {"dense": weight(before.net, stored), "pruned": weight(after.net, stored),
         "dtype": str(stored).removeprefix("torch.")},
        speed(step, macs, measured, next(after.net.parameters()).device.type),
        {"dense": fingerprint(before.net)[1], "pruned": fingerprint(after.net)[1]}, layers)


def _start(before: Subject, plan: Plan) -> nn.Module:
    """The component as the last step found it: of several steps, the earlier ones are repeated on shapes alone.

    Raises:
        Refused: no step was resolved on the dense model.
    """
    own = [step for step in plan.steps if step.recipe.component == plan.recipe.component]
    arch = fingerprint(before.net)[0]
    places = [i for i, step in enumerate(own) if step.arch == arch]
    if not places:
        raise Refused("This plan was made for another architecture: names or shapes of its tensors differ.",
                      "Report on the model that the plan was made on.")
    net = before.net
    for step in own[places[-1]:-1]:
        if step.decision.kind == "keep":
            net = carried_out(replace(before, net=on_meta(net)), step, masked=False)
    return net


def total(net: nn.Module) -> int:
    """Parameters, zeros included."""
    return sum(p.numel() for p in net.parameters())


def weight(net: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of the tensors in files of a type; the files add a header of names and shapes."""
    return sum(t.numel() * (dtype.itemsize if t.is_floating_point() else t.element_size())
               for t in net.state_dict().values())


def written_as(pipe: Any) -> torch.dtype:
    """The type that ``save`` writes: float16 when every value of all parts survives it, else the type in memory."""
    tensors = [t for part in parts_of(pipe).values() for t in part.state_dict().values() if t.is_floating_point()]
    return torch.float16 if all(map(survives, tensors)) else tensors[0].dtype


def survives(tensor: Tensor) -> bool:
    """Whether float16 holds every value exactly. A tensor without values holds none that could be lost."""
    if tensor.dtype == torch.float16 or tensor.device.type == "meta":
        return True
    return bool((tensor.half().to(tensor.dtype) == tensor).all())


def _layer(site: Site, step: PlanStep, costs: Costs) -> LayerReport:
    entry = step.decision.sites.get(site.name)
    params, macs = 0, 0
    own = ratio_of(site, step.recipe)
    requested = step.recipe.ratio if own is None else own
    count = gone(step.decision, site)
    if entry is not None and step.decision.kind == "keep":
        left = costs.count({site: site.units - count})
        params, macs = (whole - part for whole, part in zip(costs.count(), left, strict=True))
    elif entry is not None:
        params, macs = count, count * costs.uses.get(site.tensor, 0)
    return LayerReport(site.name, site.kind, site.units, count, params, macs if costs.known else None,
                       0.0 if left_alone(site, step.recipe) else requested, reason(site, count, step.recipe))


def speed(step: PlanStep, macs: Mapping[str, Any], measured: Mapping[str, Any] | None,
          device: str) -> dict[str, Any]:
    """Theory: the dense MACs over those that are not zero. Reachable: over those that this device really does, which
    takes all of a step to be such arithmetic. Measured: the clock.
    """
    if macs["dense"] is None:
        return {"theory": None, "reachable": None, "measured": measured,
                "why": "The MACs of this class are not counted yet."}
    theory, smaller = macs["dense"] / max(1, macs["nonzero"]), macs["dense"] / max(1, macs["pruned"])
    if step.decision.kind == "pattern" and device == "cuda":
        n, m = parse_pattern(step.recipe.pattern or "2:4")
        return {"theory": theory, "reachable": None, "measured": measured,
                "why": f"The {n}:{m} kernels of this GPU were not probed, and they serve linear layers only."}
    why = ["The layers are smaller, so every kernel does less."] if macs["pruned"] < macs["dense"] else []
    if macs["nonzero"] < macs["pruned"]:
        why += ["Zeros are stored and multiplied like other numbers: this device has no kernel that skips them."]
    return {"theory": theory, "reachable": smaller, "measured": measured,
            "why": " ".join(why) or "Nothing was removed."}
