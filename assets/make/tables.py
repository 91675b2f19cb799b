"""Write the README's tables from what the code and the measurements say.

python -m assets.make.tables
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pruning
from assets.make import evidence_table
from assets.make.bars import SQUARES
from benchmarks.table import RESULTS, lines
from pruning.criteria import METHODS
from pruning.models.sources import ASSETS

README = Path(__file__).resolve().parents[2] / "README.md"


def methods() -> str:
    """Every method of this version."""
    rows = ["| method | what the score is | units | options | source |", "| --- | --- | --- | --- | --- |"]
    for row in pruning.methods():
        label = (METHODS[row.name].__doc__ or "").strip().splitlines()[0]
        options = ", ".join(f"`{name}={value}`" for name, value in row.options.items()) or "none"
        rows.append(f"| `{row.name}` | {label} | {', '.join(row.units)} | {options} | {source(row.paper)} |")
    return "\n".join(rows)


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


def benchmark(name: str) -> str:
    """One benchmark's last result, with the machine and the command."""
    kept = json.loads((RESULTS / f"{name}.json").read_text())
    return "\n".join([f"`{kept['command']}` on {kept['machine']}:", "", *lines(kept["rows"], kept.get("notes", ()))])


def filled(text: str) -> str:
    """The text with every table between its marks made anew."""
    made = {"methods": methods, "models": models, "evidence": evidence_table.table,
            **{file.stem: (lambda name=file.stem: benchmark(name)) for file in RESULTS.glob("*.json")}}

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- {name} -->\n{made[name]()}\n<!-- /{name} -->"

    return re.sub(r"<!-- ([a-z]+) -->\n.*?<!-- /\1 -->", one, text, flags=re.S)


def main() -> None:
    """Rewrite the README."""
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
