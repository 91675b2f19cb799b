"""What a criterion looks at: one component of a pipeline, where to find it, and what a pipeline knows about itself.

Class names of pipelines and components stand here and in the tables of ``units``.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from pruning.errors import Refused
from pruning.network.clone import around, copied
from pruning.network.inputs import Example, side_of, tokens_of
from pruning.network.obstacles import check, unwrapped
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


