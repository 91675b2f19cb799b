"""What ``assets.make.evidence`` found, as the README shows it: a table, and sentences that follow from the numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "evidence" / "diff-pruning.json"
NAMES = {"diff-pruning": "Diff-Pruning", "taylor": "Taylor", "magnitude": "magnitude", "random": "random",
         "reversed": "Diff-Pruning reversed", "fresh": "same shape, new weights"}
OURS, BASELINES = "diff-pruning", ("taylor", "magnitude", "random")
COLUMNS = (("one_shot", "error", "error, × dense"), ("tuned", "error", "tuned: error, × dense"),
           ("tuned", "ssim", "SSIM to dense"), ("tuned", "mse", "MSE to dense"), ("tuned", "mmd", "MMD² to real"),
           ("tuned", "frechet", "Fréchet to real"))
COMPARED = (("one_shot", "error", "in the error before fine-tuning"), ("tuned", "error", "in the error after it"),
            ("tuned", "ssim", "in SSIM to the dense model's samples"))
Cells = Sequence[Mapping[str, Any]]


def table(results: Mapping[str, Any] | None = None) -> str:
    """The whole block."""
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if results is None else results
    columns = ["removed", "method", "params", "MACs", "MACs as published", *(title for *_, title in COLUMNS)]
    dense = found["dense"]
    rows = [["–", "dense", *counts(dense), "1", "–", *(shown([dense[figure]]) for _, figure, _ in COLUMNS[2:])]]
    for ratio in dict.fromkeys(cell["ratio"] for cell in found["cells"]):
        for method in NAMES:
            if cells := picked(found["cells"], method, ratio):
                rows.append([percent(ratio), NAMES[method], *counts(cells[0]), *figures(cells, dense)])
    lines = [f"`{found['command']}` on {found['machine']}:", "", "| " + " | ".join(columns) + " |",
             "|" + " --- |" * len(columns), *("| " + " | ".join(row) + " |" for row in rows), "", sentences(found)]
    return "\n".join(lines)


def picked(cells: Cells, method: str, ratio: float) -> Cells:
    """The cells of a method at a ratio, by seed."""
    some = [cell for cell in cells if (cell["method"], cell["ratio"]) == (method, ratio)]
    return sorted(some, key=lambda cell: cell["seed"])


def counts(of: Mapping[str, Any]) -> list[str]:
    """Params and both kinds of MACs."""
    return [f"{of['params'] / 1e6:.3f} M", f"{of['macs'] / 1e9:.3f} G", f"{of['published'] / 1e9:.3f} G"]


def figures(cells: Cells, dense: Mapping[str, float]) -> list[str]:
    """Every column, over seeds; errors as multiples of the dense model's."""
    return [shown([cell[when][figure] / (dense["error"] if figure == "error" else 1) for cell in cells])
            for when, figure, _ in COLUMNS]


def shown(values: Sequence[float]) -> str:
    """The mean, with the standard deviation where there are several values."""
    spread = f" ± {stdev(values):.1g}" if len(values) > 1 and stdev(values) else ""
    return f"{mean(values):.3g}{spread}"


def percent(ratio: float) -> str:
    """A ratio in words."""
    return f"{ratio * 100:.3g} %"


def sentences(found: Mapping[str, Any]) -> str:
    """What is in the table, what is ahead of what, and two tests that a method without any sense would fail."""
    asked, cells = found["settings"], found["cells"]
    seeds = len({cell["seed"] for cell in cells})
    lines = [f"Means over {seeds} seeds, ± the standard deviation. All methods keep the same sizes. The error is that "
             "of the noise found in real glyphs, placed where the model did not learn them "
             f"({found['dense']['error']:.3g} of the dense model). {asked['samples']} samples begin with the same "
             f"noise in every model. Tuned is fine-tuned, {asked['steps']} steps at batch {asked['batch']}, and so are "
             f"the columns to its right. MMD² and Fréchet distance are taken with `{found['proxy']}`, a proxy. "
             f"Diff-Pruning is shown {asked['seen']} pictures, each at one in {asked['every']} timesteps; Taylor "
             f"{asked['taylor']}, each at one timestep. Below, to beat is to be better with every seed.", ""]
    for ratio in dict.fromkeys(cell["ratio"] for cell in cells):
        told = [*orders(cells, ratio), *sanity(cells, found["dense"], ratio)]
        lines.append(f"- At {percent(ratio)}, {'; '.join(told)}.")
    return "\n".join(lines)


def orders(cells: Cells, ratio: float) -> list[str]:
    """Of each figure, which baselines Diff-Pruning is ahead of in every seed, which it is behind, and the others."""
    return [f"{words}, Diff-Pruning {against(cells, ratio, when, figure)}" for when, figure, words in COMPARED]


def against(cells: Cells, ratio: float, when: str, figure: str) -> str:
    """Diff-Pruning against each baseline in one figure, seed by seed."""
    ours = picked(cells, OURS, ratio)
    groups: dict[str, list[str]] = {"beats": [], "loses to": [], "is level with": []}
    for rival in BASELINES:
        pairs = list(zip(ours, picked(cells, rival, ratio), strict=True))
        gains = [(theirs[when][figure] - mine[when][figure]) * (-1 if figure == "ssim" else 1)
                 for mine, theirs in pairs]
        verb = "beats" if min(gains) > 0 else "loses to" if max(gains) < 0 else "is level with"
        groups[verb].append(NAMES[rival])
    return ", ".join(f"{verb} {listed(names)}" for verb, names in groups.items() if names)


def listed(names: Sequence[str]) -> str:
    """Names as one says them."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def sanity(cells: Cells, dense: Mapping[str, float], ratio: float) -> list[str]:
    """What the ranking upside down does, and what training alone does."""
    def error(method: str, when: str) -> float:
        return mean(cell[when]["error"] for cell in picked(cells, method, ratio)) / dense["error"]

    told = []
    if picked(cells, "reversed", ratio):
        times = error("reversed", "one_shot") / error(OURS, "one_shot")
        told.append(f"upside down, its ranking has {times:.2g} times its error before fine-tuning")
    if picked(cells, "fresh", ratio):
        told.append(f"the same shape with new weights and the same training ends at {error('fresh', 'tuned'):.3g} "
                    f"times the dense error, Diff-Pruning at {error(OURS, 'tuned'):.3g}")
    return told
