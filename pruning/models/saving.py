"""Saving and reading folders. A pruned model is an ordinary diffusers folder and a ``plan.json`` beside it.

The plan gives the shapes; the tensors come from the files, every key and shape checked, and nothing is pruned again.
"""

import re
from collections.abc import Iterable
from contextlib import ExitStack
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from pruning.decisions.kind import kind_of
from pruning.errors import Refused
from pruning.models import configs, files, folders, outputs, planfile
from pruning.network import keys, memory, obstacles
from pruning.network.clone import around, copied
from pruning.network.notes import notes_of, plan_of, with_plan
from pruning.network.size import written_as
from pruning.network.subject import DENOISERS, log, module_at, parts_of, plain
from pruning.types import Plan
from pruning.units.catalog import find
from pruning.values import path, told


def read(folder: Path, dtype: torch.dtype | None, *, ours: bool = False) -> Any:
    """A pipeline, or a bare model, from a folder. ``ours`` is one that comes with Prunescope, which is not looked over.

    Raises:
        Refused: not such a folder, pickles, remote code, too large, tensors that do not fit configs and plan, or other
            ones than were saved.
    """
    held = folders.examine(folder)
    plan = planfile.inside(folder)
    with folders.loading(folder), configs.seeded(0):  # building draws numbers, even where all of them are replaced
        dtype = dtype or _stored(folder, held)
        _check_memory(folder, held, dtype)
        nets = {} if ours else configs.outlines(folder, held, plan)
        parts = {name: _part(folder, held, name, dtype, nets.get(name), name in _touched(plan))
                 for name, kind in held.components.items() if issubclass(kind, nn.Module)}
        pipe = parts[""] if "" in parts else held.kind.from_pretrained(
            folder, torch_dtype=dtype, local_files_only=True, **parts, **dict.fromkeys(held.absent))
    if not isinstance(pipe, nn.Module):
        pipe.set_progress_bar_config(disable=True)
    if plan:
        _check_zeros(pipe, plan)
        _check_saved(folder, held, plan)
        with_plan(pipe, plan)
    return pipe


def _stored(folder: Path, held: folders.Contents) -> torch.dtype:
    """The type of the denoiser's tensors in the files; one type for all parts, or they cannot work together."""
    files = [name for root in (*DENOISERS, *held.components) for name in held.weights(root)]
    with safe_open(folder / files[0], "pt") as tensors:
        key = next(key for key, entry in held.headers[files[0]].items() if str(entry["dtype"]).startswith(("F", "BF")))
        return tensors.get_tensor(key).dtype


def _check_memory(folder: Path, held: folders.Contents, dtype: torch.dtype) -> None:
    """Refuse what memory could not hold, before any of it is taken.

    Raises:
        Refused: the tensors in the files take more than 80 % of what is free.
    """
    numbers = sum(prod(entry["shape"]) for name in held.components for entry in held.tensors(name).values())
    if (size := numbers * dtype.itemsize) > (limit := memory.available() * 4 // 5):
        raise Refused(f"{folder.name} takes {size / 1e9:.4g} GB in {str(dtype).removeprefix('torch.')}, and the limit "
                      f"here is {limit / 1e9:.4g} GB, 80 % of the free memory.",
                      'Load it with weights="meta", which takes none, or on a machine with more free memory.')


def _check_saved(folder: Path, held: folders.Contents, plan: Plan) -> None:
    """Refuse a pruned model's folder whose weights are not those that were saved with its plan."""
    saved = planfile.saved_in(folder)
    if saved is None:
        return
    if saved[0] != plan.digest:
        raise Refused(f"{folder} has another {planfile.PLAN} than it was saved with.", planfile.TOGETHER)
    for name in held.components:
        if name in saved[1] and digest([folder / file for file in held.weights(name)]) != saved[1][name]:
            raise Refused(f"{folder} has other weights{f' in {name}' if name else ''} than were saved with its plan.",
                          planfile.TOGETHER)


def digest(files: Iterable[Path]) -> str:
    """Sixteen hexadecimal digits that stand for every bit of the tensors in some files, however they are split."""
    found, all_ = dict[str, Path](), sha256()
    for file in files:
        with safe_open(file, "pt") as tensors:
            found |= dict.fromkeys(tensors.keys(), file)
    with ExitStack() as stack:
        opened = {file: stack.enter_context(safe_open(file, "pt")) for file in dict.fromkeys(found.values())}
        for key in sorted(found):
            tensor = opened[found[key]].get_tensor(key)
            all_.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
            all_.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return all_.hexdigest()[:16]


def _part(folder: Path, held: folders.Contents, name: str, dtype: torch.dtype, outline: nn.Module | None,
          touched: bool) -> nn.Module:
    """A network with its values: from its outline where a plan or a wrapper changed it, else as its library does."""
    kind = held.components[name]
    if outline is not None and (touched or keys.prefixed(held.tensors(name))):
        state: dict[str, torch.Tensor] = {}
        for file in held.weights(name):
            state |= load_file(folder / file)
        configs.fill(outline, kind, folder / name, state)
        return nn.Module.to(outline, dtype).eval()  # diffusers' own warns of modules to keep in float32
    own: dict[str, Any] = {"torch_dtype" if hasattr(kind, "load_config") else "dtype": dtype}
    if variant := held.variant_of(name):
        own["variant"] = variant
    net, info = kind.from_pretrained(folder / name, use_safetensors=True, local_files_only=True,
                                     output_loading_info=True, **own)
    if missing := sorted(info["missing_keys"]):
        raise Refused(f"{folder} does not load: in the files{f' of {name}' if name else ''}, {missing[0]} is missing.",
                      folders.AGAIN)
    return net


def _touched(plan: Plan | None) -> list[str]:
    """The components that a plan changed."""
    return sorted({step.recipe.component.split(".")[0] for step in plan.steps}) if plan else []


OWN = ("Prune with pruning.apply and train with pruning.recover, which keep plan and model together; or save its "
       "state_dict yourself.")


def _check_zeros(pipe: Any, plan: Plan, remedy: str = planfile.TOGETHER) -> None:
    """Refuse weights that are not zero where a plan says that they are."""
    cut = set()  # components that a later step made smaller
    for step in reversed(plan.steps):
        if not step.decides or step.recipe.component in cut:
            continue  # of what was cut later, neighbours and counts are not the same any more
        kind = kind_of(step.decision)
        if not kind.zeros:
            cut.add(step.recipe.component)
            continue
        net = module_at(pipe, step.recipe.component)
        sites = {site.name: site for site in find(net, step.recipe.units)}
        alone = sum(other.recipe.component == step.recipe.component for other in plan.steps) == 1
        for name in step.decision.sites:
            weight = net.get_parameter(sites[name].tensor).detach()
            if reason := kind.misfit(step, sites[name], weight, alone):
                raise Refused(f"{name} {reason}.", remedy)


def write(pipe: Any, folder: str | Path, force: bool = False) -> Path:
    """Write a pipeline with its plan, in half precision when every tensor survives that exactly.

    The folder appears whole or not at all. ``force`` lets it take the place of a model.

    Raises:
        Refused: the folder exists and is not empty, or the disk is full.
    """
    if notes_of(pipe).masked:
        raise Refused("A masked pipeline is for looking: its shapes are not those of its plan.",
                      "Save what apply gives without masked=True.")
    folder = outputs.empty(path("folder", folder), force)
    check_weights(pipe)
    check_loads(pipe)
    with files.filling(folder, lambda there: outputs.empty(there, force), over=force) as part:
        try:
            halved(pipe).save_pretrained(part, safe_serialization=True)
        except RuntimeError as error:
            if "share memory" not in str(error):
                raise
            raise Refused("Some tensors of this model share memory, and a folder would not hold both.",
                          "Give each its own first: layer.weight = nn.Parameter(layer.weight.clone()).") from error
        for config in part.glob("*/config.json"):  # float32, or plain from_pretrained mixes types and fails
            config.write_text(re.sub(r'"dtype": "\w+"', '"dtype": "float32"', config.read_text("utf-8")), "utf-8")
        plan = plan_of(pipe)
        if plan:
            planfile.write(plan, part / planfile.PLAN)
            planfile.sign(part, plan, {name: digest((part / name).glob("*model*.safetensors"))
                                        for name in parts_of(pipe)})
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
        for found in (obstacles.moved(module) for part in parts_of(pipe).values() for module in part.modules()):
            if found:
                raise Refused("The weights of this model are moved by hooks, and some are not here.", found[1])
        raise Refused("This model has shapes and no weights, so there is nothing to save.",
                      'Load it with weights="trained" or weights="random".')


def check_loads(pipe: Any) -> None:
    """Refuse what ``load`` would refuse: every tensor has to be as config and plan build it, with the plan's zeros.

    Raises:
        Refused: a part is of another origin, quantized, has adapters, or was changed outside of its plan.
    """
    plan = plan_of(pipe)
    for name, part in parts_of(pipe).items():
        what = f"The {name}" if name else "This model"
        if type(part).__module__.partition(".")[0] not in ("diffusers", "transformers"):
            raise Refused(f"{what} is a {type(part).__name__}, which is not part of diffusers or transformers, and "
                          "load runs no other code.", "Save it with its own library.")
        for inner, module in part.named_modules():
            if found := obstacles.altered(module, inner):
                raise Refused(f"{f'{name}.{inner}'.strip('.') or what} {found[0]}", found[1])
        with folders.loading(Path(type(part).__name__)):
            net = configs.again(part)
        configs.cut(net, name, plan)
        if fault := next(keys.faults(net, keys.tensors_of(part)), ""):
            raise Refused(f"{what} could not be loaded again: {fault}.", OWN)
    if plan:
        _check_zeros(pipe, plan, OWN)


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
