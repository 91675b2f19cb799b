"""What a criterion looks at: one component of a pipeline, where to find it, and what a pipeline knows about itself.

Class names of pipelines and components stand here and in the tables of ``units``.
"""

import hashlib
import logging
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pruning.errors import Refused
from pruning.network.clone import MARK, around, check, copied, unwrapped
from pruning.network.inputs import Example, side_of, tokens_of
from pruning.types import Plan, PlanStep
from pruning.values import told

log = logging.getLogger("prunescope")

DENOISERS = ("unet", "transformer")
TOKENIZERS = ("tokenizer_3", "tokenizer_2", "tokenizer")  # the last one reads the whole prompt (T5)
BESIDE = ("controlnet", "adapter", "brushnet")  # networks whose outputs are added to a denoiser's residual streams
LABELS = {"unet": "The U-Net", "transformer": "The transformer", "vae.decoder": "The VAE decoder",
          "text_encoder": "The text encoder", "text_encoder_2": "The second text encoder"}


def components(pipe: Any) -> list[str]:
    """The components of a pipeline that can be pruned, the denoiser first; ``[""]`` for a bare model."""
    if isinstance(pipe, nn.Module):
        return [""]
    return [path for path in LABELS if isinstance(module_at(pipe, path), nn.Module)]


def parts_of(pipe: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline by name, without wrappers; a bare model is its own only part, called ``""``.

    Raises:
        Refused: it is neither.
    """
    if isinstance(pipe, nn.Module):
        return {"": unwrapped(pipe)}
    parts = getattr(pipe, "components", None)
    if not isinstance(parts, Mapping):
        raise Refused(f"A pipeline or a model is needed, and this is {told(pipe)}.", "Load one with pruning.load.")
    return {name: unwrapped(part) for name, part in parts.items() if isinstance(part, nn.Module)}


def module_at(pipe: Any, path: str) -> Any:
    """The module at an attribute path such as ``vae.decoder``, without wrappers, or None."""
    for part in path.split(".") if path else ():
        pipe = getattr(unwrapped(pipe), part, None)
    return unwrapped(pipe)


def plain(pipe: Any) -> Any:
    """A pipeline or model whose networks stand in no wrapper: the given one, or a copy that shares all of them."""
    if isinstance(pipe, nn.Module):
        return unwrapped(pipe)
    wrapped = {name: net for name, net in parts_of(pipe).items() if net is not getattr(pipe, name)}
    twin = around(pipe) if wrapped else pipe
    for name, net in wrapped.items():
        setattr(twin, name, net)
    return twin


@dataclass(frozen=True, eq=False)
class Subject:
    """One component of a pipeline (or a bare model, then ``component`` is empty)."""

    pipe: Any
    component: str
    net: nn.Module
    example: Example
    seed: int = 0

    @property
    def label(self) -> str:
        """The component in words, to begin a sentence."""
        return LABELS.get(self.component, "This model")

    def check_copies(self) -> None:
        """Refuse a component that no copy can be made of, together with what it is a part of.

        Raises:
            Refused: with the place, the reason and what to do first.
        """
        check(module_at(self.pipe, self.component.partition(".")[0]), self.label)

    def check_streams(self) -> None:
        """Refuse to cut residual streams that another network of the pipeline adds to at their full width.

        Raises:
            Refused: there is such a network.
        """
        beside = next((name for name in BESIDE if getattr(self.pipe, name, None) is not None), None)
        if self.component in DENOISERS and beside:
            raise Refused(f"The {beside} of this pipeline adds to the residual streams of {self.component}, so their "
                          "channels have to stay.", 'Choose units="width": heads, neurons and channels inside blocks.')

    def holding(self, net: nn.Module) -> Any:
        """A new pipeline with another module in this one's place; every other component is shared."""
        if not self.component:
            return net
        root, *rest = self.component.split(".")
        pipe = around(self.pipe)
        top = net
        if rest:  # a part of a component: the parts around it are shared, the shell is new
            top = shell(module_at(self.pipe, root))
            inner = top
            for part in rest[:-1]:
                inner = getattr(inner, part)
            setattr(inner, rest[-1], net)
        setattr(pipe, root, top)
        return pipe


def shell(net: nn.Module) -> nn.Module:
    """A copy of a module that shares every tensor with it, so that replacing a part leaves the old one be.

    Raises:
        Refused: a copy would run the dense network, or cannot be made.
    """
    return copied(net, lambda tensor: tensor)


def subject(pipe: Any, component: str | None = None, seed: int = 0) -> Subject:
    """The component by name; None is the denoiser.

    Raises:
        Refused: the pipeline has no such component.
    """
    pipe, names = unwrapped(pipe), components(pipe)
    name = component if component is not None else next((n for n in names if n in (*DENOISERS, "")), None)
    if not names and not isinstance(getattr(pipe, "components", None), Mapping):
        raise Refused(f"A pipeline or a model is needed, and {told(pipe)} has no network that can be pruned.",
                      "Load one with pruning.load.")
    if not isinstance(name, str) or name not in names:
        raise _without(pipe, names, component)
    return Subject(pipe, name, module_at(pipe, name), example(pipe), seed)


def _without(pipe: Any, names: list[str], component: object) -> Refused:
    """That a pipeline has no such component, and what there is to prune in it."""
    kind = type(pipe).__name__
    own = [name for name in parts_of(pipe) if name not in names] if hasattr(pipe, "components") else []
    if component is None:
        denoisers = [name for name in DENOISERS if getattr(pipe, name, None) is not None]
        message = (f"The {denoisers[0]} of {kind} is a {type(getattr(pipe, denoisers[0])).__name__}, which is not a "
                   "torch module." if denoisers else f"{kind} has no denoiser (unet or transformer).")
    else:
        message = f"{kind} has no component {told(component)} that can be pruned."
    choices = [f"It has: {', '.join(names)}."] if any(names) else []
    if own and component is None:
        choices.append(f"Give one of its networks by itself, such as pipe.{own[0]}.")
    return Refused(message, " ".join(choices) or "Give a pipeline of diffusers, or one of its networks.")


def example(pipe: Any) -> Example:
    """The input at which a component is counted: the model's own size and its longest usual prompt."""
    parts = [unwrapped(pipe)] if isinstance(pipe, nn.Module) else [module_at(pipe, name) for name in DENOISERS]
    denoiser = next((part for part in parts if part is not None), None)
    readers = (getattr(pipe, name, None) for name in TOKENIZERS)
    longest = next((reader.model_max_length for reader in readers if reader is not None), None)
    return Example(side_of(denoiser), tokens_of(denoiser, longest))


COUNTS = ("heads", "num_heads", "num_groups")  # what a module does with its tensors and their shapes do not tell
_prints: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, tuple[str, str]]]" = weakref.WeakKeyDictionary()


def stamp(net: nn.Module) -> tuple:
    """What changes when a tensor is replaced or changed in place (an edit through ``.data`` leaves no trace to see)."""
    return tuple((id(t), t._version, t.data_ptr(), t.dtype) for t in (*net.parameters(), *net.buffers()))


def fingerprint(net: nn.Module) -> tuple[str, str]:
    """(arch, weights): digests of names, shapes, heads and norm groups, and of every value as well.

    Remembered until a tensor is replaced or changed in place (an edit through ``.data`` leaves no trace to see).

    Values are digested as float32, so that the same model in another stored type has the same fingerprint.
    """
    now = stamp(net)
    known = _prints.get(net)
    if known and known[0] == now:
        return known[1]
    state = dict(sorted(net.state_dict().items()))
    shapes = repr([(name, tuple(t.shape)) for name, t in state.items()])
    counts = repr([(name, key, vars(module)[key]) for name, module in net.named_modules() for key in COUNTS
                   if isinstance(vars(module).get(key), int)])
    arch = hashlib.sha256(f"{type(net).__name__} {shapes} {counts}".encode())
    values = arch.copy()
    for tensor in state.values():
        if tensor.device.type == "meta":
            values.update(b"meta")
            continue
        plain = tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype)
        values.update(plain.contiguous().numpy().data)
    prints = (arch.hexdigest()[:16], values.hexdigest()[:16])
    _prints[net] = (now, prints)
    return prints


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
