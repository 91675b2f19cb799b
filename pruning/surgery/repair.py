"""The weights that stay make up for those that go, without training: optimal brain surgeon, layer by layer.

Of each layer the squared error of what it hands on is made as small as its mask allows on the calibration. SparseGPT
(arXiv:2301.00774, section 3) has the same aim and sweeps over the columns once, each correcting those after it; with
the mask given, solving for all of them leaves a third of the sweep's error on emoji-sd. Every layer sees the inputs of
the dense model, so that layers do not depend on each other, and a convolution too wide for that is adjusted for each
position of its window apart. Half of the samples is kept apart: on them the error of what each layer hands on is taken
before and after, and a layer stays as it was when its error did not fall.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.calibration import samples
from pruning.calibration.call import Call, place
from pruning.network.subject import Subject
from pruning.observe.modes import resting
from pruning.progress import Looked
from pruning.surgery.solver import LEAST, solved
from pruning.types import PlanStep
from pruning.units.catalog import find
from pruning.units.site import Site

WIDE = 3600  # inputs of a whole window, up to which its positions are adjusted together
Sees = Callable[[str, nn.Module, tuple[Any, ...]], None]  # a site's name, its layer, what that is given


@dataclass(frozen=True, eq=False)
class Adjusted:
    """A layer's new weight, None where the old one is as good, and its relative output error before and after.

    ``above`` bounds by which share the squared error on the samples that it was adjusted by exceeds the least possible.
    """

    weight: Tensor | None
    before: float
    after: float
    above: float = 0.0


def adjusting(looked_at: Subject, net: nn.Module, step: PlanStep) -> Generator[Looked, None, dict[str, Adjusted]]:
    """New weights in place of those that stayed, by site.

    ``looked_at`` is the component before the step, ``net`` after it; neither is changed.
    """
    calibration = samples.settled(looked_at, step.recipe.calibration)
    calls = yield from samples.making(looked_at, calibration)
    fit, held = halves(calls, calibration.samples)
    dense = looked_at.net
    sites = [site for site in find(dense, step.recipe.units)
             if site.name in step.decision.sites and adjustable(dense.get_submodule(site.module))]
    groups = list(_groups(dense, sites))
    of = len(groups) * len(fit) + len(sites) + len(held)
    told = iter([Looked(i + 1, of, "adjusting what stays") for i in range(of)])
    better, above = dict[str, Tensor](), dict[str, float]()
    for group in groups:
        moments = Moments()
        for call in fit:
            _shown(dense, call, group, moments.see)
            yield next(told)
        for site in group:
            if (seen := moments.of(site)) is not None:
                better[site.name], above[site.name] = adjusted(dense, net, site, seen)
            yield next(told)
    errors = Errors(net, better)
    for call in held:
        _shown(dense, call, [site for site in sites if site.name in better], errors.see)
        yield next(told)
    return {name: replace(layer, above=above[name]) for name, layer in errors.judged().items()}


def halves(calls: Sequence[Call], count: int) -> tuple[list[Call], list[Call]]:
    """The calls of ``count`` samples as those to adjust by and those to judge by; the same ones when there is one."""
    fit, held = samples.halves(calls, count, lambda call: call.level)
    return fit, held or fit


def adjustable(module: nn.Module) -> bool:
    """Whether every output of a layer sees all of its inputs."""
    return getattr(module, "groups", 1) == 1


class Moments:
    """Sums of x x' over the inputs x of some layers, (n, n) each."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def see(self, name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Add the inputs of one call."""
        x = windows(module, given[0].detach().float())
        self.sums[name] = self.sums[name].addmm_(x.T, x) if name in self.sums else x.T @ x

    def of(self, site: Site) -> Tensor | None:
        """A layer's sum, which is let go of; None where no inputs were seen, or not finite ones."""
        seen = self.sums.pop(site.name, None)
        return seen if seen is not None and seen.isfinite().all() else None


class Errors:
    """Squared sizes of what some layers hand on: what went by the mask, what still lacks once adjusted, and all of it.

    Biases are left out. The sums are over the outputs themselves, so they are as true of a convolution whose positions
    were adjusted apart as of any other layer.
    """

    def __init__(self, net: nn.Module, better: Mapping[str, Tensor]) -> None:
        self.net, self.better = net, better
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def see(self, name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Add what one call comes to."""
        x, whole = given[0].detach().float(), module.get_parameter("weight").float()
        less, better = self.net.get_submodule(name).get_parameter("weight").float(), self.better[name].float()
        sizes = [made(module, weight, x).square().sum(dtype=torch.float64)
                 for weight in (whole - less, whole - better, whole)]
        self.sums[name] = self.sums.get(name, 0) + torch.stack(sizes)

    def judged(self) -> dict[str, Adjusted]:
        """The layers that were seen, and given numbers; where the error did not fall, the old weight stays."""
        out = {}
        for name, sums in self.sums.items():
            lost, left, whole = sums.tolist()
            before, after = lost / (whole or 1.0), left / (whole or 1.0)
            if isfinite(before):  # else it was given what are no numbers
                fell = after < before  # nor is after one where the new weight cannot be stored
                out[name] = Adjusted(self.better[name] if fell else None, before, after if fell else before)
        return out


def made(module: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """What a layer makes of its inputs with another weight and without its bias."""
    return F.linear(x, weight) if isinstance(module, nn.Linear) else module._conv_forward(x, weight, None)  # type: ignore[operator]


def _shown(net: nn.Module, call: Call, sites: Sequence[Site], see: Sees) -> None:
    """Go through one call while layers are watched: nobody else's drawing, between two calls, is to be counted."""
    with watched(net, sites, see):
        samples.answer(net, call)


@contextmanager
def watched(net: nn.Module, sites: Sequence[Site], see: Sees) -> Iterator[None]:
    """Some layers tell what they are given while the network runs."""
    with ExitStack() as stack:
        stack.enter_context(resting(net))
        for site in sites:
            layer = net.get_submodule(site.module)
            stack.callback(layer.register_forward_pre_hook(partial(see, site.name)).remove)
        yield


def _together(module: nn.Module) -> bool:
    """Whether the positions of a convolution's window are adjusted together."""
    return (isinstance(module, nn.Conv2d) and module.weight[0].numel() <= WIDE
            and not isinstance(module.padding, str) and module.padding_mode == "zeros")


def windows(module: nn.Module, x: Tensor) -> Tensor:
    """A layer's input as (places, n), with n as in ``matrix``."""
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    if isinstance(module, nn.Conv2d) and _together(module):
        unfolded = F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)  # type: ignore[arg-type]
        return unfolded.movedim(1, -1).reshape(-1, unfolded.shape[1])
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def matrix(module: nn.Module, site: Site, weight: Tensor) -> Tensor:
    """A weight as (outputs, n): whole windows, or the rows of a site."""
    return weight.flatten(1) if _together(module) else site.rows(weight).reshape(-1, site.inputs)


def room(device: torch.device) -> int:
    """Bytes of second moments that are collected in one go over the calls: a sixth of what is free on a device."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return max(LEAST, free // 6)


def _groups(net: nn.Module, sites: Sequence[Site]) -> Iterator[list[Site]]:
    """Sites whose moments fit in memory together."""
    group: list[Site] = []
    size, most = 0, room(place(net)[0])
    for site in sites:
        module = net.get_submodule(site.module)
        n = module.weight[0].numel() if _together(module) else site.inputs  # type: ignore[index]
        if group and size + 4 * n * n > most:
            yield group
            group, size = [], 0
        group.append(site)
        size += 4 * n * n  # float32
    if group:
        yield group


@torch.no_grad()
def adjusted(dense: nn.Module, net: nn.Module, site: Site, moments: Tensor) -> tuple[Tensor, float]:
    """A layer's weight once what stays is adjusted, as it is stored: half precision rounds, and ends at 65504.

    With it comes the bound that ``solved`` gives.
    """
    module, weight = dense.get_submodule(site.module), net.get_parameter(site.tensor).detach()
    whole = matrix(module, site, dense.get_parameter(site.tensor).detach().float())
    better, above = solved(whole, matrix(module, site, weight.float()) != 0, moments)
    shaped = better.view(weight.shape) if _together(module) else site.unrows(better.view(site.rows(weight).shape))
    return torch.empty_like(weight).copy_(shaped), above


