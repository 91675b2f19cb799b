"""What the clock says of a plan, and why it does not say what the arithmetic would."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from pruning.decisions.kind import gone, shrinks
from pruning.network.subject import DENOISERS
from pruning.timing import intervals
from pruning.timing.kernels import Ceiling, amdahl, ceiling
from pruning.types import PlanStep
from pruning.units.costs import Costs
from pruning.units.site import Site


def kernels_for(step: PlanStep, sites: Sequence[Site], costs: Costs, stored: Tensor) -> Ceiling | None:
    """What kernels for the step's pattern win where the pruned component is and in its type; None without a pattern."""
    pattern = step.recipe.pattern
    return ceiling((site for site in sites if gone(step.decision, site)), costs, stored.dtype, stored.device.type,
                   pattern) if pattern else None


def speed(step: PlanStep, macs: Mapping[str, Any], measured: Mapping[str, Any] | None,
          sparse: Ceiling | None = None, uncounted: str = "") -> dict[str, Any]:
    """Theory: the dense MACs over those that are not zero. Reachable: over those that this device has to do, as far as
    time goes into such arithmetic. Measured: the clock; ``timed_for`` says which part of it counts.

    ``sparse`` is what kernels for the step's pattern win on this device at most; once measured, those that ran count.
    ``uncounted`` says why MACs are not known, where they are not.
    """
    if macs["dense"] is None:
        return {"theory": None, "reachable": None, "measured": measured,
                "why": uncounted}
    ran = ran_sparse(measured, step.recipe.component)
    if sparse and ran:
        sparse = replace(sparse, eligible=ran["used"], skipped=ran["skipped"], without=ran["without"],
                         f=2 * ran["skipped"] / max(1, macs["pruned"]))  # of 2:4, half of the MACs are skipped
    share = _shrinks(measured, sparse) if measured and _denoises(step.recipe.component) else None
    left = macs["pruned"] - (sparse.skipped if sparse else 0)
    reachable = amdahl(macs["dense"], left, 1.0 if share is None else share)
    few = 0.99 if shrinks(step.decision) else 1  # every model has some zeros of its own
    zeros = macs["nonzero"] < few * macs["pruned"]
    why = [*_cause(macs, zeros, sparse, ran), *(_limit(reachable, share) if left < macs["dense"] else ())]
    if measured:
        why += [_on_the_clock(timed_for(measured, step.recipe.component), reachable, share,
                              bool(sparse and sparse.eligible))]
    return {"theory": macs["dense"] / max(1, macs["nonzero"]), "reachable": reachable, "measured": measured,
            "why": " ".join(why)}


def _shrinks(measured: Mapping[str, Any], sparse: Ceiling | None) -> float | None:
    """The share of a step that can get shorter: with sparse kernels, theirs; with smaller layers, all but Python's.

    Norms, activations and copies are no MACs, and yet they shrink with the layers.
    """
    if sparse and sparse.eligible:
        return measured["kernels"]
    return None if measured["between"] is None else 1 - measured["between"]


def timed_for(measured: Mapping[str, Any], component: str) -> Mapping[str, Any]:
    """The part of what was measured that a component answers for, as ``clock.Timed`` has it."""
    return measured["parts"][part_on_the_clock(component)]


def part_on_the_clock(component: str) -> str:
    """The part of a drawing that a component's time is in: of a denoiser, a step."""
    return "step" if _denoises(component) else component


def ran_sparse(measured: Mapping[str, Any] | None, component: str) -> Mapping[str, Any] | None:
    """How a component's 2:4 layers were run on the clock; None without such layers, or where nobody noted it."""
    return ((measured or {}).get("sparse") or {}).get(component)


def _denoises(component: str) -> bool:
    return component in ("", *DENOISERS)


def _cause(macs: Mapping[str, Any], zeros: bool, sparse: Ceiling | None,
           ran: Mapping[str, Any] | None) -> Iterator[str]:
    """Why less has to be done, or not."""
    if macs["pruned"] < macs["dense"]:
        yield "The layers are smaller, so every kernel does less."
    if sparse and ran and ran["used"] + ran["lost"]:
        yield _ran(sparse, ran)
    elif sparse and sparse.eligible:
        yield (f"{sparse.eligible} of {sparse.layers} pruned layers, with {_percent(sparse.f)} of the MACs, have a "
               "kernel that skips zeros, by type and shape; measuring tries each on this device and runs it where it "
               "is faster.")
    elif zeros:
        reasons = _reasons(sparse.without) if sparse else ""
        yield ("Zeros are stored and multiplied like other numbers: "
               f"{reasons or 'this device has no kernel that skips them'}.")
    elif macs["pruned"] == macs["dense"]:
        yield "Nothing was removed."


def _ran(sparse: Ceiling, ran: Mapping[str, Any]) -> str:
    """How many layers ran sparse kernels on the clock, and why the others did not."""
    share = f", with {_percent(sparse.f)} of the MACs," if ran["used"] else ""
    told = [f"{ran['used'] or 'None'} of {sparse.layers} pruned layers{share} ran kernels that skip zeros"]
    if ran["lost"]:
        told.append(f"for {ran['lost']} the dense kernel was as fast or faster in a probe on this device")
    if ran["without"]:
        told.append(f"{sum(ran['without'].values())} cannot: {_reasons(ran['without'])}")
    return "; ".join(told) + "."


def _reasons(without: Mapping[str, int], most: int = 3) -> str:
    """Why layers have no kernel; how many each, when there are several reasons."""
    return ", ".join(reason if len(without) == 1 else f"{reason} ({count})"
                     for reason, count in list(without.items())[:most])


def _limit(reachable: float, share: float | None) -> Iterator[str]:
    """What stands between fewer MACs and less time."""
    if share is None:
        yield f"{reachable:.2f}× is reachable if all of the time shrinks with the MACs."
    else:
        yield f"{_percent(1 - share)} of a step cannot shrink, so {reachable:.2f}× is reachable."


def _on_the_clock(timed: Mapping[str, Any], reachable: float, share: float | None, skips: bool = False) -> str:
    """How the clock compares with what is reachable."""
    ratio = intervals.found_in(timed)
    told = f"Measured: {intervals.said(ratio)}"
    if ratio is None or not intervals.differs(ratio):
        noisy = intervals.state(ratio) in (intervals.NOISE, intervals.FEW)
        return f"{told}. Measure again with more runs, while nothing else runs." if noisy else f"{told}."
    if intervals.agrees(ratio, reachable):
        return f"{told}, no different from {reachable:.2f}× beyond noise."
    if reachable == 1:
        return f"{told}, though both do the same arithmetic: was other work running? Measure again."
    if ratio[0] > reachable:
        return f"{told}, above {reachable:.2f}×: " + (
            "work that MACs do not count (norms, softmax, memory traffic) shrinks, too.")
    if skips:
        return f"{told}, below {reachable:.2f}×: kernels that skip half of the work take more than half of the time."
    return f"{told}, below {reachable:.2f}×: " + (
        "part of the time does not shrink with the MACs (norms, copies, Python)." if share is None else
        "smaller kernels do fewer operations a second, and norms and copies shrink less than MACs.")


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
