"""Attention heads: rows of the query, key and value projections, columns of the output projection.

Where pictures and text attend to each other jointly (SD3, FLUX), both have projections of their own, and a head is a
part of all of them. In a single block of FLUX the output projection is that of the block, which its feed-forward layer
shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from pruning.units import UNITS
from pruning.units.site import Found, Member, Site, named
from pruning.units.unit import Unit

JOINT = (("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"), ("to_out.0", "to_add_out"), "heads")
# class: (its projections, its outputs, those that it has; the attribute that counts heads)
LAYOUTS = {"Attention": JOINT, "FluxAttention": JOINT, "CLIPAttention": (
    ("q_proj", "k_proj", "v_proj"), ("out_proj",), "num_heads")}
NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")  # of queries and keys; over one head they stay as they are
AROUND = {"FluxSingleTransformerBlock": "proj_out"}  # blocks that have the output in place of their attention
# What runs an attention layer of diffusers, and reads the width of a head off its projections and the count of heads.
# Others have tensors of their own (IP-Adapter, Custom Diffusion) or take a width from elsewhere (added keys).
PROCESSORS = frozenset((
    "AttnProcessor", "AttnProcessor2_0", "AttnProcessorNPU", "XFormersAttnProcessor", "SlicedAttnProcessor",
    "XLAFlashAttnProcessor2_0", "JointAttnProcessor2_0", "XFormersJointAttnProcessor", "PAGJointAttnProcessor2_0",
    "PAGCFGJointAttnProcessor2_0", "PAGIdentitySelfAttnProcessor2_0", "PAGCFGIdentitySelfAttnProcessor2_0",
    "AllegroAttnProcessor2_0", "AuraFlowAttnProcessor2_0", "CogVideoXAttnProcessor2_0", "CogView4AttnProcessor",
    "CosmosAttnProcessor2_0", "EasyAnimateAttnProcessor2_0", "FluxAttnProcessor", "GlmImageAttnProcessor",
    "HunyuanAttnProcessor2_0", "PAGHunyuanAttnProcessor2_0", "PAGCFGHunyuanAttnProcessor2_0",
    "HunyuanImageAttnProcessor", "HunyuanVideoAttnProcessor2_0", "LuminaAttnProcessor2_0", "Lumina2AttnProcessor2_0",
    "MochiVaeAttnProcessor2_0", "OmniGenAttnProcessor2_0", "QwenDoubleStreamAttnProcessor2_0", "SanaAttnProcessor2_0",
    "SanaLinearAttnProcessor2_0", "PAGCFGSanaLinearAttnProcessor2_0", "PAGIdentitySanaLinearAttnProcessor2_0",
    "StableAudioAttnProcessor2_0"))



def looked(net: nn.Module) -> Found:
    """Every attention layer: its site, or why its heads stay."""
    modules = dict(net.named_modules())
    for kind in LAYOUTS:
        for name, layer in named(net, (kind,)):
            yield name, _site(modules, name, layer, kind)
    for name, layer in modules.items():
        kinds = [kind.__name__ for kind in type(layer).__mro__]
        if _attends(layer) and not any(kind in LAYOUTS for kind in kinds):
            yield name, f"heads of a {kinds[0]} are not known here"


def _attends(layer: nn.Module) -> bool:
    """Whether a module is an attention layer by its name, and has the projections itself."""
    return type(layer).__name__.endswith(("Attention", "Attn")) and sum(
        isinstance(part, nn.Linear) for part in layer.children()) > 1


def _site(modules: dict[str, Any], name: str, layer: Any, kind: str) -> Site | str:
    """An attention layer's heads, or why they stay."""
    projections, outputs, counter = LAYOUTS[kind]
    heads, parts = getattr(layer, counter, None), dict(layer.named_modules())
    read = {f"{name}.{part}": parts[part] for part in projections if part in parts}
    written = {f"{name}.{part}": parts[part] for part in outputs if part in parts} or outside(modules, name)
    if not isinstance(heads, int) or not read or not written:
        return f"its {type(layer).__name__} lacks projections that are known here"
    if why := run_by(layer, kind) or unlike(read, written):
        return why
    if heads < 2:
        return "its attention has a single head"
    width = next(iter(read.values())).out_features
    if any(part.out_features != width for part in read.values()):
        return "its keys and values have fewer heads than its queries"
    if width % heads:
        return f"its width of {width} is not a multiple of its {heads} heads"
    if not all(_size(parts.get(norm)) in (None, width // heads) for norm in NORMS):
        return f"a norm goes over all of its {heads} heads together"
    return Site(f"{name}#heads", "head", heads, tuple(_members(read, written, width // heads)))


def run_by(layer: Any, kind: str = "Attention") -> str | None:
    """Why what runs an attention layer does not let its width change; None when it does."""
    processor = type(getattr(layer, "processor", None)).__name__
    if kind == "CLIPAttention" or processor in PROCESSORS:
        return None
    if processor == "NoneType":
        return f"what runs its {type(layer).__name__} is not known here"
    return f"it is run by {processor}, which is not known here to follow a smaller width"


def outside(modules: dict[str, Any], name: str) -> dict[str, Any]:
    """The output of an attention layer that is a part of the block around it."""
    block = name.rpartition(".")[0]
    last = AROUND.get(type(modules.get(block)).__name__)
    return {f"{block}.{last}": modules[f"{block}.{last}"]} if last else {}


def unlike(read: dict[str, Any], written: dict[str, Any]) -> str | None:
    """Why projections cannot be cut: one of them is no linear layer."""
    other = next((part for part in (*read.values(), *written.values()) if not isinstance(part, nn.Linear)), None)
    return None if other is None else f"a projection is a {type(other).__name__}, not a linear layer"


def _size(norm: Any) -> int | None:
    weight = getattr(norm, "weight", None)
    return None if weight is None else weight.numel()


def _members(read: dict[str, Any], written: dict[str, Any], size: int) -> Iterator[Member]:
    for name in written:
        yield Member(f"{name}.weight", 1, size)
    for name, layer in read.items():
        yield Member(f"{name}.weight", 0, size)
        if layer.bias is not None:
            yield Member(f"{name}.bias", 0, size)


@UNITS.add("head")
@dataclass(frozen=True)
class Head(Unit):
    """Attention heads."""

    decisions: ClassVar = ("keep",)
    order: ClassVar = 2
    plural: ClassVar = "heads"
    named: ClassVar = "attention heads"
    label: ClassVar = "Heads"
    explained: ClassVar = "Attention heads are cut out. The network really gets smaller."

    def looked(self, net: nn.Module) -> Found:
        """Every attention layer."""
        return looked(net)
