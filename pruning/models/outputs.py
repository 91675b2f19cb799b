"""Where results may be written: the one rule of all outputs.

No output replaces what Prunescope did not write, unless that is asked for with ``force``; and a model's folder, which
may be hours of work, not even then when it is anything else. All of it is checked before the work begins.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from pruning.errors import Refused
from pruning.models.files import LAST, content, rehearsed, target

PLAN = "plan.json"
HEAD = 256  # bytes at which a file is known
OURS = re.compile(rb'\s*\{\s*"(?:prunescope":\s*\d|requested":\s*\{\s*"ratio")'  # a plan, a report
                  rb'|\x89PNG\r\n\x1a\n.{29}(?:tEXt|iTXt)prunescope ', re.DOTALL)  # a picture


def file(path: str | Path, force: bool = False) -> Path:
    """A path that a file may be written to.

    Raises:
        Refused: there is something that is not ours, or it cannot be written.
    """
    if str(path).endswith(("/", os.sep)):
        raise Refused(f"{path} names a folder.", "Give the name of a file.")
    return rehearsed(free(path, force))


def plan(path: str | Path, force: bool = False) -> Path:
    """A path that a plan may be written to.

    Raises:
        Refused: as for a file; or the plan would be taken for that of a model that is there, which then does not load.
    """
    goal = target(path)
    if goal.name == PLAN and is_model(goal.parent):
        raise Refused(f"{path} is where the model in {goal.parent} has its own plan; it would not load any more.",
                      "Write the plan to another folder, or under another name.")
    return file(path, force)


def pictures(path: str | Path, names: Iterable[str] = (), force: bool = False) -> Path:
    """A folder that some files may be written to; what else is in it stays.

    Raises:
        Refused: a file of such a name is not ours, or the folder cannot be written.
    """
    _check_folder(path)
    for name in names:
        free(Path(path) / name, force)
    return rehearsed(path)


def model(path: str | Path, force: bool = False, sources: Iterable[str] = ()) -> Path:
    """A folder that a model may be written to: it does not exist, or is empty; with ``force``, it holds a model.

    Raises:
        Refused: there is something in its place, even one of the ``sources`` of what is written; or it cannot be
            written.
    """
    if is_model(target(path)) and target(path) in map(target, sources):
        raise Refused(f"{path} is the model that is read.", "Choose a new folder; nothing was overwritten.")
    return rehearsed(empty(path, force))


def empty(path: str | Path, force: bool = False) -> Path:
    """The same, without a trial of whether it can be written."""
    _check_folder(path)
    goal = target(path)
    if goal.is_dir() and content(goal) and not (force and is_model(goal)):
        raise Refused(f"{path} is not empty.", "Choose a new folder; nothing was overwritten.")
    return Path(path)


def free(path: str | Path, force: bool = False) -> Path:
    """A path without a file, or with one that may be replaced.

    Raises:
        Refused: there is something else.
    """
    goal = target(path)
    if goal.is_dir():
        raise Refused(f"{path} is a folder.", "Give the name of a file.")
    if os.path.lexists(goal) and not goal.is_file():
        raise Refused(f"{path} is a device or the like.", "Give the name of a plain file.")
    if goal.is_file() and not force and not ours(goal):
        raise Refused(f"{path} exists, and Prunescope did not write it.",
                      "Choose another name, or replace it with --force.")
    return Path(path)


def ours(path: Path) -> bool:
    """Whether Prunescope wrote a file, by how it begins: a plan, a report or a picture."""
    with path.open("rb") as opened:
        head = opened.read(HEAD)
    return bool(OURS.match(head))


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model of diffusers."""
    return any((folder / name).is_file() for name in LAST)


def _check_folder(path: str | Path) -> None:
    goal = target(path)
    if os.path.lexists(goal) and not goal.is_dir():
        raise Refused(f"{path} is a file.", "Choose a new folder; nothing was overwritten.")
