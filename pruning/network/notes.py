"""What a pipeline knows of itself: where it came from, and which plan it has gone through."""

from dataclasses import replace
from typing import Any

from torch import nn

from pruning.network.obstacles import MARK, unwrapped
from pruning.network.subject import components, module_at
from pruning.types import Plan, PlanStep


def remember(pipe: Any, source: str) -> Any:
    """Note on a pipeline where it came from."""
    object.__setattr__(pipe, "prunescope_source", source)
    return pipe


def source_of(pipe: Any) -> str:
    """Where a pipeline came from, as far as it is known."""
    pipe = unwrapped(pipe)
    return getattr(pipe, "prunescope_source", "") or str(getattr(getattr(pipe, "config", None), "_name_or_path", ""))


def plan_of(pipe: Any) -> Plan | None:
    """The plan that a pipeline has gone through.

    A plan goes with the networks that it changed: with one that is replaced, and along with one that is handed on.
    """
    pipe = unwrapped(pipe)
    own = vars(pipe).get(MARK) if hasattr(pipe, "__dict__") else None
    marks = {path: vars(net)[MARK] for path in components(pipe) if MARK in vars(net := module_at(pipe, path))}
    found = {path: tuple(_renamed(step, path) for step in plan.steps) for path, plan in marks.items()}
    steps = tuple(step for step in own.steps if step in found.get(step.recipe.component, ())) if own else ()
    if any(tuple(step for step in steps if step.recipe.component == path) != all_ for path, all_ in found.items()):
        steps = sum(found.values(), ())  # networks of several pipelines: one after the other
    return own if own and steps == own.steps else Plan(steps) if steps else None


def _renamed(step: PlanStep, component: str) -> PlanStep:
    """A step as one of the component that a network is now."""
    same = step.recipe.component == component
    return step if same else replace(step, recipe=replace(step.recipe, component=component))


def with_plan(pipe: Any, plan: Plan) -> Any:
    """Note on a new pipeline, and on the networks that it changed, which plan it has gone through."""
    object.__setattr__(pipe, MARK, plan)
    if not isinstance(pipe, nn.Module):
        for path in {step.recipe.component for step in plan.steps}:
            own = Plan(tuple(step for step in plan.steps if step.recipe.component == path))
            object.__setattr__(module_at(pipe, path), MARK, own)
    return pipe
