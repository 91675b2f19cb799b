"""Hidden channels of ResNet blocks: between the two convolutions, with the norm and the time projection in between.

The channels in front of a GroupNorm go in equal numbers from each of its groups; otherwise the groups would change.
"""

from collections.abc import Iterator

from torch import nn

from pruning.units.site import Member, Site, named


def sites(net: nn.Module) -> Iterator[Site]:
    """ResNet blocks of U-Nets and autoencoders."""
    for name, block in named(net, ("ResnetBlock2D",)):
        width = block.conv1.out_channels
        if not isinstance(block.norm2, nn.GroupNorm) or width != block.norm2.num_channels:
            continue  # a spatial norm conditions on the latents; its channels are not ours to cut
        members = [Member(f"{name}.conv1.weight", 0), Member(f"{name}.norm2.weight", 0),
                   Member(f"{name}.norm2.bias", 0), Member(f"{name}.conv2.weight", 1)]
        if block.conv1.bias is not None:
            members.append(Member(f"{name}.conv1.bias", 0))
        if block.time_emb_proj is not None:
            for offset in (0, width) if block.time_embedding_norm == "scale_shift" else (0,):
                members += [Member(f"{name}.time_emb_proj.weight", 0, offset=offset),
                            Member(f"{name}.time_emb_proj.bias", 0, offset=offset)]
        yield Site(f"{name}#channels", "channel", width, tuple(members), quota=block.norm2.num_groups)
