"""The folders of the project as a table: what each room is, and which floor it stands on.

A room is a folder or a file directly in ``pruning`` or ``ui``. Its floor is one more than the highest of those that it
imports, so that a room imports from lower floors alone.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from assets.make.evidence_table import grid

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pruning", "ui")


def table() -> str:
    """Both packages, from the ground up."""
    return "\n\n".join(grid([f"`{package}/`", "floor", "what is there"], rows(package)) for package in PACKAGES)


def rows(package: str) -> list[list[str]]:
    """A package's rooms, the lowest first."""
    found = sorted(floors(package).items(), key=lambda item: (item[1], item[0]))
    return [[f"`{shown.name}{'/' if shown.is_dir() else ''}`", str(floor), first_line(shown)]
            for name, floor in found for shown in [place(package, name)]]


def place(package: str, room: str) -> Path:
    """The folder or the file of a room."""
    folder = ROOT / package / room
    return folder if folder.is_dir() else folder.with_suffix(".py")


def first_line(path: Path) -> str:
    """The first line of a room's docstring, to its end where it is broken."""
    file = path / "__init__.py" if path.is_dir() else path
    lines = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")
    end = next((number for number, line in enumerate(lines, 1) if line.endswith(".")), 1)
    return " ".join(lines[:end])


def floors(package: str) -> dict[str, int]:
    """On which floor each room stands.

    Raises:
        graphlib.CycleError: rooms import one another in a circle.
    """
    graph, found = imports(package), dict[str, int]()
    for room in TopologicalSorter(graph).static_order():
        found[room] = 1 + max((found[other] for other in graph[room]), default=0)
    return found


@cache
def imports(package: str) -> dict[str, set[str]]:
    """For each room of a package, the rooms that it imports from."""
    graph: dict[str, set[str]] = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        if (room := file.relative_to(ROOT / package).with_suffix("").parts[0]) != "__init__":
            graph.setdefault(room, set()).update(imported(file, package))
    return {room: others & graph.keys() - {room} for room, others in graph.items()}


def imported(file: Path, package: str) -> Iterator[str]:
    """The rooms of a package that a file names in its imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        yield from (name.split(".")[1] for name in names if name.startswith(f"{package}."))
