"""Pipelines from their configs alone: shapes without values, on the meta device, or random values. Reads no weights.

What a folder does not have, such as a tokenizer, is None in its pipeline.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from pruning import folders, memory, planfile
from pruning.errors import Refused
from pruning.subject import module_at, with_plan
from pruning.surgery import kept_units, known_units, slice_units
from pruning.types import Plan


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
            with _seeded(seed):
                nets = {name: module(kind, folder / name).eval() for name, kind in kinds.items()}
    return nets


def module(kind: Any, folder: Path) -> nn.Module:
    """A model of diffusers or transformers as its config says, with the values that it starts training from."""
    if hasattr(kind, "load_config"):
        return kind.from_config(kind.load_config(folder))
    return kind(kind.config_class.from_pretrained(folder))


def cut(net: nn.Module, name: str, plan: Plan | None) -> None:
    """Bring a dense component to the shapes that a plan left it with."""
    for step in plan.steps if plan else ():
        top, *rest = step.recipe.component.split(".")
        if top == name:
            part = module_at(net, ".".join(rest))
            known_units(step, part)
            if step.decision.kind == "keep":
                slice_units(part, kept_units(part, step))


def check_shapes(folder: Path, held: folders.Contents, pipe: Any) -> None:
    """Compare the shapes of a pipeline with the headers of a folder's tensors; no value is read.

    Raises:
        Refused: they differ.
    """
    for name in held.components:
        net = module_at(pipe, name)
        wanted = net.state_dict() if isinstance(net, nn.Module) else {}
        for file in held.weights(name):
            with folders.loading(folder), safe_open(folder / file, "pt") as tensors:
                shapes = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
            for key, shape in shapes.items():
                if key in wanted and list(wanted[key].shape) != shape:
                    raise Refused(f"{folder} does not load: {file} has {key} as {shape}, its config says "
                                  f"{list(wanted[key].shape)}.",
                                  "Its files do not belong together; save or download it again.")


def _check_memory(name: str, nets: Mapping[str, nn.Module], dtype: torch.dtype) -> None:
    """Half of the free memory is for the dense model; a pruned copy comes on top."""
    size = sum(tensor.nbytes for net in nets.values() for tensor in (*net.parameters(), *net.buffers()))
    if size > (limit := memory.available() // 2):
        raise Refused(f"{name} takes {size / 1e9:.4g} GB in {str(dtype).removeprefix('torch.')}, and the limit here "
                      f"is {limit / 1e9:.4g} GB, half of the free memory.",
                      'Load it with weights="meta", which takes none, or on a machine with more free memory.')


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
def _seeded(seed: int) -> Iterator[None]:
    """New values on the CPU follow a seed; the stream of random numbers goes on afterwards as if nothing had been."""
    with torch.random.fork_rng([]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
