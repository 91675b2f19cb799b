"""What a component costs: parameters and multiply-accumulates (MACs), traced once on the meta device.

MACs come from torch's FLOP counter, two FLOPs a MAC, which counts attention exactly there (on a CPU it misses it).
Norms, activations and biases are not counted, as is usual; papers on pruning count otherwise, see ``as_published``.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruning.cache import Cache
from pruning.errors import Refused
from pruning.network.clone import copied
from pruning.network.inputs import LAYERS, Example, arguments
from pruning.units.site import Site


def on_meta(net: nn.Module) -> nn.Module:
    """The same module with shapes and no values; nothing of its memory is copied, and nobody listens to it.

    Raises:
        Refused: a copy would run the network itself.
    """
    def shape(tensor: Tensor) -> Tensor:
        there = tensor.detach().to("meta")
        return nn.Parameter(there, False) if isinstance(tensor, nn.Parameter) else there

    return copied(net, shape, hooks=False)


@dataclass(frozen=True, eq=False)
class Costs:
    """Shapes of every parameter; how often each weight is used; MACs of attention; modules in execution order."""

    shapes: Mapping[str, tuple[int, ...]]
    uses: Mapping[str, int]  # tensor -> positions that it multiplies: MACs = weights * uses
    attention: Mapping[str, int]  # module -> MACs of q k' and of the weighted sum
    order: tuple[str, ...]
    known: bool  # whether MACs could be counted
    why: str = ""  # they could not, in a sentence
    norms: Mapping[str, int] = field(default_factory=dict)  # scale of a norm -> positions that it multiplies

    def as_published(self) -> int | None:
        """MACs as pruning papers count them, with Torch-Pruning's counter: without the products inside attention.

        Instead a bias is one for each value that it is added to, and a norm two for each value.
        """
        if not self.known:
            return None
        biases = sum(uses * self.shapes[name][0] for name, uses in self.uses.items()
                     if name.removesuffix("weight") + "bias" in self.shapes)
        norms = sum(2 * uses * prod(self.shapes[name]) for name, uses in self.norms.items())
        return sum(map(self.macs_of, self.uses)) + biases + norms

    def count(self, kept: Mapping[Site, int] | None = None) -> tuple[int, int]:
        """(params, MACs) when each width site keeps so many units; the others stay whole. Exact, by shapes."""
        shapes = {name: list(shape) for name, shape in self.shapes.items()} if kept else self.shapes
        attention = dict(self.attention)
        for site, n in (kept or {}).items():
            for member in site.members:
                shapes[member.tensor][member.axis] -= (site.units - n) * member.size  # type: ignore[index]
            if site.module in attention:  # its heads, or the width of its only one
                attention[site.module] = attention[site.module] * n // site.units
        macs = sum(prod(shapes[name]) * uses for name, uses in self.uses.items()) + sum(attention.values())
        return sum(prod(shape) for shape in shapes.values()), macs

    def macs_of(self, tensor: str) -> int:
        """MACs of one weight."""
        return prod(self.shapes[tensor]) * self.uses.get(tensor, 0)


_traced = Cache("traces", 1 << 24)  # of SD-1.5's U-Net, 28 widths


def trace(net: nn.Module, example: Example) -> Costs:
    """How often each weight is used, and in which order modules run. Remembered for the architectures used last."""
    key = (*architecture(net), example)
    costs = _traced.look(key)
    if costs is None:
        try:
            twin = on_meta(net)
        except Refused as reason:  # once that is out of the way it counts, so this is not remembered
            return unknown(net, f"The MACs are not counted: {reason}")
        costs = _pass(net, twin, example)
        _traced.get_or(key, lambda: (costs, 840 * len(costs.shapes)))  # measured, with the key
    return costs


def architecture(net: nn.Module) -> tuple:
    """All that costs depend on: the classes of all modules, the shapes of all parameters, and the settings."""
    config = getattr(net, "config", None) or {}
    plain = config if isinstance(config, Mapping) else config.to_dict()  # of diffusers, of transformers
    settings = {key: str(value) for key, value in plain.items() if key[0] != "_"}
    return (tuple((name, type(module).__name__, "forward" in vars(module)) for name, module in net.named_modules()),
            tuple((name, tuple(p.shape)) for name, p in net.named_parameters()), tuple(sorted(settings.items())))


def products(ops: Mapping[Any, int]) -> int:
    """MACs of the operators that attention is made of; linear layers use one of them for some memory layouts."""
    return sum(flops for op, flops in ops.items() if "attention" in str(op) or "bmm" in str(op)) // 2


def unknown(net: nn.Module, why: str) -> Costs:
    """Parameters alone, and why there is no more."""
    return Costs(shapes_of(net), {}, {}, tuple(dict(net.named_modules())), known=False, why=why)


def shapes_of(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter; one that stands in several places has the first of its names."""
    return {name: tuple(p.shape) for name, p in net.named_parameters()}


def _pass(net: nn.Module, twin: nn.Module, example: Example) -> Costs:
    """One forward pass without values, by a copy on the meta device."""
    nn.Module.float(twin).eval()  # counts do not depend on the type, and the inputs are float32
    with torch.device("meta"):
        inputs = arguments(twin, example)
    if inputs is None:
        return unknown(net, f"The MACs of a {type(net).__name__} with these settings are not counted yet.")
    try:
        return _counted(net, twin, inputs)
    except Exception as error:  # of any network that people bring: its weights can be pruned all the same
        reason = (str(error).strip().splitlines() or [""])[0]
        return unknown(net, f"The MACs are not counted: a pass at its own size ({_size(example)}) fails with "
                            f"{type(error).__name__}{f': {reason}' if reason else ''}")


def _size(example: Example) -> str:
    return ", ".join([*([f"{example.latent} wide"] if example.latent else []), f"{example.tokens} tokens"])


def _counted(net: nn.Module, twin: nn.Module, inputs: Mapping[str, Any]) -> Costs:
    modules = dict(twin.named_modules(remove_duplicate=False))
    firsts = {id(p): name for name, p in twin.named_parameters()}  # of tensors in several places, the first of them
    names = {id(module): name for name, module in twin.named_modules()}  # and of modules
    order: dict[str, None] = {}
    norms: Counter[str] = Counter()

    def ran(name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        order.setdefault(name)
        if isinstance(module, nn.GroupNorm | nn.LayerNorm) and module.weight is not None:
            norms[f"{name}.weight"] += given[0].numel() // module.weight.numel()

    for name, module in twin.named_modules():
        if name:
            module.register_forward_pre_hook(partial(ran, name))  # the copy goes with them
    counter = FlopCounterMode(display=False, depth=None)  # type: ignore[arg-type]
    with torch.no_grad(), counter:
        twin(**inputs)
    uses: Counter[str] = Counter()
    attention: Counter[str] = Counter()
    for path, ops in counter.get_flop_counts().items():
        path = path.removeprefix(type(twin).__name__ + ".")
        module = modules.get(path)
        if isinstance(module, LAYERS):
            uses[firsts[id(module.weight)]] += sum(ops.values()) // 2 // module.weight.numel()
            while path := path.rpartition(".")[0]:  # what is around it counts it, too
                attention[names[id(modules[path])]] -= products(ops)
        elif path and module is not None:
            attention[names[id(module)]] += products(ops)
    attention = +attention  # those above zero
    innermost = {name: macs for name, macs in attention.items()
                 if not any(other.startswith(name + ".") for other in attention)}
    return Costs(shapes_of(net), dict(uses), innermost, tuple(order), known=True, norms=norms)
