"""Saving and reading folders. A pruned model is an ordinary diffusers folder and a ``plan.json`` beside it.

The plan gives the shapes; the tensors come from the files, every key and shape checked, and nothing is pruned again.
"""

import copy
import errno
import importlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import load_file
from torch import nn

from pruning import hub
from pruning.errors import Refused
from pruning.spread import kept_pattern
from pruning.subject import log, module_at, plan_of, with_plan
from pruning.surgery import slice_units
from pruning.types import Plan, PlanStep
from pruning.units.catalog import find
from pruning.units.site import indices

PLAN = "plan.json"


def read(folder: Path, dtype: torch.dtype | None) -> Any:
    """A pipeline, or a bare model, from a folder.

    Raises:
        Refused: not such a folder, pickles, remote code, or tensors that do not fit the plan.
    """
    index = folder / "model_index.json"
    if not index.exists() and not (folder / "config.json").exists():
        raise Refused(f"{folder} is not a diffusers folder: it has no model_index.json.",
                      "Give the folder that save_pretrained or pruning.save wrote.")
    weights = [*folder.glob("*/*.safetensors"), *folder.glob("*.safetensors")]
    if not weights:
        raise Refused(f"{folder} has no safetensors files.", "Pickled weights are not read; convert them first.")
    for file in weights:
        hub.check_safetensors(file)
    plan = Plan.from_json((folder / PLAN).read_text(encoding="utf-8")) if (folder / PLAN).exists() else None
    if not index.exists():
        return _bare(folder, plan, dtype)
    listed = json.loads(index.read_text(encoding="utf-8"))
    hub.check_index(listed)
    rebuilt = {root: _rebuilt(folder / root, listed[root], plan, root, dtype) for root in _sliced(plan)}
    kind = getattr(diffusers, listed["_class_name"])
    pipe = kind.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, **rebuilt)
    pipe.set_progress_bar_config(disable=True)
    if plan:
        _check_zeros(pipe, plan)
        with_plan(pipe, plan)
    return pipe


def _sliced(plan: Plan | None) -> list[str]:
    """The components whose shapes a plan changed."""
    steps = plan.steps if plan else ()
    return sorted({step.recipe.component.split(".")[0] for step in steps if step.decision.kind == "keep"})


def _bare(folder: Path, plan: Plan | None, dtype: torch.dtype | None) -> nn.Module:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = str(config.get("_class_name", ""))
    if not hasattr(diffusers, name):
        raise Refused(f"{folder} holds no diffusers model: its config names the class {name!r}.",
                      "Give a pipeline's folder, or one that pruning.save wrote.")
    if _sliced(plan):
        net = _rebuilt(folder, ("diffusers", name), plan, "", dtype)
    else:
        net = getattr(diffusers, name).from_pretrained(folder, torch_dtype=dtype, use_safetensors=True)
    if plan:
        _check_zeros(net, plan)
        with_plan(net, plan)
    return net


def _rebuilt(folder: Path, named: tuple[str, str], plan: Plan | None, root: str, dtype: torch.dtype | None) -> Any:
    """A component whose shapes differ from its config: built dense, cut to shape by the plan, then filled."""
    library, name = named
    kind = getattr(importlib.import_module(library), name)
    if library == "diffusers":
        net = kind.from_config(kind.load_config(folder))
    else:
        net = kind(kind.config_class.from_pretrained(folder))
    for step in plan.steps if plan else ():
        top, *rest = step.recipe.component.split(".")
        if top == root and step.decision.kind == "keep":
            part = module_at(net, ".".join(rest))
            sites = {site.name: site for site in find(part, step.recipe.units)}
            slice_units(part, {sites[name]: torch.tensor(indices(spans))
                               for name, spans in step.decision.sites.items()})
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= load_file(file)
    wanted = net.state_dict()
    prefix = "" if set(state) == set(wanted) else "text_model."  # transformers writes the text tower's older names
    state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    wrong = sorted(set(state) ^ set(wanted)) or [k for k, t in wanted.items() if t.shape != state[k].shape]
    if wrong:
        raise Refused(f"{folder} does not fit its plan: {wrong[0]} is missing, unknown or of another shape.",
                      "Save the pruned model again; the files and plan.json belong together.")
    net.load_state_dict(state, strict=True, assign=True)
    return net.to(dtype).eval() if dtype else net.eval()


def _check_zeros(pipe: Any, plan: Plan) -> None:
    """Refuse a folder whose weights are not zero where its plan says that they are."""
    for step in plan.steps:
        if step.decision.kind not in ("pattern", "threshold"):
            continue
        net = module_at(pipe, step.recipe.component)
        sites = {site.name: site for site in find(net, step.recipe.units)}
        for name, entry in step.decision.sites.items():
            rows = sites[name].rows(net.get_parameter(sites[name].tensor).detach()).float()
            if not _zeros_fit(rows, step, entry):
                raise Refused(f"{name} has weights where its plan says zero.",
                              "Save the pruned model again; the files and plan.json belong together.")


def _zeros_fit(rows: torch.Tensor, step: PlanStep, entry: Any) -> bool:
    if step.decision.kind == "pattern":
        return not bool(rows[~kept_pattern(rows.abs(), entry)].any())
    if step.recipe.method != "magnitude":
        return True  # the threshold is one of scores, not of sizes
    sizes = rows.abs().contiguous().view(torch.int32)
    return not bool(((sizes > 0) & (sizes < entry[0])).any())


def write(pipe: Any, folder: str | Path) -> Path:
    """Write a pipeline with its plan, in half precision when every tensor survives that exactly.

    The folder appears whole or not at all.

    Raises:
        Refused: the folder exists and is not empty, or the disk is full.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is not empty.", "Choose a new folder; nothing was overwritten.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".saving-"))
    try:
        halved(pipe).save_pretrained(part, safe_serialization=True)
        plan = plan_of(pipe)
        if plan:
            (part / PLAN).write_text(plan.to_json(), encoding="utf-8")
        part.chmod(0o755)
        os.replace(part, folder)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Refused("The disk is full; nothing was saved.", "Free some space or choose another folder.") from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def halved(pipe: Any) -> Any:
    """The pipeline in float16 when nothing is lost by that, else as it is; the given one is not changed."""
    parts = {"": pipe} if isinstance(pipe, nn.Module) else {
        name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    for part in parts.values():
        if not all(survives(tensor) for tensor in part.state_dict().values()):
            log.info("saved in the type in memory: some values do not survive float16")
            return pipe
    half = {}
    for name, part in parts.items():
        memo: dict[int, Any] = {id(t): nn.Parameter(t.detach().half(), False) for t in part.parameters()}
        memo |= {id(t): t.half() if t.is_floating_point() else t for t in part.buffers()}
        half[name] = copy.deepcopy(part, memo)
    if "" in half:
        return half[""]
    twin = copy.copy(pipe)
    for name, part in half.items():
        setattr(twin, name, part)
    return twin


def survives(tensor: torch.Tensor) -> bool:
    """Whether float16 holds every value exactly."""
    if not tensor.is_floating_point() or tensor.dtype == torch.float16:
        return True
    return bool((tensor.half().to(tensor.dtype) == tensor).all())
