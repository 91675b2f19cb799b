"""One cell of the evidence: a method at a ratio with a seed, pruned, judged, fine-tuned, judged again."""

import copy
import random
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import pruning
from assets.make.yardstick import Yardstick
from pruning.scores import Scores
from pruning.subject import fingerprint
from pruning.types import Calibration, Plan, digest

METHODS = ("diff-pruning", "taylor", "magnitude", "random", "reversed", "fresh")
WAYS: dict[str, Any] = {"units": "channel", "spread": "layer", "protect": ("conv_out",), "rounding": "paper"}


@dataclass(frozen=True)
class Cell:
    """One method at one ratio with one seed."""

    method: str
    ratio: float
    seed: int


@dataclass(frozen=True)
class Settings:
    """What all cells share."""

    steps: int = 100  # of fine-tuning
    batch: int = 32
    rate: float = 2e-4
    samples: int = 64
    sampling: int = 20  # DDIM steps
    errors: int = 128
    seen: int = 64  # pictures that methods look at
    every: int = 20  # one in so many timesteps is listened to by Diff-Pruning
    taylor: int = 256  # timesteps that Taylor looks at, pictures in turn


class Work:
    """The dense model and what every cell needs of it. ``pictures`` is the folder that it is fine-tuned on."""

    def __init__(self, dense: Any, yardstick: Yardstick, pictures: Path, out: Path, settings: Settings) -> None:
        self.dense, self.yardstick, self.pictures, self.out = dense, yardstick, pictures, out
        self.settings = settings
        self.scored: dict[tuple[str, int], Scores] = {}

    def file(self, cell: Cell | None) -> Path:
        """Where a cell's result is kept, or the dense model's; other settings or weights have files of their own."""
        key = digest([asdict(cell) if cell else None, asdict(self.settings), fingerprint(self.dense.unet)[1]])
        name = f"{cell.method}-{cell.ratio}-{cell.seed}" if cell else "dense"
        return self.out / f"{name}-{key}.json"

    def looks(self, seed: int, samples: int) -> Calibration:
        """The pictures that methods see with a seed: some of those that the model learnt."""
        folder, known = self.out / f"seen-{seed}-{self.settings.seen}", sorted(self.pictures.glob("*.png"))
        folder.mkdir(parents=True, exist_ok=True)
        for file in random.Random(seed).sample(known, min(self.settings.seen, len(known))):
            shutil.copy2(file, folder)
        return Calibration(samples=samples, seed=seed, source=str(folder))

    def scores(self, method: str, seed: int) -> Scores:
        """The scores of Diff-Pruning or Taylor, which all ratios share."""
        if (method, seed) not in self.scored:
            samples = self.settings.seen if method == "diff-pruning" else self.settings.taylor
            self.scored[method, seed] = pruning.score(self.dense, method, units="channel", **self.options(method),
                                                      calibration=self.looks(seed, samples))
        return self.scored[method, seed]

    def options(self, method: str) -> dict[str, Any]:
        """A method's own options."""
        return {"diff-pruning": {"every": self.settings.every}, "taylor": {"cancel": True}}.get(method, {})

    def plan(self, cell: Cell) -> Plan:
        """What goes. Of a fresh model the shape alone counts, which all methods share."""
        method = {"reversed": "diff-pruning", "fresh": "magnitude"}.get(cell.method, cell.method)
        if not self.options(method):
            return pruning.plan(self.dense, method, cell.ratio, seed=cell.seed, **WAYS)
        scores = self.scores(method, cell.seed)
        return pruning.plan(self.dense, method, cell.ratio, calibration=scores.calibration, **self.options(method),
                            scores=upside_down(scores) if cell.method == "reversed" else scores, **WAYS)

    def done(self, cell: Cell) -> dict[str, Any]:
        """Prune, look, fine-tune, look again."""
        before, asked = time.perf_counter(), self.settings
        plan = self.plan(cell)
        pruned = pruning.apply(self.dense, plan)
        counted = pruning.report(self.dense, pruned, plan)
        if cell.method == "fresh":
            pruned = made_fresh(pruned, cell.seed)
        one_shot = self.yardstick.figures(pruned)
        tuned = pruning.recover(pruned, self.dense, steps=asked.steps, batch=asked.batch, rate=asked.rate, half=True,
                                seed=cell.seed, calibration=Calibration(samples=1024, source=str(self.pictures)))
        return {**asdict(cell), "params": counted.params["pruned"], "macs": counted.macs["pruned"],
                "published": counted.macs["published"]["pruned"], "arch": fingerprint(pruned.unet)[0],
                "one_shot": one_shot, "tuned": self.yardstick.figures(tuned),
                "seconds": round(time.perf_counter() - before, 1)}

    def of_dense(self) -> dict[str, Any]:
        """The dense model's own figures and counts."""
        plan = pruning.plan(self.dense, "magnitude", 0.0, **WAYS)
        counted = pruning.report(self.dense, self.dense, plan)
        return {"params": counted.params["dense"], "macs": counted.macs["dense"],
                "published": counted.macs["published"]["dense"], **self.yardstick.figures(self.dense)}


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
