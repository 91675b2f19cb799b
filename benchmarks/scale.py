"""Exact global magnitude pruning, scoring included, against ``torch.nn.utils.prune`` (aim: 20 times as fast).

Ours makes a new model. Torch changes a copy, which is made outside the clock, and its pruning is made permanent. Memory
is what either takes beside that pruned copy. Ours is first timed on a model that nothing is known of, and then again,
when its digest and its shapes are known. A clone and a read are plain passes over all parameters. Torch needs more
memory than there is at the size of SD-1.5; its seconds there are those of a power law through the random networks.

python -m benchmarks.scale
"""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn.utils import prune

import pruning
from benchmarks.spent import Spent, Works, clone, extra, in_turn, read, seconds
from benchmarks.table import publish
from pruning import cache
from pruning.models.sources import ARCHITECTURES
from pruning.network.subject import shell
from pruning.timing import intervals

REPEATS = {"emoji-sd": 8, "32 channels": 8, "64 channels": 8, "128 channels": 6, "sd-1.5": 3}  # the last: ours alone


def sized(width: int) -> nn.Module:
    """SD-1.5's U-Net from ``width`` channels on, not 320. Its layers' weights are alike, so that none goes whole."""
    config: Any = UNet2DConditionModel.load_config(ARCHITECTURES / "sd-1.5" / "unet")
    net: nn.Module = UNet2DConditionModel.from_config(
        config, block_out_channels=[width * times for times in (1, 2, 4, 4)])
    draw = torch.Generator().manual_seed(0)
    for tensor in net.parameters():
        nn.init.normal_(tensor, std=0.02, generator=draw)
    return net.eval()


def ours(net: nn.Module) -> nn.Module:
    """As a user writes it."""
    return pruning.apply(net, pruning.plan(net, "magnitude", 0.5, spread="global", protect=()))


def unseen(net: nn.Module) -> nn.Module:
    """The same weights as a model of which nothing is known yet."""
    cache.forget(["traces"])
    return shell(net)


def layers(net: nn.Module) -> list[tuple[Any, str]]:
    """What is pruned, as torch wants it."""
    return [(module, "weight") for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def peer(net: nn.Module) -> nn.Module:
    """As torch's tutorial writes it."""
    prune.global_unstructured(layers(net), pruning_method=prune.L1Unstructured, amount=0.5)
    for module, name in layers(net):
        prune.remove(module, name)
    return net


def agreed(dense: nn.Module, one: nn.Module, other: nn.Module) -> tuple[int, int]:
    """(zeros, masks' differences). Both have as many zeros, and differ in weights of the same size alone."""
    zeros, apart, sizes = [0, 0], 0, set[float]()
    for (module, _), *pruned in zip(layers(dense), layers(one), layers(other), strict=True):
        gone = [layer.weight == 0 for layer, _ in pruned]
        zeros = [count + int(mask.sum()) for count, mask in zip(zeros, gone, strict=True)]
        differ = gone[0] ^ gone[1]
        apart += int(differ.sum())
        sizes |= set(module.weight[differ].abs().tolist())
    if zeros[0] != zeros[1] or len(sizes) > 1:
        raise RuntimeError(f"{zeros} zeros, and {apart} weights of {len(sizes)} sizes differ")
    return zeros[0], apart


def power(sizes: Sequence[float], taken: Sequence[float]) -> tuple[float, float]:
    """(exponent, factor) of the power law nearest to some times, in the logarithms."""
    exponent, factor = np.polyfit(np.log(sizes), np.log(taken), 1)
    return float(exponent), float(np.exp(factor))


def plain(net: nn.Module) -> Works:
    """Ours, and plain passes."""
    return {"ours": (ours, partial(unseen, net)), "again": (ours, lambda: net), "clone": (clone, lambda: net),
            "read": (read, lambda: net)}


def row(name: str, net: nn.Module, taken: dict[str, list[Spent]], **others: Any) -> dict[str, Any]:
    """What was taken on one network."""
    weights, mine = sum(module.weight.numel() for module, _ in layers(net)), seconds(taken["ours"])
    return {"network": name, "weights, M": weights / 1e6, "ours, s": mine, "again, s": seconds(taken["again"]),
            **others, "ours / clone": mine / seconds(taken["clone"]), "ours / read": mine / seconds(taken["read"]),
            "ours, extra GB": (extra(taken["ours"]) - 4 * weights) / 1e9}


def compared(name: str, net: nn.Module) -> dict[str, Any]:
    """Both on one network."""
    zeros, apart = agreed(net, ours(net), peer(copy.deepcopy(net)))
    taken = in_turn({"torch": (peer, partial(copy.deepcopy, net)), **plain(net)}, REPEATS[name])
    found = intervals.ratio(*([one.seconds for one in taken[side]] for side in ("torch", "ours")))
    return row(name, net, taken, **{"torch, s": seconds(taken["torch"]), "torch / ours": intervals.said(found)}) | {
        "torch, extra GB": extra(taken["torch"]) / 1e9, "zeros": zeros, "ties apart": apart}


def main() -> None:
    """From small to large, and ours alone at the size of SD-1.5."""
    nets: dict[str, Callable[[], nn.Module]] = {"emoji-sd": lambda: pruning.load("emoji-sd").unet,
            **{f"{width} channels": partial(sized, width) for width in (32, 64, 128)}}
    rows = [compared(name, make()) for name, make in nets.items()]
    exponent, factor = power(*([one[column] for one in rows[1:]] for column in ("weights, M", "torch, s")))
    net = pruning.load("sd-1.5", weights="random").unet
    ours(net)
    full = row("sd-1.5", net, in_turn(plain(net), REPEATS["sd-1.5"]))
    guess = factor * full["weights, M"] ** exponent
    rows.append({column: full.get(column, "") for column in rows[0]} | {
        "torch, s": f"about {guess:.0f}, by n^{exponent:.2f}", "torch / ours": f"about {guess / full['ours, s']:.1f}×"})
    publish("scale", "python -m benchmarks.scale", rows)


if __name__ == "__main__":
    main()
