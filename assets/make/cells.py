"""One cell of the evidence: a method at a ratio with a seed, pruned, judged, fine-tuned, judged again."""

import copy
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import pruning
from assets.make.yardstick import Yardstick
from pruning.network.fingerprint import fingerprint
from pruning.progress import drained
from pruning.recovery import Training, recovering
from pruning.scores.scores import Scores
from pruning.types import Calibration, Plan, digest

ALIKE: Mapping[str, Any] = {"units": "channel", "spread": "layer", "protect": ("conv_out",), "rounding": "paper"}


@dataclass(frozen=True)
class Way:
    """How a row of the evidence is pruned: by which method, what that is shown, and how its ratio is spread."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shown: str = ""  # the setting that says how many samples it is shown; empty for one that sees weights alone
    meets: str = ""  # "params" or "macs": all layers ranked together, as large as the others are by this count
    seeded: bool = True  # whether a seed changes what goes


WAYS: Mapping[str, Way] = {
    "diff-pruning": Way("diff-pruning", {"every": 20}, "seen"),
    "ddpm_exp": Way("diff-pruning", {"every": 20, "variant": "ddpm_exp"}, "seen"),
    "every-1": Way("diff-pruning", {"every": 1}, "seen"),
    "no-gate": Way("diff-pruning", {"every": 20, "threshold": 0.0}, "seen"),
    "taylor": Way("taylor", {"cancel": True}, "taylor"),
    "magnitude": Way("magnitude", seeded=False),
    "random": Way("random"),
    "magnitude-params": Way("magnitude", meets="params", seeded=False),
    "magnitude-macs": Way("magnitude", meets="macs", seeded=False),
    "reversed": Way("diff-pruning", {"every": 20}, "seen"),
    "fresh": Way("magnitude", seeded=False),
}
METHODS = tuple(WAYS)


@dataclass(frozen=True)
class Cell:
    """One method at one ratio with one seed, fine-tuned for so many steps; 0 is one-shot."""

    method: str
    ratio: float
    seed: int
    steps: int = 0


@dataclass(frozen=True)
class Settings:
    """What all cells share."""

    batch: int = 32
    rate: float = 2e-4
    between: int = 100  # steps of fine-tuning from one look to the next
    samples: int = 64
    sampling: int = 20  # DDIM steps
    errors: int = 240
    seen: int = 64  # pictures that Diff-Pruning looks at
    taylor: int = 256  # timesteps that Taylor looks at, pictures in turn
    half: int = 0  # 1: matrices are multiplied in bfloat16, which is quick on some processors and slow on others


class Work:
    """The dense model and what every cell needs of it. ``pictures`` is the folder that it is fine-tuned on."""

    def __init__(self, dense: Any, yardstick: Yardstick, pictures: Path, out: Path, settings: Settings) -> None:
        self.dense, self.yardstick, self.pictures, self.out = dense, yardstick, pictures, out
        self.settings = settings
        self.scored: dict[tuple[str, int], Scores] = {}

    def file(self, cell: Cell | None) -> Path:
        """Where a cell's result is kept, or the dense model's; other settings or weights have files of their own."""
        key = digest([asdict(cell) if cell else None, asdict(self.settings), fingerprint(self.dense.unet)[1]])
        name = f"{cell.method}-{cell.ratio}-{cell.seed}-{cell.steps}" if cell else "dense"
        return self.out / f"{name}-{key}.json"

    def looks(self, seed: int, samples: int) -> Calibration:
        """The pictures that methods see with a seed: some of those that the model learnt."""
        folder, known = self.out / f"seen-{seed}-{self.settings.seen}", sorted(self.pictures.glob("*.png"))
        folder.mkdir(parents=True, exist_ok=True)
        for file in random.Random(seed).sample(known, min(self.settings.seen, len(known))):
            shutil.copy2(file, folder)
        return Calibration(samples=samples, seed=seed, source=str(folder))

    def scores(self, method: str, seed: int) -> Scores:
        """The scores of a method that looks at data, which all ratios share."""
        way = WAYS[method]
        name = "diff-pruning" if method == "reversed" else method
        if (name, seed) not in self.scored:
            self.scored = {key: scores for key, scores in self.scored.items() if key[1] == seed}  # seed after seed
            self.scored[name, seed] = pruning.score(
                self.dense, way.method, units="channel", **way.options,
                calibration=self.looks(seed, getattr(self.settings, way.shown)))
        return self.scored[name, seed]

    def plan(self, cell: Cell) -> Plan:
        """What goes. Of a fresh model the shape alone counts, which all methods share."""
        way = WAYS[cell.method]
        if way.meets:
            return self._as_large(cell, way)
        if not way.shown:
            return pruning.plan(self.dense, way.method, cell.ratio, seed=cell.seed, **ALIKE)
        scores = self.scores(cell.method, cell.seed)
        return pruning.plan(self.dense, way.method, cell.ratio, calibration=scores.calibration, **way.options,
                            scores=upside_down(scores) if cell.method == "reversed" else scores, **ALIKE)

    def _as_large(self, cell: Cell, way: Way) -> Plan:
        """All layers ranked together, until as many parameters or MACs are gone as with equal shares."""
        alike = self.plan(replace(cell, method="magnitude"))
        counted = pruning.report(self.dense, pruning.apply(self.dense, alike), alike).to_dict()[way.meets]
        return pruning.plan(self.dense, way.method, 1 - counted["pruned"] / counted["dense"], of=way.meets,
                            **{**ALIKE, "spread": "global", "rounding": "nearest"})

    def done(self, cell: Cell) -> dict[str, Any]:
        """Prune, look; where steps are asked for, fine-tune and look again every so many of them."""
        before = time.perf_counter()
        plan = self.plan(cell)
        pruned = pruning.apply(self.dense, plan)
        counted = pruning.report(self.dense, pruned, plan)
        if cell.method == "fresh":
            pruned = made_fresh(pruned, cell.seed)
        looks = [{"steps": 0, **self.yardstick.figures(pruned)}] if not cell.steps else self._curve(pruned, cell)
        return {**asdict(cell), "params": counted.params["pruned"], "macs": counted.macs["pruned"],
                "published": counted.macs["published"]["pruned"], "arch": fingerprint(pruned.unet)[0],
                "looks": looks, "seconds": round(time.perf_counter() - before, 1)}

    def _curve(self, pruned: Any, cell: Cell) -> list[dict[str, Any]]:
        asked, state, looks = self.settings, Training(), list[dict[str, Any]]()
        for steps in range(asked.between, cell.steps + 1, asked.between):
            options = pruning.Recovery(steps=steps, batch=asked.batch, rate=asked.rate, half=bool(asked.half),
                                       seed=cell.seed, calibration=Calibration(samples=1024, source=str(self.pictures)))
            tuned = drained(recovering(pruned, self.dense, options, state=state))
            looks.append({"steps": steps, **self.yardstick.figures(tuned)})
        return looks

    def of_dense(self) -> dict[str, Any]:
        """The dense model's own figures and counts, and what real pictures reach."""
        plan = pruning.plan(self.dense, "magnitude", 0.0, **ALIKE)
        counted = pruning.report(self.dense, self.dense, plan)
        return {"params": counted.params["dense"], "macs": counted.macs["dense"],
                "published": counted.macs["published"]["dense"], **self.yardstick.figures(self.dense),
                "floor": self.yardstick.floor()}


def upside_down(scores: Scores) -> Scores:
    """The same scores with the lowest on top."""
    return replace(scores, values={name: value.max() - value for name, value in scores.values.items()}, _known={})


def made_fresh(pipe: Any, seed: int) -> Any:
    """The pipeline with weights as before any training. It gets a network of its own; what it was made of stays."""
    pipe.unet = copy.deepcopy(pipe.unet)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in pipe.unet.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return pipe
