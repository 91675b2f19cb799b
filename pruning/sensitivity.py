"""How much a component's answer misses each layer, and the ratios that follow from it."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from pruning import samples
from pruning.call import Call
from pruning.observe import resting
from pruning.scores import Scores
from pruning.spread import Asked, Room, decide, free_sites
from pruning.subject import Subject, fingerprint
from pruning.surgery import carried_out
from pruning.types import PlanStep, Recipe
from pruning.work import Looked

LOOKS, FEW = 4, 2  # calls of the calibration that every layer is judged by; and by which, of a large network
LARGE = 200_000_000  # parameters of a network that is judged by few calls, a U-Net on latents of half the side


@dataclass(frozen=True)
class Missed:
    """How much the answer misses each layer: site -> its relative squared error when that layer alone is pruned."""

    ratio: float  # at which each was pruned
    errors: Mapping[str, float]

    def divided(self, recipe: Recipe, scores: Scores) -> Recipe:
        """The recipe with a ratio of its own for each layer, of the same amount in all.

        The smallest x of a layer's weights, with their density nearly even around zero, have a squared sum that grows
        with x cubed. With e the error at the ratio that was tried, the sum of e (x / ratio)^3 at a given amount is
        least where x goes with the root of size / e, a layer's size being all that it could give to the amount. So
        other ratios of the same layers follow without another look.
        """
        ratios = suggested(recipe, scores, self.errors)
        return replace(recipe, spread="layer", overrides=tuple(sorted({**dict(recipe.overrides), **ratios}.items())))


def measuring(looked_at: Subject, recipe: Recipe, scores: Scores) -> Generator[Looked, None, Missed]:
    """Prune each site alone at the recipe's ratio and compare the answers.

    Where that is less than one of a site's units, one goes, and the error is taken to have grown with the cube.
    """
    calls = judging(looked_at.net, samples.calls(looked_at, samples.settled(looked_at, recipe.calibration)))
    whole = [Walked(looked_at.net, call) for call in calls]
    alone = replace(recipe, spread="layer", of="units", overrides=(), update=False)
    arch, weights = fingerprint(looked_at.net)
    sites, errors = free_sites(scores.catalog, recipe), dict[str, float]()
    for site in sites:
        errors[site.name], room = 0.0, Room.of(site, alone, scores.catalog)
        if room.most:
            ratio = recipe.ratio if room.steps(site.units * recipe.ratio) else room.step / site.units
            step = PlanStep(alone, arch, weights, decide(
                replace(scores, catalog=scores.catalog.only(site.name)), replace(alone, ratio=ratio, most=1.0)))
            less = carried_out(looked_at, step, masked=True)
            changed = apart([one.answer for one in whole], [one.again(less) for one in whole])
            errors[site.name] = changed * (recipe.ratio / ratio) ** 3
        yield Looked(len(errors), len(sites), f"pruning one layer at a time ({len(calls)} samples)")
    return Missed(recipe.ratio, errors)


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


def suggested(recipe: Recipe, scores: Scores, errors: Mapping[str, float]) -> dict[str, float]:
    """Layer -> ratio; layers that have a ratio of their own keep it."""
    asked = Asked.of(scores.catalog, recipe)
    least = max(errors.values()) * 1e-6 or 1.0
    whole = [((room.site.units * room.worth) ** 3 / max(least, errors[room.site.name])) ** 0.5 for room in asked.rooms]
    amounts = asked.filled(whole, [float(room.amount) for room in asked.rooms])
    return {room.site.module: amount / (room.site.units * room.worth)
            for room, amount in zip(asked.rooms, amounts, strict=True)}
