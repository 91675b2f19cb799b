"""Hidden channels of ResNet blocks: between the two convolutions, with the norm and the time projection in between.

The channels in front of a GroupNorm go in equal numbers from each of its groups; otherwise the groups would change.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from pruning.units import UNITS, stream
from pruning.units.site import Found, Member, Site, named
from pruning.units.unit import Unit


def looked(net: nn.Module) -> Found:
    """Every ResNet block: its hidden channels, or why they stay."""
    for name, block in named(net, ("ResnetBlock2D",)):
        yield name, _site(name, block)


def _site(name: str, block: Any) -> Site | str:
    convolutions, time = [getattr(block, part, None) for part in ("conv1", "conv2")], block.time_emb_proj
    if not all(isinstance(conv, nn.Conv2d) and conv.groups == 1 for conv in convolutions):
        return f"its {type(block).__name__} has other layers than plain convolutions"
    if time is not None and not isinstance(time, nn.Linear):
        return f"its {type(block).__name__} reads the time by a {type(time).__name__}"
    width = convolutions[0].out_channels  # type: ignore[union-attr]
    if not isinstance(block.norm2, nn.GroupNorm) or width != block.norm2.num_channels:
        return f"a {type(block.norm2).__name__} stands between its convolutions"  # it may condition on the latents
    members = [Member(f"{name}.conv1.weight", 0), Member(f"{name}.norm2.weight", 0),
               Member(f"{name}.norm2.bias", 0), Member(f"{name}.conv2.weight", 1)]
    if block.conv1.bias is not None:
        members.append(Member(f"{name}.conv1.bias", 0))
    if time is not None:
        for offset in (0, width) if block.time_embedding_norm == "scale_shift" else (0,):
            members += [Member(f"{name}.time_emb_proj.weight", 0, offset=offset),
                        Member(f"{name}.time_emb_proj.bias", 0, offset=offset)]
    return Site(f"{name}#channels", "channel", width, tuple(members), quota=block.norm2.num_groups)


@UNITS.add("channel")
@dataclass(frozen=True)
class Channel(Unit):
    """Channels: hidden ones of ResNet blocks, and those of the residual streams between blocks."""

    decisions: ClassVar = ("keep",)
    order: ClassVar = 4
    plural: ClassVar = "channels"
    named: ClassVar = "channels"
    label: ClassVar = "Channels"
    explained: ClassVar = ("Channels are cut out of every layer that writes or reads them: hidden ones, and those of "
                           "the residual streams between blocks. The network really gets smaller.")

    def looked(self, net: nn.Module) -> Found:
        """Every ResNet block, then every residual stream."""
        yield from looked(net)
        yield from ((site.module, site) for site in stream.sites(net))

    def why_not(self, net: nn.Module) -> str | None:
        """Why the channels of its residual streams are not known."""
        return stream.why_not(net)
