"""The weights that stay make up for those that go, without training: optimal brain surgeon, layer by layer.

Of each layer the squared error of what it hands on is made as small as its mask allows on the calibration. SparseGPT
(arXiv:2301.00774, section 3) has the same aim and sweeps over the columns once, each correcting those after it; with
the mask given, solving for all of them leaves a third of the sweep's error on emoji-sd. Every layer sees the inputs of
the dense model, so that layers do not depend on each other, and a convolution too wide for that is adjusted for each
position of its window apart. Half of the calls is kept out: a layer stays as it was when its error on that half did not
fall.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import samples
from pruning.observe import resting
from pruning.subject import Subject
from pruning.types import PlanStep
from pruning.units.catalog import find
from pruning.units.site import Site
from pruning.work import Looked

WIDE = 3600  # inputs of a whole window, up to which its positions are adjusted together
MOMENTS = 1 << 28  # bytes of second moments that are collected in one go over the calls
DAMP = 0.01  # of the mean of the diagonal, added to it
TURNS, TINY = 20, 1e-30  # of conjugate gradients: within 0.1 % of the exact answer on emoji-sd's layers


@dataclass(frozen=True, eq=False)
class Adjusted:
    """A layer's new weight, None where the old one is as good, and its relative output error before and after."""

    weight: Tensor | None
    before: float
    after: float


def adjusting(looked_at: Subject, net: nn.Module, step: PlanStep) -> Generator[Looked, None, dict[str, Adjusted]]:
    """New weights in place of those that stayed, by site.

    ``looked_at`` is the component before the step, ``net`` after it; neither is changed.
    """
    calls = yield from samples.making(looked_at, samples.settled(looked_at, step.recipe.calibration))
    sites = [site for site in find(looked_at.net, step.recipe.units) if site.name in step.decision.sites
             and adjustable(looked_at.net.get_submodule(site.module))]
    out: dict[str, Adjusted] = {}
    done = 0
    for group in _groups(looked_at.net, sites):
        moments = Moments()
        for i, call in enumerate(calls):
            moments.half = i % 2
            with watched(looked_at.net, group, moments):  # nobody else's drawing, in between, is to be counted
                samples.answer(looked_at.net, call)
            yield Looked(done + (i + 1) * len(group) // len(calls), len(sites), "adjusting what stays")
        done += len(group)
        for site in group:
            if seen := moments.of(site):
                out[site.name] = _adjusted(looked_at.net, net, site, *seen)
    return out


def adjustable(module: nn.Module) -> bool:
    """Whether every output of a layer sees all of its inputs."""
    return getattr(module, "groups", 1) == 1


class Moments:
    """Sums of x x' over the inputs x of some layers, (n, n) each, for even and odd calls apart."""

    def __init__(self) -> None:
        self.half = 0
        self.sums: dict[tuple[str, int], Tensor] = {}

    def see(self, name: str, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Add the inputs of one call."""
        x = windows(module, given[0].detach().float())
        key = name, self.half
        self.sums[key] = self.sums[key].addmm_(x.T, x) if key in self.sums else x.T @ x

    def of(self, site: Site) -> tuple[Tensor, Tensor] | None:
        """(those to adjust by, those to judge by), the same with one call; None where no finite inputs were seen."""
        halves = [self.sums.pop((site.name, half)) for half in (0, 1) if (site.name, half) in self.sums]
        return (halves[0], halves[-1]) if halves and all(half.isfinite().all() for half in halves) else None


@contextmanager
def watched(net: nn.Module, sites: Sequence[Site], moments: Moments) -> Iterator[None]:
    """Some layers add their inputs to the moments while the network runs."""
    with ExitStack() as stack:
        stack.enter_context(resting(net))
        for site in sites:
            layer = net.get_submodule(site.module)
            stack.callback(layer.register_forward_pre_hook(partial(moments.see, site.name)).remove)
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


def _groups(net: nn.Module, sites: Sequence[Site]) -> Iterator[list[Site]]:
    """Sites whose moments fit in memory together."""
    group: list[Site] = []
    size = 0
    for site in sites:
        module = net.get_submodule(site.module)
        n = module.weight[0].numel() if _together(module) else site.inputs  # type: ignore[index]
        if group and size + 8 * n * n > MOMENTS:
            yield group
            group, size = [], 0
        group.append(site)
        size += 8 * n * n  # two halves of float32
    if group:
        yield group


@torch.no_grad()
def _adjusted(dense: nn.Module, net: nn.Module, site: Site, fit: Tensor, held: Tensor) -> Adjusted:
    """Adjust one layer, if that helps."""
    module, weight = dense.get_submodule(site.module), net.get_parameter(site.tensor).detach()
    whole = matrix(module, site, dense.get_parameter(site.tensor).detach().float())
    less = matrix(module, site, weight.float())
    better = solved(whole, less != 0, fit)
    shaped = better.view(weight.shape) if _together(module) else site.unrows(better.view(site.rows(weight).shape))
    better = torch.empty_like(weight).copy_(shaped)  # as it is stored: half precision rounds, and ends at 65504
    size = _squared(whole, held) or 1.0
    before, after = (_squared(whole - part, held) / size for part in (less, matrix(module, site, better.float())))
    return Adjusted(better, before, after) if after < before else Adjusted(None, before, before)


def _squared(weight: Tensor, moments: Tensor) -> float:
    """The squared size of what weights make of inputs with these moments."""
    return float(((weight @ moments) * weight).sum(dtype=torch.float64))


def solved(weight: Tensor, keep: Tensor, moments: Tensor) -> Tensor:
    """Weights, zero where ``keep`` is not, whose outputs are nearest those of ``weight``; all (outputs, n).

    For each output a least-squares problem of its own, over the weights that it keeps; all of them are solved at once
    by conjugate gradients on the damped moments.
    """
    size = float(moments.diagonal().mean()) or 1.0
    damped = moments / size + DAMP * torch.eye(len(moments)).to(moments)
    scale = 1 / damped.diagonal()  # so that inputs of all sizes are solved for in as few turns
    out = weight * keep
    left = ((weight - out) @ damped) * keep
    turn = left * scale
    size_left = (left * turn).sum(1, keepdim=True)
    for _ in range(TURNS):
        met = (turn @ damped) * keep
        far = size_left / (turn * met).sum(1, keepdim=True).clamp_min(TINY)
        out += far * turn
        left -= far * met
        before, size_left = size_left, (left * left * scale).sum(1, keepdim=True)
        turn = left * scale + size_left / before.clamp_min(TINY) * turn
    return out
