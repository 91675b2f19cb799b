"""2:4 kernels on the device at hand: timed against the dense ones, and run where they win.

``kernels`` says by shape which layers have one. Whether it is faster depends on the device, the shape and the number of
positions, and often it is not. Sparse weights are for running alone: they are made for a measurement, and never saved,
cached or fingerprinted.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.cache import Cache
from pruning.decisions.kind import gone
from pruning.errors import Refused
from pruning.network.notes import plan_of
from pruning.network.subject import DENOISERS, shell, subject
from pruning.timing.kernels import kernel_for
from pruning.types import PlanStep, Shot
from pruning.units.catalog import find
from pruning.units.costs import Costs, trace
from pruning.units.site import Site

LEAST = 1.03  # times as fast as the dense kernel; less is noise
FAR = 0.02  # relative, of the answers: rounding in another order stays below, a kernel that errs does not
CALLS = 20  # between two looks at the clock, since one alone is mostly the waiting for it


@dataclass(frozen=True)
class Probe:
    """Milliseconds of a layer's two kernels, None where they were not timed, and why the sparse one is not run."""

    dense_ms: float | None = None
    sparse_ms: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Ran:
    """How a component's 2:4 layers were run."""

    used: int  # by sparse kernels
    lost: int  # by dense ones, since the sparse ones did not win the probe
    skipped: int  # MACs of one pass that the sparse kernels leave out
    without: Mapping[str, int]  # why the other layers have no sparse kernel, and how many, the most first


class Sparse(nn.Linear):
    """A linear layer whose weight is stored without its zeros. Such weights multiply two dimensions only."""

    def forward(self, input: Tensor) -> Tensor:
        """As every linear layer."""
        flat = F.linear(input.reshape(-1, self.in_features), self.weight, self.bias)
        return flat.view(*input.shape[:-1], self.out_features)

    def _save_to_state_dict(self, *_: Any) -> NoReturn:
        raise Refused("This pipeline holds weights in the form of sparse kernels, for running alone.",
                      "Save or compare the pipeline that it was made from.")


_probed = Cache("sparse kernels", 1 << 20)


@torch.no_grad()
def probe(weight: Tensor, tokens: int, bias: Tensor | None = None, repeats: int = 5) -> Probe:
    """A 2:4 weight's dense and sparse kernel on an input of (tokens, inputs): warmed up, A B B A, medians.

    Times are remembered by device, type and shape; a failure is not, for it may pass (memory).
    """
    name = torch.cuda.get_device_name(weight.device) if weight.is_cuda else weight.device.type
    key = (name, tuple(weight.shape), weight.dtype, tokens, bias is not None)
    if (known := _probed.look(key)) is not None:
        return known
    generator = torch.Generator(weight.device).manual_seed(0)
    try:
        x = torch.randn(tokens, weight.shape[1], dtype=weight.dtype, device=weight.device, generator=generator)
        pair = [weight, convert(weight)]
        exact, other = (F.linear(x, w, bias).float() for w in pair)
        if not (other - exact).norm() <= FAR * exact.norm():
            return Probe(reason="the sparse kernel's answers are not the dense one's")
        taken: list[list[float]] = [[], []]
        for turn in range(repeats):
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                taken[side].append(milliseconds(partial(F.linear, x, pair[side], bias), weight.device))
    except RuntimeError as error:  # NotImplementedError and a full memory are some, too
        return Probe(reason=f"the sparse kernel failed: {(str(error) or type(error).__name__).splitlines()[0]}")
    dense, sparse = map(median, taken)
    word = "faster" if dense < sparse else "as fast"
    lost = f"the dense kernel was {word} here: {dense:.3g} against {sparse:.3g} ms" if dense < LEAST * sparse else None
    return _probed.get_or(key, lambda: (Probe(dense, sparse, lost), 200))


def convert(weight: Tensor) -> Tensor:
    """A 2:4 weight as its kernel reads it."""
    return torch.sparse.to_sparse_semi_structured(weight)


def milliseconds(call: Callable[[], Any], device: torch.device) -> float:
    """How long a call takes when many stand in line, as in a run; Python's part counts where it is the longer one."""
    torch.cuda.synchronize(device)
    before = time.perf_counter()
    for _ in range(CALLS):
        call()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - before) / CALLS * 1000


def accelerated(pipe: Any, component: str, step: PlanStep, batch: int = 2) -> tuple[Any, dict[str, Probe]]:
    """A new pipeline that runs sparse kernels where they win, and what was found of each layer of a 2:4 step.

    The given one is left alone, and comes back where no kernel wins. A layer is probed with as many positions as it
    multiplies at the component's own size, times ``batch``: 2 for one guided picture, whose two halves run together.
    """
    looked_at = subject(pipe, component)
    uses = trace(looked_at.net, looked_at.example).uses
    pattern = step.recipe.pattern or ""
    found = {site.module: _look(looked_at.net, site, pattern, batch * uses.get(site.tensor, 0))
             for site in find(looked_at.net, step.recipe.units) if gone(step.decision, site)}
    won = [name for name, one in found.items() if one.reason is None]
    if not won:
        return pipe, found
    net = shell(looked_at.net)
    for name in won:
        layer = net.get_submodule(name)
        layer.weight = nn.Parameter(convert(layer.weight.detach()), requires_grad=False)  # type: ignore[operator]
        layer.__class__ = Sparse  # its hooks and settings stay
    return looked_at.holding(net), found


def _look(net: nn.Module, site: Site, pattern: str, tokens: int) -> Probe:
    layer: Any = net.get_submodule(site.module)
    weight = layer.weight.detach()
    reason = kernel_for(site, weight.shape, weight.dtype, weight.device.type, pattern)
    if reason is None and type(layer) is not nn.Linear:
        reason = f"a {type(layer).__name__} reads its weight in a way of its own"
    elif reason is None and not tokens:
        reason = "how many positions it multiplies is not counted for this class"
    elif reason is None and weight.unflatten(-1, (-1, 4)).count_nonzero(-1).max() > 2:
        reason = "its zeros are no longer 2 of each 4"  # a later step changed them
    return Probe(reason=reason) if reason else probe(weight, tokens, layer.bias)


def running(pipe: Any, shot: Shot) -> tuple[Any, dict[str, Ran]]:
    """A pipeline as it runs fastest, and how each component with a 2:4 step does; of several steps, its last one."""
    plan, pictures, ran = plan_of(pipe), len(shot.prompts) * shot.images, dict[str, Ran]()
    steps = {step.recipe.component: step for step in (plan.steps if plan else ())
             if step.recipe.pattern and step.decides}
    for component, step in steps.items():
        before = subject(pipe, component)
        doubled = shot.guidance > 1 and component in DENOISERS
        pipe, found = accelerated(pipe, component, step, pictures * (2 if doubled else 1))
        ran[component] = tally(found, trace(before.net, before.example))
    return pipe, ran


def tally(found: Mapping[str, Probe], costs: Costs) -> Ran:
    """The probes of a component, counted."""
    won = [name for name, one in found.items() if one.reason is None]
    lost = sum(one.sparse_ms is not None for one in found.values()) - len(won)
    without = Counter(one.reason for one in found.values() if one.reason and one.sparse_ms is None)
    return Ran(len(won), lost, sum(costs.macs_of(f"{name}.weight") for name in won) // 2, dict(without.most_common()))
