"""A recovery under way, as far as it has come: everything that going on takes, in memory or in a file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pruning.errors import Refused
from pruning.models import files
from pruning.network.clone import copied
from pruning.network.subject import log

SCHEMA = 1  # of the file
SETS = ("weights", "averages", "first", "second")  # tensors by the names of parameters, float32


@dataclass(eq=False)
class Training:
    """Blank until a recovery begins with it, which then keeps it up to date after every step.

    ``first`` and ``second`` are Adam's moments. The tensors are those at work: what is written between two steps is
    what the next one goes on with.
    """

    made_for: dict[str, Any] = field(default_factory=dict)  # the run that it is of, so that no other goes on with it
    step: int = 0
    seconds: float = 0.0
    errors: dict[str, float | None] = field(default_factory=dict)  # before, of the dense model, and after all steps
    on: str = ""  # what the errors were taken on, once the last one is
    losses: list[float] = field(default_factory=list)  # of every step
    draw: torch.Generator = field(default_factory=torch.Generator)  # of samples, noise and timesteps
    weights: dict[str, Tensor] = field(default_factory=dict)
    averages: dict[str, Tensor] = field(default_factory=dict)
    first: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)

    def begin(self, made_for: dict[str, Any], draw: torch.Generator, steps: int) -> None:
        """Belong to a run, or go on with it.

        Raises:
            Refused: it belongs to another run, or has gone further.
        """
        if self.step > steps:
            raise Refused(f"This training has gone {self.step} steps already.", "Ask for at least as many.")
        if not self.made_for:
            self.made_for, self.draw = made_for, draw
        for what, value in made_for.items():
            if what == "samples" and value != self.made_for.get(what):
                log.warning("The samples are not bit for bit those that this training began with.")
            elif what != "samples" and (other := _differs(what, self.made_for.get(what), value)):
                raise Refused(f"This training was begun with {other}.",
                              "Give what it was begun with, or begin anew with another state file.")

    def finished(self, made_for: Mapping[str, Any], steps: int) -> bool:
        """Whether this very run has been through, so that nothing but its pipeline is missing."""
        return bool(self.on) and self.step == steps and all(
            self.made_for.get(what) == value for what, value in made_for.items())

    def taken_up(self, source: nn.Module) -> nn.Module:
        """A copy of a module with parameters of its own, float32, from where the training is.

        Raises:
            Refused: the training's tensors are not those of such a module.
        """
        trained = {name: old.detach() for name, old in source.named_parameters() if old.is_floating_point()}
        fresh = {part: {name: self._start(part, name, old) for name, old in trained.items()} for part in SETS}
        for part, tensors in fresh.items():  # in the module's order, which sums over all gradients follow
            setattr(self, part, tensors)
        own = {id(source.get_parameter(name)): nn.Parameter(tensor) for name, tensor in self.weights.items()}
        return copied(source, lambda tensor: own[id(tensor)] if id(tensor) in own else _apart(tensor))

    def _start(self, part: str, name: str, old: Tensor) -> Tensor:
        out = torch.empty_like(old, dtype=torch.float32)  # in its memory format
        known = getattr(self, part).get(name)
        if self.step and (known is None or known.shape != old.shape):
            raise Refused(f"The state of {name} is missing or of another shape.", "Begin anew.")
        if known is None and part in ("first", "second"):
            return out.zero_()
        return out.copy_(old if known is None else known)

    def write(self, file: str | Path) -> None:
        """Write it as one file of tensors, whole or not at all.

        Raises:
            Refused: the disk is full.
        """
        tensors = {f"{part} {name}": tensor.contiguous()
                   for part in SETS for name, tensor in getattr(self, part).items()}
        head = {"made_for": self.made_for, "step": self.step, "seconds": self.seconds, "errors": self.errors,
                "on": self.on, "losses": self.losses}
        with files.replacing(file) as part:
            save_file(tensors | {"draw": self.draw.get_state()}, part,
                      {"prunescope recovery": str(SCHEMA), "training": json.dumps(head)})

    @classmethod
    def at(cls, file: str | Path) -> Self:
        """The state that a file has, or a blank one where there is none yet and it can be written.

        Raises:
            Refused: it is no such file, or cannot be written.
        """
        file = files.target(file)
        found = cls.read(file) if os.path.lexists(file) else cls()
        files.rehearsed(file)
        return found

    @classmethod
    def read(cls, file: str | Path) -> Self:
        """What ``write`` wrote.

        Raises:
            Refused: it is no such file, or is not whole.
        """
        if not Path(file).is_file():
            raise Refused(f"There is no file {file}.", "Give the file that a recovery left when it was stopped.")
        try:
            with safe_open(file, "pt") as held:
                notes = held.metadata() or {}
                if notes.get("prunescope recovery") != str(SCHEMA):
                    raise KeyError
                found = cls(**json.loads(notes["training"]))
                found.draw.set_state(held.get_tensor("draw"))
                for key in held.keys():  # noqa: SIM118
                    part, _, name = key.partition(" ")
                    if name:
                        getattr(found, part)[name] = held.get_tensor(key)
        except (SafetensorError, KeyError, TypeError, AttributeError, json.JSONDecodeError, RuntimeError) as error:
            raise Refused(f"{file} is no state of a recovery, or is not whole.",
                          "Take it away to begin anew, or give another.") from error
        return found


def _apart(tensor: Tensor) -> Tensor:
    """A tensor's own copy."""
    twin = tensor.detach().clone()
    return nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin


def _differs(what: str, before: Any, now: Any) -> str:
    """What a training was begun with in place of what is given now, in words; empty where that is the same."""
    if before == now:
        return ""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return ", ".join(f"{key} {before.get(key)!r} instead of {value!r}" for key, value in now.items()
                         if before.get(key) != value)
    return f"another {what}"
