"""Cutting the same channels with Torch-Pruning 1.6.1 (aim: 5 times as fast).

Hidden and coupled channels, 30 % of each, random weights. Ours makes a new model from a plan; Torch-Pruning traces a
copy, which is made outside the clock, and cuts it group by group. A graph lasts as long as nothing was cut, so that it
has to be traced for each model. The models that come of it are equal, bit for bit. "Cut" is its time without tracing.
All on one thread: copying is bound by memory, and threads that wait for each other would be on the clock.

python -m benchmarks.width
"""

import argparse
import copy
import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any, TypeVar

import torch
import torch_pruning
from torch import Tensor, nn

import pruning
from benchmarks.pairs import in_turn
from benchmarks.table import publish
from pruning.decisions.keep import kept_units
from pruning.network.inputs import arguments
from pruning.network.subject import subject
from pruning.timing import intervals
from pruning.units.site import Site

T = TypeVar("T")
PAIRS = {"ddpm-cifar10": 8, "emoji-sd": 8, "sd-1.5": 6}


def inputs(net: nn.Module) -> dict[str, Any]:
    """Random inputs of the size that the network is counted at."""
    given: Any = arguments(net, subject(net).example)
    return {name: torch.randn(value.shape) if isinstance(value, Tensor) and value.is_floating_point() else value
            for name, value in given.items()}


def traced(net: nn.Module, given: Mapping[str, Any]) -> Any:
    """Torch-Pruning's graph of a network."""
    net.requires_grad_()
    return torch_pruning.DependencyGraph().build_dependency(
        net, given, forward_fn=lambda net, given: net(**given),
        output_transform=lambda out: getattr(out, "sample", out))


def group_of(graph: Any, net: nn.Module, site: Site, units: list[int]) -> Any:
    """Torch-Pruning's group of some units of a site, found by the first layer that writes them."""
    layer = net.get_submodule(site.members[0].tensor.rpartition(".")[0])
    return graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, idxs=units)


def cut(graph: Any, net: nn.Module, kept: Mapping[Site, Tensor]) -> nn.Module:
    """A network without the units that are not kept, in place. What its modules know of their sizes stays wrong."""
    for site, units in kept.items():
        stay = set(units.tolist())
        group_of(graph, net, site, [unit for unit in range(site.units) if unit not in stay]).prune()
    return net


def timed(taken: list[float], work: Callable[[], T]) -> T:
    """Do some work, and note its seconds. What others left to be collected is not on the clock."""
    gc.collect()
    start = time.perf_counter()
    done = work()
    taken.append(time.perf_counter() - start)
    return done


def compared(name: str, net: nn.Module, pairs: int) -> dict[str, Any]:
    """Both, in turn, on one network; a pair of runs more to warm up."""
    plan, given = pruning.plan(net, "random", 0.3, units="channel"), inputs(net)
    kept = kept_units(net, plan.steps[0])
    taken: dict[str, list[float]] = {"ours": [], "graph": [], "cut": []}
    waiting: list[nn.Module] = []  # the first of a pair, for the second to be checked against

    def done(small: nn.Module) -> None:
        check(waiting.pop(), small) if waiting else waiting.append(small)

    def own() -> float:
        done(timed(taken["ours"], lambda: pruning.apply(net, plan)))
        return taken["ours"][-1]

    def peer() -> float:
        twin = copy.deepcopy(net)
        graph = timed(taken["graph"], partial(traced, twin, given))
        done(timed(taken["cut"], partial(cut, graph, twin, kept)))
        return taken["graph"][-1] + taken["cut"][-1]

    in_turn((own, peer), pairs + 1)
    ours, graphs, cuts = (times[1:] for times in taken.values())
    found = intervals.ratio([a + b for a, b in zip(graphs, cuts, strict=True)], ours)
    return {"network": name, "weights, M": sum(p.numel() for p in net.parameters()) / 1e6, "sites": len(kept),
            "ours, s": median(ours), "Torch-Pruning, s": median(graphs) + median(cuts), "of that cut, s": median(cuts),
            "Torch-Pruning / ours": intervals.said(found),
            "cut / ours": median(cuts) / median(ours)}


def check(one: nn.Module, other: nn.Module) -> None:
    """Refuse models that are not equal, bit for bit."""
    pairs = zip(one.named_parameters(), other.parameters(), strict=True)
    if wrong := [name for (name, mine), theirs in pairs if not torch.equal(mine, theirs)]:
        raise RuntimeError(f"{len(wrong)} tensors differ, the first is {wrong[0]}")


def main() -> None:
    """The networks by name; SD-1.5 takes 12 GB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(PAIRS))
    names, threads = parser.parse_args().networks, torch.get_num_threads()
    torch.set_num_threads(1)
    rows = [compared(name, pruning.load(name, weights="random").unet.eval(), PAIRS[name]) for name in names]
    publish("width", "python -m benchmarks.width", rows)
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
