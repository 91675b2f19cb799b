"""Pipelines from their configs alone: shapes without values, on the meta device, or random values. Reads no weights.

What a folder does not have, such as a tokenizer, is None in its pipeline.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from pruning.decisions.check import known_units
from pruning.decisions.kind import kind_of
from pruning.errors import Refused
from pruning.models import folders, planfile
from pruning.network import keys, memory
from pruning.network.notes import with_plan
from pruning.network.subject import module_at
from pruning.surgery.masking import places_of
from pruning.types import Plan

IN_PLACE = re.compile(r"(?!requires_grad_|detach_)\w*[a-z]_")  # functions that set values
MOST_PARTS = 30_000  # modules and tensors of one network; the largest of diffusers and transformers have some thousands


def build(folder: Path, weights: str, dtype: torch.dtype | None = None, seed: int = 0) -> Any:
    """A pipeline, or a bare model, of a folder's configs: ``meta``, or ``random`` on the CPU, repeatable by its seed.

    Raises:
        Refused: not such a folder; too large for random values; or a pruned model, whose zeros are in its weights.
    """
    kind, parts, absent = folders.described(folder)
    plan = planfile.inside(folder)
    if plan and weights == "random":
        raise Refused(f"{folder} is a pruned model: what went was chosen by its weights.",
                      'Load it with weights="trained" or weights="meta", or prune a random model.')
    absent += [name for name in parts if not (folder / name).is_dir()]
    kinds = {name: part for name, part in folders.classes(parts).items()
             if name not in absent and issubclass(part, nn.Module)}
    with folders.loading(folder):
        nets = modules(folder, kinds, weights, dtype or torch.float32, seed)
        for name, net in nets.items():
            cut(net, name, plan)
        pipe = nets[""] if "" in nets else kind.from_pretrained(folder, local_files_only=True, **nets,
                                                                **dict.fromkeys(absent))
    if not isinstance(pipe, nn.Module):
        pipe.set_progress_bar_config(disable=True)
    return with_plan(pipe, plan) if plan else pipe


def modules(folder: Path, kinds: Mapping[str, Any], weights: str, dtype: torch.dtype,
            seed: int) -> dict[str, nn.Module]:
    """The networks of a folder, without values or with random ones.

    Raises:
        Refused: too large for random values. Nothing was allocated.
    """
    with _default(dtype):
        with torch.device("meta"):
            nets = {name: module(kind, folder / name).eval() for name, kind in kinds.items()}
        if weights == "random":
            _check_memory(folder.name, nets, dtype)
            with seeded(seed):
                nets = {name: module(kind, folder / name).eval() for name, kind in kinds.items()}
    return nets


def module(kind: Any, folder: Path) -> nn.Module:
    """A model of diffusers or transformers as its config says, with the values that it starts training from.

    Raises:
        Refused: it has more parts than any real one.
    """
    with _counted(folder):
        if hasattr(kind, "load_config"):
            return kind.from_config(kind.load_config(folder))
        return kind(kind.config_class.from_pretrained(folder))


def again(net: Any) -> nn.Module:
    """What the config of a model builds, without values."""
    with torch.device("meta"):
        return type(net).from_config(net.config) if hasattr(net, "load_config") else type(net)(net.config)


def outlines(folder: Path, held: folders.Contents, plan: Plan | None) -> dict[str, nn.Module]:
    """The networks of a folder without values, cut to shape by its plan, each held to what its files have.

    Raises:
        Refused: configs, plan and files do not fit. Nothing was allocated.
    """
    for step in plan.steps if plan else ():
        if (top := step.recipe.component.split(".")[0]) not in held.components:
            raise Refused(f"{folder} does not fit its plan: it has no component {top!r}.", planfile.TOGETHER)
    nets = {}
    for name, kind in held.components.items():
        if issubclass(kind, nn.Module):
            with torch.device("meta"):
                nets[name] = module(kind, folder / name)
            cut(nets[name], name, plan)
            check_fit(folder, held, name, nets[name], plan)
    return nets


def check_fit(folder: Path, held: folders.Contents, name: str, net: nn.Module, plan: Plan | None = None) -> None:
    """Compare the names, shapes and kinds of a component's tensors with the headers of its files; no value is read.

    Raises:
        Refused: they differ.
    """
    if fault := keys.fault(net, held.tensors(name)):
        of = f" of {name}" if name else ""
        if plan and any(step.recipe.component.split(".")[0] == name for step in plan.steps):
            raise Refused(f"{folder} does not fit its plan: in the files{of}, {fault}.", planfile.TOGETHER)
        raise Refused(f"{folder} does not load: in the files{of}, {fault}.", folders.AGAIN)


def fill(net: nn.Module, kind: Any, folder: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Give a network without values those of its files; tensors that it has under several names stay one."""
    found, places, same = keys.named_in(net, state), places_of(net), keys.aliases(net)
    for key, group in same.items():
        found.setdefault(key, next(found[name] for name in group if name in found))
    wanted = net.state_dict()
    net.load_state_dict({key: found[key] for key in wanted}, strict=True, assign=True)
    for name, owners in places.items():
        for owner, key in owners[1:]:
            setattr(owner, key, net.get_parameter(name))
    _fill_buffers(net, kind, folder)


def _fill_buffers(net: nn.Module, kind: Any, folder: Path) -> None:
    """Compute what no file has, such as a table of positions, as the dense model does."""
    names = [name for name, buffer in net.named_buffers() if buffer.device.type == "meta"]
    if names:
        with Unset(), seeded(0):
            dense = module(kind, folder)
        for name in names:
            owner, _, key = name.rpartition(".")
            net.get_submodule(owner)._buffers[key] = dense.get_buffer(name)


class Unset(TorchFunctionMode):
    """New parameters take no values: it is quick, and memory that is never written to is never taken."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Leave out what would set a parameter in place."""
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("tensor")
        if isinstance(first, nn.Parameter) and IN_PLACE.fullmatch(getattr(func, "__name__", "")):
            return first
        return func(*args, **kwargs)


def cut(net: nn.Module, name: str, plan: Plan | None) -> None:
    """Bring a dense component to the shapes that a plan left it with."""
    for step in plan.steps if plan else ():
        top, *rest = step.recipe.component.split(".")
        if top == name:
            part = module_at(net, ".".join(rest))
            known_units(step, part)
            if step.decides:
                kind_of(step.decision).shrink(part, step)


def check_shapes(folder: Path, held: folders.Contents, pipe: Any) -> None:
    """Compare a pipeline without values with the headers of a folder's tensors; no value is read.

    Raises:
        Refused: they differ, or their names are those of a wrapper, which only loading takes off.
    """
    for name in held.components:
        net = module_at(pipe, name)
        if isinstance(net, nn.Module):
            with folders.loading(folder):
                check_fit(folder, held, name, net)
            if keys.prefixed(held.tensors(name)):
                raise Refused(f"The {name or 'model'} of {folder} was saved together with its wrapper "
                              f"({next(iter(held.tensors(name)))}).",
                              "Load it and save what comes of it: pruning.save(pruning.load(folder), new_folder).")


def _check_memory(name: str, nets: Mapping[str, nn.Module], dtype: torch.dtype) -> None:
    """Half of the free memory is for the dense model; a pruned copy comes on top."""
    size = sum(tensor.nbytes for net in nets.values() for tensor in (*net.parameters(), *net.buffers()))
    if size > (limit := memory.available() // 2):
        raise Refused(f"{name} takes {size / 1e9:.4g} GB in {str(dtype).removeprefix('torch.')}, and the limit here "
                      f"is {limit / 1e9:.4g} GB, half of the free memory.",
                      'Load it with weights="meta", which takes none, or on a machine with more free memory.')


@contextmanager
def _counted(folder: Path) -> Iterator[None]:
    """Stop a model that grows beyond all real ones while it is built."""
    here, count = get_ident(), 0

    def count_part(_module: nn.Module, _name: str, part: Any) -> None:
        nonlocal count
        if part is not None and get_ident() == here:
            count += 1
            if count > MOST_PARTS:
                raise Refused(f"The config in {folder.name} asks for more than {MOST_PARTS} layers and tensors.",
                              "Check its numbers of layers and blocks.")

    hooks = [register(count_part) for register in (register_module_parameter_registration_hook,
                                                   register_module_module_registration_hook)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """New tensors are of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """New values on the CPU follow a seed; the stream of random numbers goes on afterwards as if nothing had been."""
    with torch.random.fork_rng([]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
