"""Whether a plan's step is one for this network, before anything is touched."""

from math import isfinite
from typing import Any

from torch import nn

from pruning.decisions.kind import DecisionKind, kind_of, shrinks
from pruning.errors import Refused
from pruning.network.fingerprint import fingerprint
from pruning.network.subject import log
from pruning.types import Decision, PlanStep, Trained
from pruning.units.catalog import find
from pruning.units.site import Site
from pruning.units.unit import single


def check(step: PlanStep, net: nn.Module) -> None:
    """Refuse a step that was resolved on something else, before anything is touched."""
    arch, weights = fingerprint(net)
    if arch != step.arch:
        raise Refused("This plan was made for another architecture: names or shapes of its tensors differ.",
                      "Make a plan on this model.")
    if weights != step.weights:
        if not shrinks(step.decision):
            what = kind_of(step.decision).noun if step.decides else "training or an adjustment"
            raise Refused(f"This plan was made on other weights, and a {what} depends on them.",
                          "Make a plan on this model, or load the model that the plan was made on.")
        log.warning("This plan was made on other weights; the same units go, but they were not chosen here.")
    known_units(step, net)


def known_units(step: PlanStep, net: nn.Module) -> None:
    """Refuse a step that names sites or units which a component does not have."""
    recipe, sites = step.recipe, step.decision.sites
    kind = kind_of(step.decision) if isinstance(step.decision, Decision) else None
    asked = recipe.ratio > 0.05 and recipe.most > 0  # of less, there may be nothing that could go
    if (asked and not sites) or (kind and kind.zeros != single(recipe.units)):
        raise Refused(f"This plan says nothing that could be done to {recipe.units}s.", "Make it again.")
    if isinstance(step.decision, Trained):
        if not is_training_note(step.decision.entry):
            raise Refused("This plan says of a training what cannot be.", "Make it again.")
        return
    if kind and not kind.suits(step):
        raise Refused(f"This plan's recipe asks for {recipe.pattern}, and its decision is another.", "Make it again.")
    known = {site.name: site for site in find(net, recipe.units)}
    for name, entry in sites.items():
        if name not in known or not (fits(kind, entry, known[name]) if kind else is_adjustment_note(entry)):
            raise Refused(f"This plan names units of {name} that the model does not have.", "Make it again.")


def fits(kind: DecisionKind, entry: Any, site: Site) -> bool:
    """Whether a decision's entry is one for this site. It comes from a file, so it may be anything."""
    try:
        return kind.fits(entry, site)
    except (TypeError, ValueError, AttributeError):
        return False


def is_adjustment_note(entry: Any) -> bool:
    """Whether this is what a plan notes of an adjusted layer."""
    try:
        return len([float(error) for error in entry]) == 2
    except (TypeError, ValueError):
        return False


def is_training_note(entry: Any) -> bool:
    """Whether this is what a plan notes of a training."""
    try:
        return entry["steps"] > 0 and all(isfinite(entry[key]) for key in ("before", "after"))
    except (TypeError, KeyError, OverflowError):
        return False
