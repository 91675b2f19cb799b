"""What ``assets.make.evidence`` found, as the docs show it: two tables, and sentences that follow from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from assets.make.cells import WAYS
from pruning.timing.intervals import FEWEST, differs, ratio, within

RESULTS = Path(__file__).resolve().parents[1] / "evidence" / "diff-pruning.json"
NAMES = {"diff-pruning": "Diff-Pruning", "ddpm_exp": "Diff-Pruning, variant `ddpm_exp`",
         "every-1": "Diff-Pruning, all timesteps (`every=1`)", "no-gate": "Diff-Pruning, no gate (`threshold=0`)",
         "taylor": "Taylor", "magnitude": "magnitude", "random": "random",
         "magnitude-params": "magnitude, all layers, equal params",
         "magnitude-macs": "magnitude, all layers, equal MACs",
         "reversed": "Diff-Pruning reversed", "fresh": "same shape, new weights"}
OURS, RIVALS = "diff-pruning", ("taylor", "magnitude", "random")
FIGURES = (("error", "error, × dense"), ("error_0", "t < 100"), ("error_100", "100 to 400"), ("error_400", "from 400"),
           ("recognised", "recognised"), ("same", "same glyph as dense"), ("ssim", "SSIM to dense"),
           ("frechet", "Fréchet to real"))
Cells = Sequence[Mapping[str, Any]]


def table(results: Mapping[str, Any] | None = None) -> str:
    """The whole block."""
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if results is None else results
    dense, cells = found["dense"], found["cells"]
    first = ["–", "dense", "–", *counts(dense), *(shown([scaled(dense, name, dense)], name) for name, _ in FIGURES)]
    blocks = [f"`{found['command']}` on {found['machine']}:",
              grid(["removed", "method", "seeds", "params", "MACs", *(title for _, title in FIGURES)],
                   [first, *rows(cells, dense, 0)])]
    if tuned := [steps for steps in stages(cells) if steps]:
        blocks += ["Fine-tuned on the pictures that the dense model learnt:",
                   grid(["removed", "method", "seeds", "steps", *(title for _, title in FIGURES)],
                        sorted((row for steps in tuned for row in rows(cells, dense, steps)), key=lambda row: row[0]))]
    return "\n\n".join([*blocks, sentences(found)])


def grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Rows under a head."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))


def stages(cells: Cells) -> list[int]:
    """After how many steps of fine-tuning models were looked at."""
    return sorted({look["steps"] for cell in cells for look in cell["looks"]})


def rows(cells: Cells, dense: Mapping[str, Any], steps: int) -> list[list[str]]:
    """One row for each ratio and method that was looked at after so many steps."""
    out = []
    for share in dict.fromkeys(cell["ratio"] for cell in cells):
        for method in NAMES:
            if taken := looks(cells, method, share, steps):
                own = next(cell for cell in cells if (cell["method"], cell["ratio"]) == (method, share))
                size = [str(steps)] if steps else counts(own)
                out.append([percent(share), NAMES[method], str(len(taken)), *size, *(
                    shown([scaled(look, name, dense) for look in taken.values()], name) for name, _ in FIGURES)])
    return out


def looks(cells: Cells, method: str, share: float, steps: int) -> dict[int, Mapping[str, Any]]:
    """What was seen of a method at a ratio after so many steps, by seed."""
    return {cell["seed"]: look for cell in sorted(cells, key=lambda cell: cell["seed"]) for look in cell["looks"]
            if (cell["method"], cell["ratio"], look["steps"]) == (method, share, steps)}


def scaled(look: Mapping[str, Any], name: str, dense: Mapping[str, Any]) -> float:
    """A figure; an error as a multiple of the dense model's at the same timesteps."""
    return look[name] / dense[name] if name.startswith("error") else look[name]


def counts(of: Mapping[str, Any]) -> list[str]:
    """Params and MACs."""
    return [f"{of['params'] / 1e6:.3f} M", f"{of['macs'] / 1e9:.3f} G"]


def shown(values: Sequence[float], name: str) -> str:
    """The mean, with the standard deviation where there are several values; shares in percent."""
    if name in ("recognised", "same"):
        spread = f" ± {100 * stdev(values):.0f}" if len(values) > 1 and stdev(values) else ""
        return f"{100 * mean(values):.0f}{spread} %"
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 and stdev(values) else ""
    return f"{mean(values):.3g}{spread}"


def percent(share: float) -> str:
    """A ratio in words."""
    return f"{share * 100:.3g} %"


def sentences(found: Mapping[str, Any]) -> str:
    """What is in the tables, and what of it chance does not explain."""
    asked, cells, floor = found["settings"], found["cells"], found["dense"]["floor"]
    lines = [
        "Means over seeds, ± the standard deviation. Rows of one ratio have the same sizes, except those that rank "
        "all layers together. The error is that of the noise found in real glyphs, placed where the model did not "
        f"learn them ({found['dense']['error']:.3g} of the dense model); most of it is at few timesteps, so it is "
        f"given by bins of timesteps, too. {asked['samples']} samples begin with the same noise in every model. A "
        "sample is recognised when "
        "its outlines fit a glyph that the model learnt; same glyph is the share of the dense model's recognised "
        f"samples that are still recognised as the same. The Fréchet distance is taken with `{found['proxy']}`, a "
        f"proxy; as many other real pictures have {floor['frechet']:.3g}, and {100 * floor['recognised']:.0f} % of "
        f"them are recognised. Diff-Pruning is shown {asked['seen']} pictures, Taylor {asked['taylor']} timesteps. "
        f"Below, seeds are compared in pairs; fewer than {FEWEST} cannot tell.", ""]
    for steps in stages(cells):
        for share in dict.fromkeys(cell["ratio"] for cell in cells):
            if told := compared(cells, share, steps):
                when = f"fine-tuned for {steps} steps" if steps else "one-shot"
                lines.append(f"- {percent(share)}, {when}: Diff-Pruning's error is {', '.join(told)}.")
    return "\n".join(lines)


def compared(cells: Cells, share: float, steps: int) -> list[str]:
    """Diff-Pruning's error against each rival's."""
    told, ours = [], looks(cells, OURS, share, steps)
    for rival in RIVALS:
        theirs = looks(cells, rival, share, steps)
        if theirs and not steps and not WAYS[rival].seeded:  # what goes is the same with every seed
            theirs = dict.fromkeys(ours, next(iter(theirs.values())))
        if both := sorted(ours.keys() & theirs.keys()):
            told.append(against([theirs[seed]["error"] for seed in both], [ours[seed]["error"] for seed in both],
                                NAMES[rival]))
    return told


def against(theirs: Sequence[float], ours: Sequence[float], rival: str) -> str:
    """How many times smaller our errors are, where chance does not explain it."""
    found = ratio(theirs, ours)
    if found is None:
        return f"{mean(ours) / mean(theirs):.2f} of {rival}'s ({len(ours)} seeds, too few to tell)"
    value, low, high = (1 / one for one in (found[0], found[2], found[1]))
    if differs(found):
        return f"{value:.2f} of {rival}'s ({low:.2f} to {high:.2f})"
    return f"level with {rival}'s (within {within(found)} %)"
