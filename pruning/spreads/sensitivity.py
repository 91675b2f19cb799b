"""How much a component's output changes with each layer, and the ratios that follow from it.

Every layer is tried alone at the same fixed shares of its units, whatever ratio is asked for: what a request means does
not depend on which ratios were asked for before, and another ratio needs no other trial.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import floor, log
from statistics import median
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.calibration import samples
from pruning.calibration.call import Call
from pruning.decisions.applying import carried_out
from pruning.network.fingerprint import fingerprint
from pruning.network.subject import Subject
from pruning.observe.modes import resting
from pruning.progress import Looked
from pruning.scores.scores import Scores
from pruning.spreads import SPREADS
from pruning.spreads.amount import Asked
from pruning.spreads.deciding import counted, crossing, decide
from pruning.spreads.granularity import Room
from pruning.spreads.protect import free_sites
from pruning.spreads.spread import Spread
from pruning.types import PlanStep, Recipe

LOOKS, FEW = 4, 2  # calls of the calibration that every layer is judged by; and by which, of a large network
LARGE = 200_000_000  # parameters of a network that is judged by few calls, a U-Net on latents of half the side
TRIED = (0.25, 0.5)  # shares of a layer's units that are tried
CUBE, FLAT, STEEP = 3.0, 1.5, 6.0  # an error's exponent where it cannot be fitted, and between which it is
QUIET = 1e-6  # of the largest error: smaller ones count as this, since nothing but rounding is seen there
Trials = Sequence[tuple[float, float]]  # (share of a layer's units, relative squared error), ascending


@dataclass(frozen=True)
class Rise:
    """How a layer's error rises with the share x of its units that goes: ``size * x ** exponent``."""

    size: float
    exponent: float

    @classmethod
    def through(cls, trials: Trials, exponent: float) -> "Rise":
        """The rise of that exponent through the last trial, where the error is known best."""
        share, error = trials[-1]
        return cls(error / share**exponent, exponent)


@dataclass(frozen=True)
class Sensitivity:
    """What was found: site -> its trials, each with the error of the output when that layer alone is pruned.

    A layer that can give nothing has none.
    """

    errors: Mapping[str, Trials]

    def rises(self) -> dict[str, Rise]:
        """A rise for each layer, through both of its trials where there are two.

        The smallest x of a layer's weights, with their density nearly even around zero, have a squared sum that grows
        with x cubed. But units differ, and so do methods: of emoji-sd's layers the exponents are 1.7 to 3.5. A layer
        with one trial (of two units, one goes) has the median of the others' exponents.
        """
        least = QUIET * max((error for trials in self.errors.values() for _, error in trials), default=0.0) or 1.0
        heard = {name: [(share, max(error, least)) for share, error in trials]
                 for name, trials in self.errors.items() if trials}
        fitted = {name: steepness(trials) for name, trials in heard.items()
                  if len(trials) > 1 and trials[-1][1] > least}
        usual = median(fitted.values()) if fitted else CUBE
        return {name: Rise.through(trials, fitted.get(name, usual)) for name, trials in heard.items()}

    def divided(self, recipe: Recipe, scores: Scores) -> Recipe:
        """The recipe with a ratio of its own for each layer, of the same amount in all.

        The sum of the layers' errors at a given amount is least where each would rise as much for a little more.
        """
        ratios = suggested(recipe, scores, self.rises())
        return replace(recipe, spread="layer", overrides=tuple(sorted({**dict(recipe.overrides), **ratios}.items())))


def steepness(trials: Trials) -> float:
    """The exponent of a rise through the first and the last trial, within bounds.

    Below the one bound a little less of many layers would mean nearly all of a few.
    """
    (few, small), (many, large) = trials[0], trials[-1]
    return min(max(log(large / small) / log(many / few), FLAT), STEEP)


def measuring(looked_at: Subject, recipe: Recipe, scores: Scores) -> Generator[Looked, None, Sensitivity]:
    """Prune each site alone and compare the outputs, at shares that depend on the site alone.

    Of the recipe count the calibration, the layers that may be pruned, and the steps in which they can.
    """
    calls = judging(looked_at.net, samples.calls(looked_at, samples.settled(looked_at, recipe.calibration)))
    whole = [Walked(looked_at.net, call) for call in calls]
    alone = replace(recipe, spread="layer", of="units", overrides=(), update=False, most=1.0, ratio=0.0)
    arch, weights = fingerprint(looked_at.net)
    shares = {site.name: tried(Room.of(site, alone, scores.catalog)) for site in free_sites(scores.catalog, alone)}
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in shares}
    of, done = sum(map(len, shares.values())), 0
    for name, share in ((name, share) for name, found in shares.items() for share in found):
        wanted = replace(alone, ratio=share)
        step = PlanStep(wanted, arch, weights, decide(replace(scores, catalog=scores.catalog.only(name)), wanted))
        less = carried_out(looked_at, step, masked=True)
        errors[name].append((share, apart([one.answer for one in whole], [one.again(less) for one in whole])))
        yield Looked(done := done + 1, of, f"pruning one layer at a time ({len(calls)} samples)")
    return Sensitivity(errors)


def tried(room: Room) -> list[float]:
    """The shares of a site's units that are tried: the steps nearest to ``TRIED``, at least one; none of one step."""
    steps = room.site.units // room.step
    able = {min(max(1, floor(share * steps + 0.5)), room.most) for share in TRIED} - {0}
    return [count * room.step / room.site.units for count in sorted(able)]


def judging(net: nn.Module, calls: list[Call]) -> list[Call]:
    """A few calls, evenly over the noise levels; of a large U-Net with latents of half the side, a quarter of the work.

    What is compared is layers with each other, so that the size of the picture matters little.
    """
    large = sum(p.numel() for p in net.parameters()) > LARGE
    count, ranked = min(FEW if large else LOOKS, len(calls)), sorted(calls, key=lambda call: call.level)
    chosen = [ranked[int((i + 0.5) * len(ranked) / count)] for i in range(count)]
    return [replace(call, inputs=smaller(call.inputs), target=None) for call in chosen] if large else chosen


def smaller(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The middle of a U-Net's latents, half as wide and high; other arguments, and other networks', as they are."""
    out = dict(inputs)
    if isinstance(found := out.get("sample"), Tensor) and found.ndim == 4 and min(found.shape[2:]) >= 32:
        height, width = found.shape[2:]
        out["sample"] = found[..., height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2]
    return out


class Walked:
    """A call that a network has answered, block by block: a copy that differs in a layer starts where it differs."""

    def __init__(self, net: nn.Module, call: Call) -> None:
        self.call, self.own = call, dict(net.named_parameters())
        self.seen: list[tuple[str, Any]] = []  # blocks in the order in which they ran, and what they handed on
        hooks = [net.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: self.seen.append((name, out))) for name in blocks(net)]
        try:
            self.answer = answered(net, call)
        finally:
            for hook in hooks:
                hook.remove()

    def again(self, net: nn.Module) -> Tensor:
        """The answer of a copy that differs in some tensors. Blocks that ran before these say again what they said."""
        with repeated(net, self.before([name for name, p in net.named_parameters() if p is not self.own[name]])):
            return answered(net, self.call)

    def before(self, tensors: Sequence[str]) -> dict[str, Any]:
        """What was handed on by the blocks that ran before all of those that some tensors are in."""
        names = [name for name, _ in self.seen]
        places = [next((i for i, name in enumerate(names) if tensor.startswith(f"{name}.")), 0) for tensor in tensors]
        return {name: out for name, out in self.seen[: min(places, default=0)] if names.count(name) == 1}


def blocks(net: nn.Module) -> list[str]:
    """The parts of a network that run one after another; of a list of parts, each."""
    return [f"{name}.{inner}" if inner else name for name, child in net.named_children()
            for inner in ([i for i, _ in child.named_children()] if isinstance(child, nn.ModuleList) else [""])]


@contextmanager
def repeated(net: nn.Module, said: Mapping[str, Any]) -> Iterator[None]:
    """Some parts of a network answer at once, with what they said before."""
    parts = [net.get_submodule(name) for name in said]
    for part, out in zip(parts, said.values(), strict=True):
        part.forward = lambda *_, out=out, **__: out  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def answered(net: nn.Module, call: Call) -> Tensor:
    """A network's answer, with nothing left to chance."""
    with resting(net):
        return samples.answer(net, call)


def apart(whole: Iterable[Tensor], less: Iterable[Tensor]) -> float:
    """The squared distance of some answers over the squared size of the first."""
    pairs = list(zip(whole, less, strict=True))
    far = sum(float((a - b).double().square().sum()) for a, b in pairs)
    return far / max(1e-30, sum(float(a.double().square().sum()) for a, _ in pairs))


def suggested(recipe: Recipe, scores: Scores, rises: Mapping[str, Rise]) -> dict[str, float]:
    """Layer -> ratio; layers that have a ratio of their own keep it, and those without a rise give nothing.

    Raises:
        Refused: the layers cannot give so much.
    """
    asked = Asked.of(scores.catalog, recipe)
    if asked.fixed and not asked.rooms:
        asked.check_own()
        return {}
    rooms = [room for room in asked.rooms if room.most]
    cheapest = Cheapest([room.site.units * room.worth for room in rooms], [room.amount for room in rooms],
                        [rises[room.site.name] for room in rooms])
    if crossing(recipe, scores.catalog):
        found = _counted(asked, scores, rooms, cheapest)
    else:
        asked.check([room.amount for room in rooms])
        found = [amount / (room.site.units * room.worth)
                 for room, amount in zip(rooms, cheapest.amounts(asked.amount), strict=True)]
    return {room.site.module: 0.0 for room in asked.rooms} | {
        room.site.module: ratio for room, ratio in zip(rooms, found, strict=True)}


def _counted(asked: Asked, scores: Scores, rooms: Sequence[Room], cheapest: "Cheapest") -> list[float]:
    """The shares in whole steps, where what they come to has to be counted."""
    own = {one.rooms[0].site.name: one.alone for one in asked.fixed if one.alone}

    def at(ratio: float) -> dict[str, int]:
        amounts = cheapest.amounts(ratio * sum(cheapest.most))
        steps = ((room.site.name, room.steps(amount)) for room, amount in zip(rooms, amounts, strict=True))
        return {**own, **{name: count for name, count in steps if count}}

    found = counted(scores, asked, at)
    return [found.get(room.site.name, 0) * room.step / room.site.units for room in rooms]


class Cheapest:
    """Amounts of several layers, of which the sum of their errors is least.

    Of a layer with ``whole`` at most ``most`` goes. Where an error rises as ``size * (amount / whole) ** exponent``,
    a little more costs ``price``, the same for all layers that are not full.
    """

    def __init__(self, whole: Sequence[float], most: Sequence[float], rises: Sequence[Rise]) -> None:
        self.whole, self.most = (torch.tensor(values, dtype=torch.float64) for values in (whole, most))
        size, exponent = torch.tensor([(rise.size, rise.exponent) for rise in rises], dtype=torch.float64).view(-1, 2).T
        self.steep = exponent - 1
        self.cost = (size * exponent).log() - self.whole.log()  # of a little more where all of a layer would go

    def at(self, price: float) -> Tensor:
        """The amounts at the logarithm of a price, (layers,)."""
        return torch.minimum(self.whole * ((price - self.cost) / self.steep).exp(), self.most)

    def amounts(self, amount: float) -> list[float]:
        """The amounts that come to ``amount``, which is not more than all."""
        if amount <= 0 or not len(self.most):
            return [0.0] * len(self.most)
        if amount >= float(self.most.sum()):
            return self.most.tolist()
        full = self.cost + self.steep * (self.most / self.whole).log()  # the prices at which layers are full
        low, high = float((self.cost - 40 * self.steep).min()), float(full.max())
        for _ in range(64):
            middle = (low + high) / 2
            low, high = (middle, high) if float(self.at(middle).sum()) < amount else (low, middle)
        return self.at(high).tolist()


@SPREADS.add("sensitivity")
@dataclass(frozen=True)
class BySensitivity(Spread):
    """Most goes of the layers with which the output changes least, tried one by one."""

    order: ClassVar = 4
    label: ClassVar = "By sensitivity"
    explained: ClassVar = "most from the layers with which the output changes least, tried one by one"
    sees: ClassVar = "inputs"
    alone: ClassVar = True
    nests: ClassVar = False

    def looks(self, recipe: Recipe) -> Recipe:
        """The part of a request that the errors of single layers depend on. The ratio is not in it: others follow."""
        return replace(recipe, ratio=0.0, of="units", overrides=(), most=1.0, update=False)

    def measuring(self, looked_at: Subject, recipe: Recipe, scores: Scores) -> Generator[Looked, None, Sensitivity]:
        """Prune one layer at a time."""
        return measuring(looked_at, recipe, scores)
