"""Write the tables of the README and of ``docs/`` from what the code and the measurements say.

python -m assets.make.tables

A table stands between two marks, ``<!-- name -->`` and ``<!-- /name -->``; what is written by hand stands outside.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pruning
from assets.make import evidence_table, rooms
from assets.make.bars import SQUARES
from assets.make.evidence_table import grid
from benchmarks.table import RESULTS, lines, shown
from pruning.criteria import METHODS
from pruning.models.sources import ASSETS
from pruning.registry import knobs

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKED = re.compile(r"<!-- ([a-z]+) -->\n.*?<!-- /\1 -->", re.S)


def summary() -> str:
    """Every method in a line."""
    return grid(["method", "what the score is", "source"],
                [[f"`{row.name}`", label(row.name), source(row.paper)] for row in pruning.methods()])


def methods() -> str:
    """Every method, with the units that it can score and its options."""
    rows = [[f"`{row.name}`", label(row.name), ", ".join(row.units),
             ", ".join(f"`{name}={value}`" for name, value in row.options.items()) or "none", source(row.paper)]
            for row in pruning.methods()]
    return grid(["method", "what the score is", "units", "options", "source"], rows)


def options() -> str:
    """Every option of every method, as its knob describes it."""
    rows = [[f"`{row.name}`", f"`{knob.name}`", str(knob.default), allowed(knob.metadata), knob.metadata["help"]]
            for row in pruning.methods() for knob in knobs(METHODS[row.name])]
    return grid(["method", "option", "default", "values", "what it does"], rows)


def allowed(metadata: Mapping[str, Any]) -> str:
    """The values of a knob."""
    if metadata["choices"]:
        return ", ".join(metadata["choices"])
    return "True, False" if metadata["low"] is None else f"{metadata['low']:g} to {metadata['high']:g}"


def label(name: str) -> str:
    """What a method's score is: the first line of its docstring."""
    return (METHODS[name].__doc__ or "").strip().splitlines()[0]


def verbs() -> str:
    """The public names in a line each: functions, then classes."""
    def listed(title: str, of_kind: Callable[[Any], bool]) -> str:
        return grid([title, "what it is"], [[f"`pruning.{name}`", (inspect.getdoc(thing) or "").splitlines()[0]]
                                            for name, thing in public.items() if of_kind(thing)])

    public = {name: getattr(pruning, name) for name in pruning.__all__}
    return f"{listed('function', inspect.isfunction)}\n\n{listed('class', inspect.isclass)}"


def source(paper: str) -> str:
    """A method's paper as a link: its number on arXiv, or the site that has it."""
    if paper.startswith("https://"):
        return f"[{urlsplit(paper).netloc}]({paper})"
    return f"[{paper}](https://arxiv.org/abs/{paper.removeprefix('arXiv:')})" if paper else "baseline"


def models() -> str:
    """The bundled models' measured quality."""
    sd, clip, ddpm = (json.loads((ASSETS / name / "bars.json").read_text())
                      for name in ("emoji-sd", "emoji-clip", "emoji-ddpm"))
    blurred = clip["blurred"]
    rows = [
        (f"`emoji-sd`: own glyph first among {sd['candidates']} on the asked colour, on {sd['prompts']} drawn pictures "
         f"(real glyphs {clip['glyph1']:.0%}, those of {SQUARES} x {SQUARES} squares {blurred['glyph1']:.0%})",
         f"{sd['glyph1']:.0%}", ""),
        (f"`emoji-sd`: own caption first among {sd['candidates']} of any colour (real glyphs {clip['top1']:.0%}, those "
         f"of {SQUARES} x {SQUARES} squares {blurred['top1']:.0%})", f"{sd['top1']:.0%}", f"{sd['floor']['top1']:.0%}"),
        ("`emoji-sd`: own caption among the first five", f"{sd['top5']:.0%}", ""),
        (f"`emoji-clip`: own caption first among {clip['candidates']}, on {clip['prompts']} real glyphs",
         f"{clip['top1']:.0%}", f"{clip['floor']['top1']:.0%}"),
        ("`emoji-sd`: background in the asked colour", f"{sd['colour']:.0%}", f"{sd['floor']['colour']:.0%}"),
        (f"autoencoder: mean PSNR at {sd['native_px']} px", f"{sd['psnr']:.1f} dB", f"{sd['floor']['psnr']:.0f} dB"),
        (f"`emoji-ddpm`: recognised as a glyph that it learnt, of {ddpm['samples']} drawn pictures "
         f"({ddpm['recognised_others']['real']:.0%} of real ones are, {ddpm['recognised_others']['blurred']:.0%} of "
         "blurred ones)", f"{ddpm['recognised']:.0%}", f"{ddpm['floor']['recognised']:.0%}"),
        (f"`emoji-ddpm`: of the {ddpm['learnt']} glyphs that it learnt, those that are recognised", str(ddpm["glyphs"]),
         str(ddpm["floor"]["glyphs"])),
        ("`emoji-ddpm`: pixels of the border that have the border's colour", f"{ddpm['plain']:.0%}",
         f"{ddpm['floor']['plain']:.0%}"),
        *(apart(name, ddpm[figure]) for figure, name in (("frechet", "Fréchet distance"), ("mmd", "MMD²"))),
    ]
    body = "\n".join(f"| {name} | {value} | {floor} |" for name, value, floor in rows).replace("%", " %")
    return "| measured | value | floor |\n| --- | --- | --- |\n" + body


def apart(name: str, of: Mapping[str, float]) -> tuple[str, str, str]:
    """A distance to real pictures, with what others have."""
    others = f"as many other real ones {of['real']:.2g}, blurred ones {of['blurred']:.2g}, noise {of['noise']:.2g}"
    return f"`emoji-ddpm`: {name} to real pictures by `emoji-clip`, a proxy ({others})", f"{of['samples']:.2g}", ""


def results(name: str) -> dict[str, Any]:
    """What a benchmark's last run wrote."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def benchmark(name: str) -> str:
    """One benchmark's last result, with the machine and the command."""
    if not (RESULTS / f"{name}.json").exists():
        return f"`python -m benchmarks.{name}` makes this table; it has not been run on a quiet machine yet."
    kept = results(name)
    return "\n".join([f"`{kept['command']}` on {kept['machine']}:", "", *lines(kept["rows"], kept.get("notes", ()))])


def headlines() -> str:
    """Six figures out of the tables in docs/, with a link to each."""
    return grid(["measured", "result", "more"], [
        sensitivity(), diff_pruning(), speedup("2:4", "Zeros in `emoji-sd`, 2:4"),
        speedup("stream channels 50 %", "Half of `emoji-sd`'s stream channels cut"), against_torch(), cutting()])


def row_of(name: str, **wanted: Any) -> dict[str, Any]:
    """The row of a benchmark in which some columns have these values."""
    return next(row for row in results(name)["rows"] if wanted.items() <= row.items())


def sensitivity() -> list[str]:
    """What ratios by sensitivity leave of magnitude's error."""
    alike, tried = (shown(row_of("criteria", method=name)["50 %"])
                    for name in ("magnitude", "magnitude, ratios by sensitivity"))
    return ["Half of `emoji-sd`'s weights removed: relative squared error of the output",
            f"{alike} by magnitude; {tried} with ratios by sensitivity",
            "[methods](docs/methods.md#what-each-method-costs)"]


def diff_pruning() -> list[str]:
    """Diff-Pruning's error beside random's."""
    found = json.loads(evidence_table.RESULTS.read_text(encoding="utf-8"))
    told = evidence_table.compared(found["cells"], 0.3, 0)
    return ["30 % of `emoji-ddpm`'s channels removed by Diff-Pruning: denoising error before fine-tuning", told[-1],
            "[evidence](docs/evidence.md)"]


def speedup(removed: str, words: str) -> list[str]:
    """The clock beside the MACs, for one step of emoji-sd at four images."""
    row = row_of("steps", model="emoji-sd", removed=removed, images=4)
    return [f"{words}: speed-up of a step on a CPU (MACs ratio {row['MACs ratio']:.3g})", row["speed-up"],
            "[speed](docs/speed.md#one-denoising-step)"]


def against_torch() -> list[str]:
    """Global magnitude pruning at the largest size at which torch has enough memory."""
    row = [row for row in results("scale")["rows"] if row["95 % interval"]][-1]
    return [f"Global magnitude pruning of {row['weights, M']:.0f} M weights, against `torch.nn.utils.prune`",
            f"{shown(row['torch / ours'])}× as fast ({row['95 % interval']})",
            "[speed](docs/speed.md#planning-and-pruning)"]


def cutting() -> list[str]:
    """Cutting channels at SD-1.5's size."""
    row = row_of("width", network="sd-1.5")
    return ["Channels cut from SD-1.5's U-Net, against Torch-Pruning cutting the same",
            f"{shown(row['Torch-Pruning / ours'])}× as fast ({row['95 % interval']})",
            "[speed](docs/speed.md#planning-and-pruning)"]


TABLES: dict[str, Callable[[], str]] = {
    "summary": summary, "methods": methods, "options": options, "verbs": verbs, "models": models,
    "headlines": headlines, "evidence": evidence_table.table, "house": rooms.table}


def made(name: str) -> str:
    """The table of that name: one of the code's, or a benchmark's.

    Raises:
        KeyError: there is no such table.
    """
    if name not in TABLES and find_spec(f"benchmarks.{name}") is None:
        raise KeyError(f"no table is called {name!r}")
    return TABLES[name]() if name in TABLES else benchmark(name)


def filled(text: str) -> str:
    """The text with every table between its marks made anew."""
    return MARKED.sub(lambda found: f"<!-- {found[1]} -->\n{made(found[1])}\n<!-- /{found[1]} -->", text)


def main() -> None:
    """Rewrite the README and docs/."""
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
