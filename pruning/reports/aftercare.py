"""What was done for the weights that stay: adjusted, or fine-tuned."""

from statistics import median
from typing import Any

from pruning.types import Adjusted, Calibration, Plan, PlanStep

REBUILT = "The plan cannot rebuild these weights, so keep the saved folder."


def adjusted_after(done: Plan, step: PlanStep) -> PlanStep | None:
    """The step that adjusted what a step left."""
    pairs = zip(done.steps, done.steps[1:], strict=False)
    return next((b for a, b in pairs if a == step and isinstance(b.decision, Adjusted) and b.decision.sites), None)


def adjusted_in_words(step: PlanStep, again: bool) -> dict[str, Any]:
    """How many layers were adjusted, of how many that were looked at; the medians of their errors; all in words.

    ``again`` says that the plan at hand is one that was asked for: it adjusts anew wherever it is carried out.
    """
    errors = list(step.decision.sites.values())
    count = sum(after < before for before, after in errors)
    was, now = (median(side) for side in zip(*errors, strict=True))
    return {"layers": count, "of": len(errors), "before": was, "after": now,
            "said": f"{_fell(count, len(errors), was, now)}{', on held-out samples' if _apart(step) else ''}. " + (
                "The plan adjusts them again wherever it is carried out." if again else REBUILT)}


def recovered(plan: Plan) -> dict[str, Any] | None:
    """How a model was trained since its last pruning: steps of all trainings, errors of the last one, all in words."""
    if not plan.trained:
        return None
    last, steps = plan.trained[-1], sum(entry["steps"] for entry in plan.trained)
    was, now, dense = (None if last.get(key) is None else f"{last[key]:.3g}" for key in ("before", "after", "dense"))
    change = f"{now}, unchanged," if was == now else f"{was} → {now}"
    of_dense = f" (dense {dense})" if dense else ""
    return {"steps": steps, "before": last["before"], "after": last["after"], "dense": last.get("dense"),
            "said": f"Fine-tuned for {steps} step{'s' * (steps > 1)}: denoising error {change} on "
                    f"{last.get('on', 'its samples')}{of_dense}. {REBUILT}"}


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
