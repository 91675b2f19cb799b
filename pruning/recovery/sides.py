"""Student and teacher of a recovery: who can be, what of the student has to stay, and the pipeline that comes of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from pruning.calibration import samples
from pruning.decisions.kind import shrinks
from pruning.errors import Refused
from pruning.network.clone import copied
from pruning.network.fingerprint import fingerprint
from pruning.network.notes import notes_of, plan_of, source_of, with_plan
from pruning.network.subject import Subject, subject
from pruning.recovery.losses import TAUGHT
from pruning.recovery.options import Recovery, many
from pruning.recovery.training import Training
from pruning.types import Calibration, Plan, PlanStep, Recipe, Trained
from pruning.units.catalog import find

COPIES = 5  # float32 numbers for each weight: itself, its gradient, its average, and two moments


def pair(student: Any, teacher: Any, component: str | None) -> tuple[Subject, Subject]:
    """Who learns, and who teaches: the student itself where nobody else does.

    Raises:
        Refused: the component cannot be trained, or the teacher is of another kind.
    """
    learner = subject(student, component)
    if reason := samples.why_not(learner, "gradients"):
        remedy = "" if any(t.device.type == "meta" for t in learner.net.parameters()) else (
            "Leave the component out: the denoiser can recover.")
        raise Refused(reason, remedy or 'Load it with weights="trained" or weights="random".')
    if notes_of(student).masked:
        raise Refused("A masked pipeline is for looking: its shapes are not those of its plan.",
                      "Recover what apply gives without masked=True.")
    mentor = learner if teacher is None else subject(teacher, learner.component)
    for side in (learner, mentor):
        if "generated" not in samples.sources(side):
            raise Refused(f"{side.label} cannot be shown pictures, and random inputs teach nothing of them.",
                          "Give whole pipelines of a kind that draws, instead of bare models.")
    if type(mentor.net) is not type(learner.net) or _seen(mentor) != _seen(learner):
        raise Refused("The dense model takes other inputs, or gives other outputs, than the one to be recovered.",
                      "Give the model that it was pruned from.")
    return learner, mentor


SEEN = ("in_channels", "out_channels", "sample_size", "cross_attention_dim")


def _seen(side: Subject) -> tuple:
    """What one network has to share with another that teaches it."""
    config: Any = side.net.config
    return (*(config.get(name) for name in SEEN), side.pipe.scheduler.config.get("prediction_type", "epsilon"))


def settled(learner: Subject, mentor: Subject, options: Recovery) -> Recovery:
    """The options with the samples that they stand for.

    Raises:
        Refused: the samples cannot be, or teach nothing.
    """
    taught = [name for name, weight in options.losses if weight and name in TAUGHT]
    if taught and mentor is learner:
        raise Refused(f"The loss {taught[0]} compares with a teacher, and there is none.", "Give the dense model.")
    source = samples.sources(mentor)[0]
    asked = samples.settled(mentor, options.calibration or Calibration(samples=many(source), source=source))
    if asked.source == "noise":
        raise Refused("Random inputs teach a denoiser nothing of pictures.", "Choose bundled, generated, or a folder.")
    if asked.timesteps:
        raise Refused("A recovery trains at all timesteps.", "Leave the timesteps of the calibration out.")
    if asked.source == "generated" and mentor is learner and plan_of(learner.pipe):
        raise Refused("What a pruned model draws itself does not teach it what it lost.",
                      "Give the dense model, or a folder of pictures as the calibration's source.")
    return replace(options, calibration=asked)


def calibration(options: Recovery) -> Calibration:
    """The samples of settled options."""
    assert options.calibration is not None
    return options.calibration


def check_room(learner: Subject) -> None:
    """Refuse what does not fit in memory, before anything is allocated."""
    first = next(learner.net.parameters())
    needed = 4 * COPIES * sum(p.numel() for p in learner.net.parameters())
    free = torch.cuda.mem_get_info(first.device)[0] if first.device.type == "cuda" else (
        psutil.virtual_memory().available)
    if needed > free:
        raise Refused(f"Training takes {needed / 1e9:.3g} GB and room for a batch, and {free / 1e9:.3g} GB are free.",
                      "Remove more, or train where there is more memory.")


def marks(learner: Subject, mentor: Subject, options: Recovery) -> dict[str, Any]:
    """What a state has to have been begun with; how many steps is free."""
    how = {key: value for key, value in options.to_dict().items() if key != "steps"}
    return {"component": learner.component, "student": list(fingerprint(learner.net)),
            "dense model": fingerprint(mentor.net)[1], "options": how}


def masked(learner: Subject) -> list[str]:
    """The weights whose zeros have to stay: those that a step of the student's plan has put zeros in."""
    plan = plan_of(learner.pipe)
    steps = [step for step in (plan.steps if plan else ()) if step.recipe.component == learner.component
             and step.decides and not shrinks(step.decision)]
    names = {name for step in steps for name in step.decision.sites}
    return list(dict.fromkeys(site.tensor for units in {step.recipe.units: None for step in steps}
                              for site in find(learner.net, units) if site.name in names))


def remade(source: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """A module with other values, in the types of the old ones; buffers are shared."""
    new: dict[int, Tensor] = {}
    for name, old in source.named_parameters():
        value = torch.empty_like(old, requires_grad=False).copy_(values[name]) if name in values else old.detach()
        new[id(old)] = nn.Parameter(value, requires_grad=old.requires_grad)
    return copied(source, lambda tensor: new.get(id(tensor), tensor))


def recovered(learner: Subject, net: nn.Module, options: Recovery, state: Training) -> Any:
    """The student's pipeline with what came of a finished training, and a step of its plan that says so."""
    plan = plan_of(learner.pipe)
    before = plan.steps if plan else ()
    own = [step.recipe for step in before if step.recipe.component == learner.component]
    recipe = replace(own[-1], update=False) if own else Recipe(source_of(learner.pipe), learner.component)
    entry = {"steps": state.step, "before": state.errors["before"], "after": state.errors["after"],
             "dense": state.errors["dense"], "on": state.on, "options": options.to_dict()}
    step = PlanStep(recipe, *fingerprint(learner.net), Trained(entry))
    return with_plan(learner.holding(net), Plan((*before, step)))
