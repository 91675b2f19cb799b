"""How the channels run through the blocks of U-Nets and decoders: a walk for each class, in one table.

A walk tells a circuit what its layers write, read and add, and gives the wire that leaves. A block that concatenates
what it is given with what an earlier one left (``skips``) takes the last of these first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from pruning.units.circuit import Circuit, Unknown, Wire
from pruning.units.head import run_by

Walk = Callable[..., Wire]


def walk(circuit: Circuit, name: str, *given: Any) -> Wire:
    """Follow the wires through one module.

    Raises:
        Unknown: its class is not in the table.
    """
    module = circuit.parts[name]
    known = next((WALKS[kind.__name__] for kind in type(module).__mro__ if kind.__name__ in WALKS), None)
    if known is None:
        raise Unknown(f"its {type(module).__name__}")
    return known(circuit, name, module, *given)


# Layers: (circuit, name, module, what it is given, the time embedding) -> what it gives.


def resnet(circuit: Circuit, name: str, block: Any, given: Wire, time: Wire) -> Wire:
    """Norm, convolution, norm, convolution, and what was given beside them; hidden channels are ``channel``'s."""
    circuit.normed(given, f"{name}.norm1")
    circuit.read(given, f"{name}.conv1")
    if block.time_emb_proj is not None:
        circuit.read(time, f"{name}.time_emb_proj")
    if block.conv_shortcut is not None:
        circuit.read(given, f"{name}.conv_shortcut")
        given = circuit.written(f"{name}.conv_shortcut")
    return circuit.added(given, circuit.written(f"{name}.conv2"))


def attention(circuit: Circuit, name: str, layer: Any, given: Wire, time: Wire = ()) -> Wire:
    """Queries of what was given, keys and values of the same or of the text; with one head, their width is free."""
    parts = {part: getattr(layer, part) for part in ("to_q", "to_k", "to_v")} | {"to_out.0": layer.to_out[0]}
    extra = ("add_k_proj", "norm_q", "norm_cross", "spatial_norm")
    if any(getattr(layer, part, None) is not None for part in extra) or not all(
            isinstance(part, nn.Linear) for part in parts.values()):
        raise Unknown(f"its {type(layer).__name__} with more than queries, keys and values")
    if run_by(layer):
        raise Unknown(f"its {type(layer).__name__} run by {type(getattr(layer, 'processor', None)).__name__}")
    if layer.group_norm is not None:
        circuit.normed(given, f"{name}.group_norm")
    circuit.read(given, f"{name}.to_q", *([] if layer.is_cross_attention else [f"{name}.to_k", f"{name}.to_v"]))
    if layer.heads == 1:
        inner = circuit.written(*(f"{name}.{part}" for part in ("to_q", "to_k", "to_v")), inside=name)
        circuit.read(inner, f"{name}.to_out.0")
    out = circuit.written(f"{name}.to_out.0")
    return circuit.added(given, out) if layer.residual_connection else out


def transformer(circuit: Circuit, name: str, model: Any, given: Wire, time: Wire) -> Wire:
    """Into the width of its blocks and back. Inside runs a stream of its own."""
    if not model.is_input_continuous:
        raise Unknown(f"its {type(model).__name__} of patches")
    circuit.normed(given, f"{name}.norm")
    circuit.read(given, f"{name}.proj_in")
    inner = circuit.written(f"{name}.proj_in")
    for i in range(len(model.transformer_blocks)):
        inner = walk(circuit, f"{name}.transformer_blocks.{i}", inner)
    circuit.read(inner, f"{name}.proj_out")
    return circuit.added(given, circuit.written(f"{name}.proj_out"))


def transformer_block(circuit: Circuit, name: str, block: Any, given: Wire) -> Wire:
    """Attention to itself, attention to the text, and the feed-forward layer, each after a norm and added."""
    if block.norm_type != "layer_norm" or block.pos_embed is not None or hasattr(block, "fuser"):
        raise Unknown(f"its {type(block).__name__} with {block.norm_type}")
    for i, part in ((1, block.attn1), (2, block.attn2)):
        if part is not None:
            circuit.normed(given, f"{name}.norm{i}")
            given = circuit.added(given, walk(circuit, f"{name}.attn{i}", given))
    circuit.normed(given, f"{name}.norm3")
    circuit.read(given, f"{name}.ff.net.0.proj")
    return circuit.added(given, circuit.written(f"{name}.ff.net.2"))


def resampler(circuit: Circuit, name: str, layer: Any, given: Wire, time: Wire) -> Wire:
    """A convolution that halves the picture, or one after doubling it."""
    if layer.norm is not None or not isinstance(layer.conv, nn.Conv2d):
        raise Unknown(f"its {type(layer).__name__} that is more or less than a convolution")
    circuit.read(given, f"{name}.conv")
    return circuit.written(f"{name}.conv")


def embedding(circuit: Circuit, name: str, layer: Any) -> Wire:
    """The embedding of a step, or of sizes: two linear layers."""
    inner = circuit.written(f"{name}.linear_1", inside=name)
    circuit.read(inner, f"{name}.linear_2")
    return circuit.written(f"{name}.linear_2")


def lone(circuit: Circuit, name: str, layer: Any) -> Wire:
    """A table of classes, or a single linear layer."""
    return circuit.written(name)


# Blocks: (circuit, name, module, what it is given, the time embedding, what it leaves or finds for concatenations).


def down(circuit: Circuit, name: str, block: Any, given: Wire, time: Wire, skips: list[Wire]) -> Wire:
    """ResNets, each with its attention, and a halving; what each leaves is met again on the way up."""
    for i in range(len(block.resnets)):
        given = _with_attention(circuit, name, block, i, walk(circuit, f"{name}.resnets.{i}", given, time), time)
        skips.append(given)
    for i in range(len(block.downsamplers or ())):
        given = walk(circuit, f"{name}.downsamplers.{i}", given, time)
        skips.append(given)
    return given


def mid(circuit: Circuit, name: str, block: Any, given: Wire, time: Wire, skips: list[Wire]) -> Wire:
    """A ResNet, then attention and a ResNet, as often as it says."""
    given = walk(circuit, f"{name}.resnets.0", given, time)
    for i in range(1, len(block.resnets)):
        given = _with_attention(circuit, name, block, i - 1, given, time)
        given = walk(circuit, f"{name}.resnets.{i}", given, time)
    return given


def up(circuit: Circuit, name: str, block: Any, given: Wire, time: Wire, skips: list[Wire], joins: bool = True) -> Wire:
    """ResNets, each after a concatenation where the block ``joins``, with their attention, and a doubling."""
    for i in range(len(block.resnets)):
        given = (*given, *skips.pop()) if joins else given
        given = _with_attention(circuit, name, block, i, walk(circuit, f"{name}.resnets.{i}", given, time), time)
    for i in range(len(block.upsamplers or ())):
        given = walk(circuit, f"{name}.upsamplers.{i}", given, time)
    return given


def _with_attention(circuit: Circuit, name: str, block: Any, i: int, given: Wire, time: Wire) -> Wire:
    attentions = getattr(block, "attentions", None)
    return given if not attentions or attentions[i] is None else walk(circuit, f"{name}.attentions.{i}", given, time)


WALKS: dict[str, Walk] = {
    "ResnetBlock2D": resnet, "Attention": attention, "Transformer2DModel": transformer,
    "BasicTransformerBlock": transformer_block, "Downsample2D": resampler, "Upsample2D": resampler,
    "TimestepEmbedding": embedding, "Embedding": lone, "Linear": lone,
    "DownBlock2D": down, "AttnDownBlock2D": down, "CrossAttnDownBlock2D": down, "ResnetDownsampleBlock2D": down,
    "UNetMidBlock2D": mid, "UNetMidBlock2DCrossAttn": mid,
    "UpBlock2D": up, "AttnUpBlock2D": up, "CrossAttnUpBlock2D": up, "ResnetUpsampleBlock2D": up,
    "UpDecoderBlock2D": partial(up, joins=False), "AttnUpDecoderBlock2D": partial(up, joins=False),
}
