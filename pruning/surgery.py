"""A plan becomes a new pipeline. The old one stays as it was, and they share every tensor that did not change."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pruning.criteria import CRITERIA
from pruning.errors import Later, Refused
from pruning.spread import kept_pattern, kept_weights, parse_pattern
from pruning.subject import Subject, fingerprint, log, plan_of, shell, subject, with_plan
from pruning.types import Plan, PlanStep
from pruning.units import head
from pruning.units.catalog import catalog, find
from pruning.units.channel import KeptGroupNorm
from pruning.units.site import Site, indices


def apply_plan(pipe: Any, plan: Plan, masked: bool = False) -> Any:
    """A new pipeline with the plan's steps carried out; steps that the pipeline already went through are not repeated.

    Raises:
        Refused: the plan was resolved on another architecture or, where its decision depends on them, other weights.
    """
    done = plan_of(pipe)
    before = done.steps if done else ()
    steps = plan.steps[len(before):] if plan.steps[: len(before)] == before else plan.steps
    for number, step in enumerate(steps):
        if masked and number and steps[number - 1].decision.kind == "keep":
            raise Refused("masked=True shows one width step only: the next step's indices count the smaller layers.",
                          "Apply the plan without masked.")
        looked_at = subject(pipe, step.recipe.component, step.recipe.seed)
        check(step, looked_at.net)
        pipe = looked_at.holding(carried_out(looked_at, step, masked))
    if masked and any(step.decision.kind == "keep" for step in steps):
        object.__setattr__(pipe, "prunescope_masked", True)  # its shapes are not those that its plan says
    return with_plan(pipe, replace(plan, steps=before + steps))


def check(step: PlanStep, net: nn.Module) -> None:
    """Refuse a step that was resolved on something else, before anything is touched."""
    arch, weights = fingerprint(net)
    if arch != step.arch:
        raise Refused("This plan was made for another architecture: names or shapes of its tensors differ.",
                      "Make a plan on this model.")
    if weights != step.weights:
        if step.decision.kind != "keep":
            raise Refused(f"This plan was made on other weights, and a {step.decision.kind} depends on them.",
                          "Make a plan on this model, or load the model that the plan was made on.")
        log.warning("This plan was made on other weights; the same units go, but they were not chosen here.")
    known_units(step, net)


def known_units(step: PlanStep, net: nn.Module) -> None:
    """Refuse a step that names sites or units which a component does not have."""
    if step.decision.kind not in ("threshold", "pattern", "keep"):
        raise Later(f"A plan with a {step.decision.kind}")
    known = {site.name: site for site in find(net, step.recipe.units)}
    for name, entry in step.decision.sites.items():
        if name not in known or not fits(known[name], step.decision.kind, entry):
            raise Refused(f"This plan names units of {name} that the model does not have.", "Make it again.")


def fits(site: Site, kind: str, entry: Any) -> bool:
    """Whether a decision's entry is one for this site: units that it has, equally many of each norm group."""
    try:
        if kind == "pattern":
            return site.inputs % parse_pattern(entry)[1] == 0
        if kind == "threshold":
            key, kept, count = entry
            return 0 <= key < 1 << 31 and 0 <= kept <= site.units and 0 <= count <= site.units
        edges = [edge for start, stop in entry for edge in (start, stop)]
        if not edges or edges != sorted(edges) or edges[0] < 0 or edges[-1] > site.units:
            return False
        units = torch.tensor(indices(entry))
    except (TypeError, ValueError):
        return False
    shares = torch.bincount(units // (site.units // site.quota), minlength=site.quota)
    return len(units) == len(units.unique()) and bool((shares == shares[0]).all() and shares[0] > 0)


def carried_out(looked_at: Subject, step: PlanStep, masked: bool) -> nn.Module:
    """The component after one step, as a new module."""
    net = shell(looked_at.net)
    if step.decision.kind == "keep":
        (mask_units if masked else slice_units)(net, kept_units(net, step))
        return net
    for site, keep in kept_masks(looked_at, step, list(step.decision.sites)):
        weight = net.get_parameter(site.tensor)
        stays = site.unrows(keep, weight.shape).to(weight.device)
        # A copy keeps the weight's memory format; in another one the same numbers give other pictures and other times.
        put(net, site.tensor, weight.detach().clone().masked_fill_(~stays, 0))
    return net


def kept_units(net: nn.Module, step: PlanStep) -> dict[Site, Tensor]:
    """The units that stay of each site that a width step touches, (units kept,) indices."""
    sites = {site.name: site for site in find(net, step.recipe.units)}
    return {sites[name]: torch.tensor(indices(spans)) for name, spans in step.decision.sites.items()}


def kept_masks(looked_at: Subject, step: PlanStep, names: list[str]) -> Iterator[tuple[Site, Tensor]]:
    """Which weights of some weight sites stay: (site, (rows, inputs) bool), resolved again from their scores."""
    recipe = step.recipe
    some = catalog(looked_at.net, recipe.units, looked_at.example, looked_at.label).only(*names)
    criterion = CRITERIA.make(recipe.method, dict(recipe.options))
    for scored in criterion(looked_at, some, recipe.calibration):
        entry = step.decision.sites[scored.site.name]
        if step.decision.kind == "pattern":
            yield scored.site, kept_pattern(scored.values, entry)
        else:
            yield scored.site, kept_weights(scored.values, *entry[:2])


def put(net: nn.Module, tensor: str, value: Tensor) -> None:
    """Replace one parameter; whoever shares the old one keeps it."""
    owner, _, name = tensor.rpartition(".")
    old = net.get_parameter(tensor)
    setattr(net.get_submodule(owner), name, nn.Parameter(value, requires_grad=old.requires_grad))


def slice_units(net: nn.Module, kept: Mapping[Site, Tensor]) -> None:
    """Cut removed units out of every tensor that they own a part of, in place of a shell's parameters."""
    for (tensor, axis), gone in owned(kept).items():
        old = net.get_parameter(tensor)
        stay = torch.ones(old.shape[axis], dtype=torch.bool).index_fill_(0, gone, False).nonzero().flatten()
        put(net, tensor, old.detach().index_select(axis, stay.to(old.device)).contiguous())
    for site, units in kept.items():
        for module in {member.tensor.rpartition(".")[0] for member in site.members}:
            resize(net.get_submodule(module))
        if site.kind == "head":
            head.mend(net, site, len(units))


def mask_units(net: nn.Module, kept: Mapping[Site, Tensor]) -> None:
    """Same shapes, zeros where units are removed; norms take their statistics over the kept channels."""
    for (tensor, axis), gone in owned(kept).items():
        old = net.get_parameter(tensor)
        put(net, tensor, old.detach().index_fill(axis, gone.to(old.device), 0))
    for site, units in kept.items():
        if site.norm:
            owner, _, name = site.norm.rpartition(".")
            norm: nn.GroupNorm = net.get_submodule(site.norm)  # type: ignore[assignment]
            setattr(net.get_submodule(owner), name, KeptGroupNorm(norm, units.to(norm.weight.device)))


def owned(kept: Mapping[Site, Tensor]) -> dict[tuple[str, int], Tensor]:
    """(tensor, axis) -> the indices that removed units own, over all sites at once."""
    gone: dict[tuple[str, int], list[Tensor]] = {}
    for site, units in kept.items():
        away = torch.ones(site.units, dtype=torch.bool).index_fill_(0, units, False).nonzero().flatten()
        for member in site.members:
            gone.setdefault((member.tensor, member.axis), []).append(member.indices(away))
    return {place: torch.cat(parts) for place, parts in gone.items()}


def resize(module: nn.Module) -> None:
    """Let a module's own counts follow its tensors."""
    match module:
        case nn.Linear():
            module.out_features, module.in_features = module.weight.shape
        case nn.Conv2d():
            module.out_channels, module.in_channels = module.weight.shape[:2]
        case nn.GroupNorm():
            module.num_channels = module.weight.shape[0]
