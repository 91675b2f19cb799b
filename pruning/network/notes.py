"""What a pipeline knows of itself: where it came from, and which plan it has gone through."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from pruning.network.obstacles import MARK, unwrapped
from pruning.network.subject import components, module_at
from pruning.types import Plan, PlanStep


@dataclass(frozen=True)
class Notes:
    """What is noted on a pipeline or a network, in its one attribute of ours."""

    source: str = ""  # what it was loaded from
    plan: Plan | None = None  # what it has gone through
    masked: bool = False  # zeros stand where units are removed, so its shapes are not those that its plan says


def notes_of(thing: Any) -> Notes:
    """The notes of a pipeline or a network, in wrappers or not; empty ones where there are none."""
    return getattr(unwrapped(thing), "__dict__", {}).get(MARK) or Notes()


def note(thing: Any, **changes: Any) -> Any:
    """Change some of the notes of a pipeline or a network; the same object."""
    object.__setattr__(thing, MARK, replace(notes_of(thing), **changes))
    return thing


def source_of(pipe: Any) -> str:
    """Where a pipeline came from, as far as it is known."""
    return notes_of(pipe).source or str(getattr(getattr(unwrapped(pipe), "config", None), "_name_or_path", ""))


def plan_of(pipe: Any) -> Plan | None:
    """The plan that a pipeline has gone through.

    A plan goes with the networks that it changed: with one that is replaced, and along with one that is handed on.
    """
    own = notes_of(pipe).plan
    marks = {path: plan for path in components(pipe) if (plan := notes_of(module_at(pipe, path)).plan)}
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
    note(pipe, plan=plan)
    if not isinstance(pipe, nn.Module):
        for path in {step.recipe.component for step in plan.steps}:
            own = Plan(tuple(step for step in plan.steps if step.recipe.component == path))
            note(module_at(pipe, path), plan=own)
    return pipe
