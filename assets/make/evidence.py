"""Whether Diff-Pruning does what its paper says: on ``emoji-ddpm``, with its baselines, before and after fine-tuning.

    python -m assets.make.evidence --out build/evidence  # one-shot, then fine-tuned

Every cell is a method at a ratio with a seed; what came of it is a file of its own, so that a run that was stopped goes
on, and the results have what is done. All methods keep exactly the same sizes, by the paper's rule, but for the two
that rank all layers together until as many parameters, or as many MACs, are gone. A seed changes which pictures are
looked at, what random draws, and the fine-tuning; the noise that samples begin with is always the same.

``every-1`` listens to all timesteps, as the paper does; the default takes one in 20. ``no-gate`` lets every timestep
count. ``ddpm_exp`` adds up a channel as the authors' other code does. ``reversed`` keeps what Diff-Pruning scores
lowest. ``fresh`` has the same shape, new weights and the same training. ``taylor`` is the paper's baseline: evenly over
all timesteps, and effects within a layer's slice may cancel.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pruning
from assets.make import emoji_clip, emoji_ddpm
from assets.make.cells import METHODS, WAYS, Cell, Settings, Work
from assets.make.ddpm_bars import Real
from assets.make.features import KERNEL, PROXY, Eyes
from assets.make.folders import read_vocabulary
from assets.make.training import write_json
from assets.make.yardstick import Yardstick, kept
from benchmarks.table import machine
from pruning.types import Shot

RESULTS = Path("assets/evidence/diff-pruning.json")
CELLS = ("methods", "ratios", "seeds", "random", "few", "tuned", "at", "steps", "long")  # options that say which cells
TUNED = ("diff-pruning", "magnitude", "random")


def run(work: Work, cells: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """The dense model's result, then that of every cell: read where it is known, else made and kept.

    Raises:
        ValueError: methods that have to keep the same sizes did not.
    """
    sizes: dict[float, str] = {}
    for cell in (None, *cells):
        file = work.file(cell)
        if not file.exists():
            found = work.done(cell) if cell else work.of_dense()
            part = file.with_suffix(".part")
            write_json(part, found)
            part.replace(file)
        found = json.loads(file.read_text())
        alike = cell and not WAYS[cell.method].meets
        if cell and alike and sizes.setdefault(cell.ratio, found["arch"]) != found["arch"]:
            raise ValueError(f"{cell} does not have the sizes of the other methods")
        yield found


def estimate(work: Work, cells: Sequence[Cell]) -> float:
    """About how many seconds the open cells take. A call with gradients is taken to be as long as three without."""
    asked, opened = work.settings, [cell for cell in cells if not work.file(cell).exists()]
    look = asked.samples * asked.sampling + asked.errors
    calls = sum((look * max(1, cell.steps // asked.between) + 3 * cell.steps * asked.batch) * (1 - cell.ratio) ** 1.5
                for cell in opened)
    for method, _ in {(cell.method, cell.seed) for cell in opened if WAYS[cell.method].shown}:
        way = WAYS[method]
        samples = getattr(asked, way.shown)
        calls += samples * 1000 / way.options["every"] * (3 if "threshold" in way.options else 1.2) if (
            "every" in way.options) else 3 * samples
    return work.yardstick.pace() * calls


def planned(options: argparse.Namespace) -> list[Cell]:
    """The cells of a run, seed by seed: first what is one-shot, then what is fine-tuned."""
    seeds = {method: options.seeds if WAYS[method].seeded else 1 for method in options.methods}
    seeds |= {method: many for method, many in (("random", options.random), ("every-1", options.few),
                                                ("fresh", options.few)) if method in seeds}
    cells = [Cell(method, ratio, seed) for seed in range(max(seeds.values())) for ratio in options.ratios
             for method in options.methods if seed < seeds[method]]
    return cells + [Cell(method, ratio, seed, options.long if seed < options.few else options.steps)
                    for seed in range(options.seeds if options.steps else 0)
                    for ratio in options.at for method in options.tuned]


def prepared(model: Path, clip: Path, out: Path, settings: Settings) -> Work:
    """The dense model with its yardstick: real glyphs in places where it did not learn them."""
    dense = pruning.load(model.name if model == emoji_ddpm.FOLDER else model)
    real = Real(read_vocabulary(model))
    compared, others = real.unseen
    order = random.Random(0).sample(range(len(others)), len(others))
    yardstick = Yardstick(dense, kept(others[order], out / "held"), settings.errors, compared, others[order], real,
                          Eyes(clip, str(dense.unet.device)), Shot(steps=settings.sampling), settings.samples,
                          bool(settings.half))
    return Work(dense, yardstick, model / "calibration", out, settings)


def command(settings: Settings, **cells: Any) -> str:
    """The command that asks for these settings, and for ``cells`` that are not the usual ones."""
    changed = {field.name: value for field in fields(Settings)
               if (value := getattr(settings, field.name)) != field.default} | cells
    told = (f"--{name} {' '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
            for name, value in changed.items())
    return " ".join(["python -m assets.make.evidence", *told])


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in fields(Settings):
        parse.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    parse.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parse.add_argument("--ratios", nargs="+", type=float, default=(0.3, 0.5))
    parse.add_argument("--seeds", type=int, default=8, help="how many, one-shot")
    parse.add_argument("--random", type=int, default=12, help="how many of random")
    parse.add_argument("--few", type=int, default=2, help="how many of what takes long: every-1, fresh, --long")
    parse.add_argument("--tuned", nargs="+", choices=METHODS, default=TUNED, help="what is fine-tuned")
    parse.add_argument("--at", nargs="+", type=float, default=(0.3, 0.5), help="ratios at which it is fine-tuned")
    parse.add_argument("--steps", type=int, default=100, help="of fine-tuning; 0 for none")
    parse.add_argument("--long", type=int, default=600, help="of the few that are fine-tuned for longer")
    parse.add_argument("--model", type=Path, default=emoji_ddpm.FOLDER)
    parse.add_argument("--clip", type=Path, default=emoji_clip.FOLDER)
    parse.add_argument("--out", type=Path, default=Path("build/evidence"), help="where cells are kept")
    parse.add_argument("--results", type=Path, default=RESULTS, help="the file that the table in docs/ is made of")
    options = parse.parse_args()
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    cells = planned(options)
    asked = {name: value for name in CELLS if (value := getattr(options, name)) != parse.get_default(name)}
    work = prepared(options.model, options.clip, options.out, settings)
    print(f"{len(cells)} cells, about {estimate(work, cells) / 60:.0f} minutes", flush=True)
    rows = list[dict[str, Any]]()
    try:
        for row in run(work, cells):
            rows.append(row)
            print(json.dumps(row), flush=True)
    finally:
        if len(rows) > 1:
            options.results.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.results, {
                "command": command(settings, **asked), "machine": machine(), "settings": asdict(settings),
                "proxy": PROXY, "kernel": KERNEL, "dense": rows[0], "cells": rows[1:]})


if __name__ == "__main__":
    main()
