"""Coupled channels of U-Nets and of the VAE's decoder: the residual stream of each level, and what runs beside it.

A residual stream is written by every layer that adds to it and read by every layer that looks at it, so a channel of it
goes from all of them at once: from the input's convolution or a resampler's, from the second convolutions and shortcuts
of ResNets, from attention and projections, and from the half of each later block that it is concatenated to. The time
embedding is read by all blocks. Inside a transformer of a U-Net runs a stream of its own, as wide as its heads
together.

Channels go in equal numbers from each group of every norm that they meet on their own, so these groups stay as they
were. After a concatenation, where a norm's groups lie across both halves, what is left still divides into as many
groups, but neighbours are grouped anew when the halves lose different channels. Masked and sliced models agree on that:
both take a norm's statistics over the groups of what is left.

With one head, attention has no heads to lose; there its inner width is free. What is left of it is scaled as the
narrower layer scales it, by the root of its new width.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from pruning.units.circuit import Circuit, Unknown, Wire
from pruning.units.site import Site, standings
from pruning.units.walks import walk


def sites(net: nn.Module) -> Iterator[Site]:
    """Residual streams (kind ``stream``), and inner widths that run beside them (kind ``channel``)."""
    try:
        yield from drawn(net).sites()
    except Unknown:
        return


def why_not(net: nn.Module) -> str | None:
    """Why a network has no residual stream that can lose channels; None when it has."""
    try:
        drawn(net)
    except Unknown as missing:
        return str(missing)
    return None


def drawn(net: nn.Module) -> Circuit:
    """The wires of a network.

    Raises:
        Unknown: its class, or one of its parts, is not known.
    """
    follow = next((NETS[name] for kind in type(net).__mro__
                   for name in (kind.__name__, f"{kind.__module__}.{kind.__name__}") if name in NETS), None)
    if follow is None:
        tokens = any(word in type(module).__name__ for module in net.modules() for word in ("Transformer", "CLIP"))
        raise Unknown("every block adds to one stream of tokens, which stays whole; heads and neurons can go"
                      if tokens else f"{type(net).__name__} is not a class that Prunescope can follow")
    if twice := next(iter(standings(net)), None):
        raise Unknown(f"{twice} stands in several places, so its channels are those of several streams")
    circuit = Circuit(net)
    try:
        follow(circuit, net)
    except Unknown as missing:
        raise Unknown(f"{missing} is not one that Prunescope can follow") from None
    except (AttributeError, IndexError) as built:  # classes have names of diffusers', and are others
        raise Unknown(f"it is built otherwise than a {type(net).__name__} of diffusers ({built})") from None
    return circuit


def unet(circuit: Circuit, net: Any) -> None:
    """Down, across and up again."""
    time = _time(circuit, net)
    given = circuit.written("conv_in")
    skips = [given]
    for i in range(len(net.down_blocks)):
        given = walk(circuit, f"down_blocks.{i}", given, time, skips)
    if net.mid_block is not None:
        given = walk(circuit, "mid_block", given, time, skips)
    for i in range(len(net.up_blocks)):
        given = walk(circuit, f"up_blocks.{i}", given, time, skips)
    _last(circuit, net, given)


def decoder(circuit: Circuit, net: Any) -> None:
    """Across and up, with nothing to concatenate and no time."""
    given = walk(circuit, "mid_block", circuit.written("conv_in"), (), [])
    for i in range(len(net.up_blocks)):
        given = walk(circuit, f"up_blocks.{i}", given, (), [])
    _last(circuit, net, given)


def _last(circuit: Circuit, net: Any, given: Wire) -> None:
    """The last norm and convolution; the channels of the answer stay."""
    if net.conv_norm_out is not None:
        circuit.normed(given, "conv_norm_out")
    circuit.read(given, "conv_out")


def _time(circuit: Circuit, net: Any) -> Wire:
    """The embedding of the step, with those of the class and of sizes added to it."""
    time = walk(circuit, "time_embedding")
    if getattr(net, "class_embedding", None) is not None:
        if getattr(net.config, "class_embeddings_concat", False):
            raise Unknown("its embedding of classes beside that of the step")
        if not isinstance(net.class_embedding, nn.Identity):
            time = circuit.added(time, walk(circuit, "class_embedding"))
        else:
            time[0].root.whole = True
    if getattr(net, "add_embedding", None) is not None:
        time = circuit.added(time, walk(circuit, "add_embedding"))
    return time


NETS: dict[str, Callable[[Circuit, Any], None]] = {
    "UNet2DModel": unet, "UNet2DConditionModel": unet,
    "diffusers.models.autoencoders.vae.Decoder": decoder}  # other autoencoders have a class of the same name
