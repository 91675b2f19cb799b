"""A plan becomes a new pipeline. The old one stays as it was, and they share every tensor that did not change."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from pruning.criteria import METHODS
from pruning.decisions import masks
from pruning.errors import Later, Refused
from pruning.network.subject import Subject, fingerprint, log, plan_of, shell, subject, with_plan
from pruning.progress import Looked
from pruning.scores.scores import streamed
from pruning.surgery import repair
from pruning.surgery.norms import over_kept
from pruning.surgery.sizes import attended, mend
from pruning.types import Decision, Plan, PlanStep
from pruning.units.catalog import catalog, find
from pruning.units.site import PIECE, Site, indices
from pruning.values import flag, instance

WEIGHTS = ("weight", "nm")  # units that are zeroed one by one
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a number


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


def check(step: PlanStep, net: nn.Module) -> None:
    """Refuse a step that was resolved on something else, before anything is touched."""
    arch, weights = fingerprint(net)
    if arch != step.arch:
        raise Refused("This plan was made for another architecture: names or shapes of its tensors differ.",
                      "Make a plan on this model.")
    if weights != step.weights:
        if step.decision.kind != "keep":
            what = "mask" if step.decision.kind == "bits" else step.decision.kind
            raise Refused(f"This plan was made on other weights, and a {what} depends on them.",
                          "Make a plan on this model, or load the model that the plan was made on.")
        log.warning("This plan was made on other weights; the same units go, but they were not chosen here.")
    known_units(step, net)


def known_units(step: PlanStep, net: nn.Module) -> None:
    """Refuse a step that names sites or units which a component does not have."""
    if step.decision.kind == "layout":
        raise Later("A plan with a layout")
    kind, recipe = step.decision.kind, step.recipe
    whole = (kind == "keep") != (recipe.units in WEIGHTS)  # whole units are kept, single weights are zeroed
    asked = recipe.ratio > 0.05 and recipe.most > 0  # of less, there may be nothing that could go
    if (asked and not step.decision.sites) or not (whole or kind == "recovered"):
        raise Refused(f"This plan says nothing that could be done to {recipe.units}s.", "Make it again.")
    others = kind == "pattern" and [entry for entry in step.decision.sites.values() if entry != recipe.pattern]
    if others and (recipe.pattern or recipe.spread != "row"):  # by rows it is a pattern as long as a row
        raise Refused(f"This plan's recipe asks for {recipe.pattern}, and its decision is another.", "Make it again.")
    known = {site.name: site for site in find(net, step.recipe.units)}
    for name, entry in step.decision.sites.items():
        if step.decision.kind == "recovered" and name == "" and told(entry):
            continue
        if name not in known or not fits(known[name], step.decision.kind, entry):
            raise Refused(f"This plan names units of {name} that the model does not have.", "Make it again.")


def told(entry: Any) -> bool:
    """Whether this is what a plan notes of a training."""
    try:
        return entry["steps"] > 0 and all(isfinite(entry[key]) for key in ("before", "after"))
    except (TypeError, KeyError, OverflowError):
        return False


def fits(site: Site, kind: str, entry: Any) -> bool:
    """Whether a decision's entry is one for this site: units that it has, equally many of each norm group."""
    try:
        if kind == "pattern":
            n, m = map(int, entry.split(":"))
            return 0 < n < m and site.inputs % m == 0
        if kind == "threshold":
            key, kept, count = entry
            return 0 <= key < 1 << 31 and 0 <= kept <= site.units and 0 <= count <= site.units
        if kind == "bits":
            mark, count = entry
            return isinstance(mark, str) and 0 <= count <= site.units
        if kind == "recovered":
            return len([float(error) for error in entry]) == 2
        edges = [edge for start, stop in entry for edge in (start, stop)]
        if not edges or edges != sorted(edges) or edges[0] < 0 or edges[-1] > site.units:
            return False
        units = torch.tensor(indices(entry))
    except (TypeError, ValueError, AttributeError):
        return False
    shares = torch.bincount(units // (site.units // site.quota), minlength=site.quota)
    return len(units) == len(units.unique()) and bool((shares == shares[0]).all() and shares[0] > 0)


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


def zeroed(weight: Tensor, keep: Tensor) -> Tensor:
    """A copy of a weight, in its memory format (in another, the same numbers give other pictures and other times)."""
    out, bits = torch.empty_like(weight), BITS[weight.dtype.itemsize]
    rows = max(1, PIECE * len(weight) // max(1, weight.numel()))
    for start in range(0, len(weight), rows):  # in pieces that stay in the cache; by bits, twice as fast as by values
        part = slice(start, start + rows)
        all_ones = keep[part].to(weight.device, bits).neg_()
        out[part].copy_(weight[part]).view(bits).bitwise_and_(all_ones)
    return out


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


Places = Mapping[str, list[tuple[nn.Module, str]]]  # a parameter's first name -> all that it is a parameter of


def places_of(net: nn.Module) -> Places:
    """Where each parameter stands: the modules that have it, and what they call it."""
    firsts = {id(p): name for name, p in net.named_parameters()}
    found: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in firsts.values()}
    for module in net.modules():
        for key, tensor in module._parameters.items():
            if tensor is not None:
                found[firsts[id(tensor)]].append((module, key))
    return found


def put(places: Places, tensor: str, value: Tensor) -> None:
    """Replace one parameter wherever it stands in a network; whoever shares the old one elsewhere keeps it."""
    (first, key), *_ = places[tensor]
    new = nn.Parameter(value, requires_grad=first.get_parameter(key).requires_grad)
    for module, key in places[tensor]:
        setattr(module, key, new)


def slice_units(net: nn.Module, kept: Mapping[Site, Tensor]) -> None:
    """Cut removed units out of every tensor that they own a part of, in place of a shell's parameters."""
    cuts: dict[str, list[tuple[int, Tensor]]] = {}
    tensors, modules = dict(net.named_parameters()), dict(net.named_modules())  # looked up by name, they take as long
    for (tensor, axis), stay in staying(tensors, kept).items():
        cuts.setdefault(tensor, []).append((axis, stay))
    for tensor, parts in cuts.items():
        value = (old := tensors[tensor]).detach()
        for axis, stay in sorted(parts, key=lambda part: part[0]):  # rows are the quickest to cut
            value = value.index_select(axis, stay.to(value.device))
        owner, _, name = tensor.rpartition(".")
        setattr(modules[owner], name, nn.Parameter(value.contiguous(memory_format=format_of(old)),
                                                   requires_grad=old.requires_grad))
    heads = {site.module: len(units) for site, units in kept.items() if site.kind == "head"}
    mend(net, (tensor.rpartition(".")[0] for tensor in cuts), heads)


def format_of(tensor: Tensor) -> torch.memory_format:
    """channels_last for a tensor that is laid out so and not as usual."""
    apart = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if apart else torch.contiguous_format


def mask_units(net: nn.Module, kept: Mapping[Site, Tensor]) -> None:
    """Same shapes, zeros where units are removed; norms and attention work as those of the smaller model do."""
    norms: dict[str, Tensor] = {}
    places = places_of(net)
    for (tensor, axis), stay in staying(dict(net.named_parameters()), kept).items():
        old = net.get_parameter(tensor).detach()
        keep = torch.zeros(old.shape[axis], dtype=torch.bool).index_fill_(0, stay, True)
        gone = (~keep).nonzero().flatten().to(old.device)
        put(places, tensor, old.index_fill(axis, gone, 0))
        norms.setdefault(tensor.rpartition(".")[0], stay.to(old.device))
    for name, stay in norms.items():
        norm = over_kept(net.get_submodule(name), stay)
        if norm is not None:
            owner, _, last = name.rpartition(".")
            setattr(net.get_submodule(owner), last, norm)
    for site, units in kept.items():
        for tensor in attended(net, site):
            put(places, tensor, net.get_parameter(tensor).detach() * (site.units / len(units)) ** 0.5)


def staying(tensors: Mapping[str, Tensor], kept: Mapping[Site, Tensor]) -> dict[tuple[str, int], Tensor]:
    """(tensor, axis) -> the indices that stay, over all sites at once."""
    owners: dict[tuple[str, int], list[tuple[Site, int, int]]] = {}
    for site in kept:
        for member in site.members:
            owners.setdefault((member.tensor, member.axis), []).append((site, member.offset, member.size))
    found: dict[tuple, Tensor] = {}  # most tensors on a stream keep the same

    def left(width: int, parts: tuple[tuple[Site, int, int], ...]) -> Tensor:
        keep = torch.ones(width, dtype=torch.bool)
        for site, offset, size in parts:
            own = torch.zeros(site.units, dtype=torch.bool).index_fill_(0, kept[site], True)
            keep[offset : offset + site.units * size] = own.repeat_interleave(size)
        return keep.nonzero().flatten()

    out = {}
    for (tensor, axis), parts in owners.items():
        key = (tensors[tensor].shape[axis], tuple(parts))
        if key not in found:
            found[key] = left(*key)
        out[tensor, axis] = found[key]
    return out
