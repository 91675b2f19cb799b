"""What every benchmark does with its figures: a table on the screen, JSON beside it, and the machine on both."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from pruning.timing.machine import processor, threads

RESULTS = Path(__file__).with_name("results")


def machine() -> str:
    """Processor, threads and versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return f"{device}, {threads()}, torch {torch.__version__}, diffusers {version('diffusers')}"


def publish(name: str, command: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = (),
            cells: Sequence[Mapping[str, Any]] = ()) -> None:
    """Print the rows as a Markdown table and write them as JSON; ``notes`` stand below, sentence by sentence.

    ``cells`` are what was measured, where rows are made of it: see ``kept``.
    """
    print(f"\n{name} ({machine()})\n\n" + "\n".join(lines(rows, notes)))
    keep(name, command, rows, notes, cells)


def keep(name: str, command: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = (),
         cells: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write a benchmark's JSON."""
    RESULTS.mkdir(exist_ok=True)
    body = {"benchmark": name, "command": command, "machine": machine(), "rows": list(rows)}
    more = {key: list(value) for key, value in (("notes", notes), ("cells", cells)) if value}
    (RESULTS / f"{name}.json").write_text(json.dumps(body | more, indent=1) + "\n", encoding="utf-8")


def kept(name: str) -> list[dict[str, Any]]:
    """The cells of a benchmark's last run; none of a run on another machine."""
    file = RESULTS / f"{name}.json"
    body = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return body.get("cells", []) if body.get("machine") == machine() else []


def lines(rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> list[str]:
    """A Markdown table with what is to be said below it."""
    columns = list(rows[0])
    return ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns),
            *("| " + " | ".join(shown(row[column]) for column in columns) + " |" for row in rows),
            *(["", *(f"- {note}" for note in notes)] if notes else [])]


def shown(value: Any) -> str:
    """Three significant digits for what was measured, thousands written out; counts in full."""
    if not isinstance(value, float) or not isfinite(value):
        return str(value)
    rounded = float(f"{value:.3g}") + 0.0  # minus 0 becomes 0
    return f"{rounded:.0f}" if abs(rounded) >= 1000 else f"{rounded:.3g}"
