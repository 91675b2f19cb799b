"""What a component costs: parameters and multiply-accumulates (MACs), traced once on the meta device.

MACs come from torch's FLOP counter, two FLOPs a MAC, which counts attention exactly there (on a CPU it misses it).
Norms, activations and biases are not counted, as is usual.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pruning.units.site import Site


@dataclass(frozen=True)
class Example:
    """The input that MACs are counted at: latent width, text tokens, batch 1."""

    latent: int | None = None
    tokens: int = 77

    def to_dict(self) -> dict[str, Any]:
        """As the report and ``inspect`` print it."""
        return {"latent": self.latent, "tokens": self.tokens, "batch": 1}


def arguments(net: Any, example: Example) -> dict[str, Any] | None:
    """Inputs of one forward pass on the meta device, or None: the class is not listed, or it has no size."""
    config: Any = getattr(net, "config", None)
    step = torch.zeros(1)
    side: Any = example.latent or getattr(config, "sample_size", None)
    match type(net).__name__:
        case "UNet2DConditionModel" | "UNet2DModel" if not isinstance(side, int):
            return None  # a network of any size, or of a rectangle
        case "UNet2DConditionModel":
            values: dict[str, Any] = {"sample": torch.zeros(1, config.in_channels, side, side), "timestep": step,
                                      "encoder_hidden_states": torch.zeros(1, example.tokens,
                                                                           config.cross_attention_dim)}
            if config.addition_embed_type == "text_time":
                pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
                values["added_cond_kwargs"] = {"text_embeds": torch.zeros(1, pooled), "time_ids": torch.zeros(1, 6)}
            return values
        case "UNet2DModel":
            return {"sample": torch.zeros(1, config.in_channels, side, side), "timestep": step}
        case "Decoder" if example.latent:
            return {"sample": torch.zeros(1, net.conv_in.in_channels, example.latent, example.latent)}
        case "CLIPTextModel" | "CLIPTextModelWithProjection":
            return {"input_ids": torch.zeros(1, min(example.tokens, config.max_position_embeddings), dtype=torch.long)}
    return None


def on_meta(net: nn.Module) -> nn.Module:
    """The same module with shapes and no values; nothing of its memory is copied."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    memo: dict[int, Any] = {id(t): nn.Parameter(t.detach().to("meta"), False) if isinstance(t, nn.Parameter)
                            else t.to("meta") for t in tensors.values()}
    return copy.deepcopy(net, memo)


@dataclass(frozen=True, eq=False)
class Costs:
    """Shapes of every parameter; how often each weight is used; MACs of attention; modules in execution order."""

    shapes: Mapping[str, tuple[int, ...]]
    uses: Mapping[str, int]  # tensor -> positions that it multiplies: MACs = weights * uses
    attention: Mapping[str, int]  # module -> MACs of q k' and of the weighted sum
    order: tuple[str, ...]
    known: bool  # whether MACs could be counted

    def count(self, kept: Mapping[Site, int] | None = None) -> tuple[int, int]:
        """(params, MACs) when each width site keeps so many units; the others stay whole. Exact, by shapes."""
        shapes = {name: list(shape) for name, shape in self.shapes.items()} if kept else self.shapes
        attention = dict(self.attention)
        for site, n in (kept or {}).items():
            for member in site.members:
                shapes[member.tensor][member.axis] -= (site.units - n) * member.size  # type: ignore[index]
            if site.kind == "head" and site.module in attention:
                attention[site.module] = attention[site.module] * n // site.units
        macs = sum(prod(shapes[name]) * uses for name, uses in self.uses.items()) + sum(attention.values())
        return sum(prod(shape) for shape in shapes.values()), macs

    def macs_of(self, tensor: str) -> int:
        """MACs of one weight."""
        return prod(self.shapes[tensor]) * self.uses.get(tensor, 0)


_traced: dict[tuple, Costs] = {}  # the most recent last


def trace(net: nn.Module, example: Example) -> Costs:
    """How often each weight is used, and in which order modules run. Remembered for the last 32 architectures."""
    key = (*architecture(net), example)
    costs = _traced.pop(key, None) or _pass(net, example)
    _traced[key] = costs
    while len(_traced) > 32:
        _traced.pop(next(iter(_traced)), None)
    return costs


def architecture(net: nn.Module) -> tuple:
    """All that costs depend on: the classes of all modules, the shapes of all parameters, and the settings."""
    config = getattr(net, "config", None) or {}
    plain = config if isinstance(config, Mapping) else config.to_dict()  # of diffusers, of transformers
    settings = {key: str(value) for key, value in plain.items() if key[0] != "_"}
    return (tuple((name, type(module).__name__) for name, module in net.named_modules()),
            tuple((name, tuple(p.shape)) for name, p in net.named_parameters()), tuple(sorted(settings.items())))


def products(ops: Mapping[Any, int]) -> int:
    """MACs of the operators that attention is made of; linear layers use one of them for some memory layouts."""
    return sum(flops for op, flops in ops.items() if "attention" in str(op) or "bmm" in str(op)) // 2


def _pass(net: nn.Module, example: Example) -> Costs:
    """One forward pass without values."""
    twin = nn.Module.float(on_meta(net)).eval()  # counts do not depend on the type, and the inputs are float32
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    modules = dict(twin.named_modules())
    with torch.device("meta"):
        inputs = arguments(twin, example)
    if inputs is None:
        return Costs(shapes, {}, {}, tuple(modules), known=False)
    order: dict[str, None] = {}
    hooks = [module.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name))
             for name, module in modules.items() if name]
    counter = FlopCounterMode(display=False, depth=None)  # type: ignore[arg-type]
    with torch.no_grad(), counter:
        twin(**inputs)
    for hook in hooks:
        hook.remove()
    uses: dict[str, int] = {}
    attention: Counter[str] = Counter()
    for path, ops in counter.get_flop_counts().items():
        name = path.removeprefix(type(twin).__name__ + ".")
        module = modules.get(name)
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            uses[f"{name}.weight"] = sum(ops.values()) // 2 // module.weight.numel()
            while name := name.rpartition(".")[0]:  # what is around it counts it, too
                attention[name] -= products(ops)
        elif name and module is not None:
            attention[name] += products(ops)
    attention = +attention  # those above zero
    innermost = {name: macs for name, macs in attention.items()
                 if not any(other.startswith(name + ".") for other in attention)}
    return Costs(shapes, uses, innermost, tuple(order), known=True)
