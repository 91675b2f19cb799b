"""Plans on disk: JSON, and beside it, where masks do not fit there, a file of tensors with the same name."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pruning.errors import Refused
from pruning.types import Plan

PLAN = "plan.json"
TOGETHER = "Save the pruned model again; the files and plan.json belong together."


def read(file: Path) -> Plan:
    """A plan with its masks.

    Raises:
        Refused: not a plan, or a file of masks that cannot be read.
    """
    beside = _beside(file)
    try:
        tensors = load_file(beside) if beside.exists() else {}
    except SafetensorError:
        raise Refused(f"{beside.name} is not whole.", TOGETHER) from None
    return Plan.from_json(file.read_text("utf-8", errors="replace"), tensors)


def inside(folder: Path) -> Plan | None:
    """The plan that a folder's model has gone through."""
    file = folder / PLAN
    return read(file) if file.exists() else None


def write(plan: Plan, file: Path) -> None:
    """A plan and its masks."""
    file.write_text(plan.to_json(), encoding="utf-8")
    if plan.tensors:
        save_file(plan.tensors, _beside(file))
    elif _beside(file).stem == Path(PLAN).stem:
        _beside(file).unlink(missing_ok=True)  # of a plan that stood here before


def _beside(file: Path) -> Path:
    return file.parent / f"{file.stem}.safetensors"
