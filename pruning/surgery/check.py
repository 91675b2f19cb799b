"""Whether a plan's step is one for this network, before anything is touched."""

from math import isfinite
from typing import Any

import torch
from torch import nn

from pruning.errors import Later, Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.subject import log
from pruning.types import PlanStep
from pruning.units.catalog import find
from pruning.units.site import Site, indices

WEIGHTS = ("weight", "nm")  # units that are zeroed one by one


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
        units = torch.tensor(indices(entry), dtype=torch.long)
    except (TypeError, ValueError, AttributeError):
        return False
    shares = torch.bincount(units // (site.units // site.quota), minlength=site.quota)
    return len(units) == len(units.unique()) and bool((shares == shares[0]).all() and shares[0] > 0)
