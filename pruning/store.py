"""Saving and reading folders. A pruned model is an ordinary diffusers folder and a ``plan.json`` beside it.

The plan gives the shapes; the tensors come from the files, every key and shape checked, and nothing is pruned again.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from pruning import files, folders, masks, outputs, planfile
from pruning.accounting import written_as
from pruning.blank import cut, module
from pruning.copies import around, copied
from pruning.errors import Refused
from pruning.spread import kept_pattern
from pruning.subject import DENOISERS, log, module_at, parts_of, plain, plan_of, with_plan
from pruning.types import Plan
from pruning.units.catalog import find
from pruning.values import path, told


def read(folder: Path, dtype: torch.dtype | None) -> Any:
    """A pipeline, or a bare model, from a folder.

    Raises:
        Refused: not such a folder, pickles, remote code, or tensors that do not fit the plan.
    """
    held = folders.examine(folder)
    plan = planfile.inside(folder)
    how: dict[str, Any] = {"torch_dtype": dtype, "variant": held.variant, "use_safetensors": True,
                           "local_files_only": True}
    with folders.loading(folder):
        how["torch_dtype"] = dtype = dtype or _stored(folder, held)
        rebuilt = {root: _rebuilt(folder, held, root, plan, dtype) for root in _touched(plan)}
        pipe = rebuilt[""] if "" in rebuilt else held.kind.from_pretrained(folder, **how, **rebuilt,
                                                                           **dict.fromkeys(held.absent))
    if not isinstance(pipe, nn.Module):
        pipe.set_progress_bar_config(disable=True)
    if plan:
        _check_zeros(pipe, plan)
        with_plan(pipe, plan)
    return pipe


def _stored(folder: Path, held: folders.Contents) -> torch.dtype:
    """The type of the denoiser's tensors in the files; one type for all parts, or they cannot work together."""
    files = [name for root in (*DENOISERS, *held.components) for name in held.weights(root)]
    with safe_open(folder / files[0], "pt") as tensors:
        return tensors.get_tensor(next(iter(tensors.keys()))).dtype


def _touched(plan: Plan | None) -> list[str]:
    """The components that a plan changed."""
    return sorted({step.recipe.component.split(".")[0] for step in plan.steps}) if plan else []


def _rebuilt(folder: Path, held: folders.Contents, root: str, plan: Plan | None, dtype: torch.dtype | None) -> Any:
    """A component that a plan changed: built dense, cut to shape by the plan, then filled, every key checked."""
    if root not in held.components:
        raise Refused(f"{folder} does not fit its plan: it has no component {root!r}.", planfile.TOGETHER)
    net = module(held.components[root], folder / root)
    cut(net, root, plan)
    state: dict[str, torch.Tensor] = {}
    for file in held.weights(root):
        state |= load_file(folder / file)
    wanted = net.state_dict()
    prefix = "" if set(state) == set(wanted) else "text_model."  # transformers writes the text tower's older names
    state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    wrong = sorted(set(state) ^ set(wanted)) or [k for k, t in wanted.items() if t.shape != state[k].shape]
    if wrong:
        raise Refused(f"{folder} does not fit its plan: {wrong[0]} is missing, unknown or of another shape.",
                      planfile.TOGETHER)
    net.load_state_dict(state, strict=True, assign=True)
    return (nn.Module.to(net, dtype) if dtype else net).eval()  # diffusers' own warns of modules to keep in float32


def _check_zeros(pipe: Any, plan: Plan) -> None:
    """Refuse a folder whose weights are not zero where its plan says that they are."""
    cut = set()  # components that a later step made smaller
    for step in reversed(plan.steps):
        if step.decision.kind == "keep":
            cut.add(step.recipe.component)
        if step.decision.kind not in ("pattern", "threshold", "bits"):
            continue
        if step.recipe.component in cut:
            continue  # neighbours and counts are not the same any more
        net = module_at(pipe, step.recipe.component)
        sites = {site.name: site for site in find(net, step.recipe.units)}
        for name, entry in step.decision.sites.items():
            weight = net.get_parameter(sites[name].tensor).detach()
            if step.decision.kind == "pattern":
                rows = sites[name].rows(weight)
                fits = not rows[~kept_pattern(rows.abs(), entry)].any()
            elif step.decision.kind == "bits":
                fits = not weight[~masks.unpacked(step.decision, sites[name], weight.shape)].any()
            else:
                fits = int((weight == 0).sum()) >= entry[2]
            if not fits:
                raise Refused(f"{name} has weights where its plan says zero.", planfile.TOGETHER)


def write(pipe: Any, folder: str | Path, force: bool = False) -> Path:
    """Write a pipeline with its plan, in half precision when every tensor survives that exactly.

    The folder appears whole or not at all. ``force`` lets it take the place of a model.

    Raises:
        Refused: the folder exists and is not empty, or the disk is full.
    """
    if getattr(pipe, "prunescope_masked", False):
        raise Refused("A masked pipeline is for looking: its shapes are not those of its plan.",
                      "Save what apply gives without masked=True.")
    folder = outputs.empty(path("folder", folder), force)
    check_weights(pipe)
    with files.filling(folder, lambda there: outputs.empty(there, force), over=force) as part:
        halved(pipe).save_pretrained(part, safe_serialization=True)
        for config in part.glob("*/config.json"):  # float32, or plain from_pretrained mixes types and fails
            config.write_text(re.sub(r'"dtype": "\w+"', '"dtype": "float32"', config.read_text("utf-8")), "utf-8")
        plan = plan_of(pipe)
        if plan:
            planfile.write(plan, part / planfile.PLAN)
    return folder


def check_weights(pipe: Any) -> None:
    """Refuse what has no weights that a folder could hold.

    Raises:
        Refused: it is no pipeline or model of diffusers, or has shapes alone.
    """
    tensors = [tensor for part in parts_of(pipe).values() for tensor in part.state_dict().values()]
    if not tensors or not hasattr(pipe, "save_pretrained"):
        raise Refused(f"There is nothing to save in {told(pipe)}.", "Give a pipeline or a model of diffusers.")
    if any(tensor.device.type == "meta" for tensor in tensors):
        raise Refused("This model has shapes and no weights, so there is nothing to save.",
                      'Load it with weights="trained" or weights="random".')


def _half(tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor.detach().half(), False)
    return tensor.half() if tensor.is_floating_point() else tensor


def halved(pipe: Any) -> Any:
    """The pipeline in float16 when nothing is lost by that, else as it is; the given one is not changed."""
    pipe = plain(pipe)
    if written_as(pipe) != torch.float16:
        log.info("saved in the type in memory: some values do not survive float16")
        return pipe
    half = {}
    for name, part in parts_of(pipe).items():
        half[name] = copied(part, _half, hooks=False, runs=False)
    if "" in half:
        return half[""]
    twin = around(pipe)
    for name, part in half.items():
        setattr(twin, name, part)
    return twin
