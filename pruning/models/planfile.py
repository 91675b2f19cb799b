"""Plans on disk: JSON, and beside it, where masks do not fit there, a file of tensors that the plan names."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from pruning.errors import Refused
from pruning.models import files, folders, outputs
from pruning.models.outputs import PLAN
from pruning.types import Plan

MARK = "prunescope masks"  # in the file of masks: the digest of its plan
NAMED = re.compile(r'\s*\{\s*"prunescope":\s*\d+,\s*"digest":\s*"\w*",\s*"masks":\s*("(?:[^"\\]|\\.)*")')
MOST = 64 << 20  # bytes; channels of a large model, chosen at random, take about 20 million
TOGETHER = "Save the pruned model again; the files and plan.json belong together."


def read(file: Path) -> Plan:
    """A plan with its masks.

    Raises:
        Refused: not a plan, a larger one than any real, or a file of masks that cannot be read.
    """
    folders.check_size(file, MOST)
    text = file.read_text("utf-8", errors="replace")
    named = _named(file)
    masks = named if named and named.is_file() else file.with_suffix(".safetensors")  # of a plan that names none
    wanted = '"bits"' in text and masks.exists()
    try:
        if wanted:
            folders.check_size(masks, 1 << 62)
            folders.check_safetensors(masks)
        tensors = load_file(masks) if wanted else {}
    except SafetensorError:
        raise Refused(f"{masks.name} is not whole.", TOGETHER) from None
    return Plan.from_json(text, tensors)


def inside(folder: Path) -> Plan | None:
    """The plan that a folder's model has gone through."""
    file = folder / PLAN
    return read(file) if file.exists() else None


def saved_in(folder: Path) -> tuple[str, dict[str, str]] | None:
    """What a folder was saved with: the digest of its plan, and of each component's weights; None of older folders.

    Raises:
        Refused: it is something else.
    """
    found = json.loads((folder / PLAN).read_text("utf-8")).get("saved")
    if found is None:
        return None
    try:
        return str(found["plan"]), {str(name): str(digest) for name, digest in found["weights"].items()}
    except (KeyError, TypeError, AttributeError):
        raise Refused(f"{PLAN} does not say what was saved with it.", TOGETHER) from None


def sign(folder: Path, plan: Plan, weights: Mapping[str, str]) -> None:
    """Note in a folder's plan which weights were saved with it."""
    body = json.loads((folder / PLAN).read_text("utf-8"))
    body["saved"] = {"plan": plan.digest, "weights": dict(weights)}
    (folder / PLAN).write_text(json.dumps(body, indent=1), "utf-8")


def write(plan: Plan, file: Path) -> None:
    """A plan and its masks, in the folder of a model that is being written."""
    masks = file.with_suffix(".safetensors")
    if plan.tensors:
        save_file(plan.tensors, masks, {MARK: plan.digest})
    file.write_text(plan.to_json(masks.name if plan.tensors else ""), encoding="utf-8")


def keep(plan: Plan, path: str | Path, force: bool = False) -> Path:
    """Write a plan anywhere. Its masks go to a file beside it that is called after its digest, so they replace none.

    A stop at any moment leaves the plan that was there with its masks, or the new one with its own.

    Raises:
        Refused: there is something else in its place, or the disk is full.
    """
    file = files.target(outputs.plan(path, force))
    masks = file.with_name(f"{file.stem}.{plan.digest[:8]}.safetensors")
    if os.path.lexists(masks) and _mark(masks) != plan.digest:
        raise Refused(f"{masks} exists, and is not of this plan.", "Write the plan to another folder.")
    with files.replacing(file) as part:
        part.write_text(plan.to_json(masks.name if plan.tensors else ""), encoding="utf-8")
        if plan.tensors:
            with files.replacing(masks) as beside:
                save_file(plan.tensors, beside, {MARK: plan.digest})
        old = _named(file)
    if old and old != _named(file):
        _forget(old)
    return Path(path)


def _named(file: Path) -> Path | None:
    """The file of masks that a plan names, beside it; None where it names none, or is no plan."""
    if not file.is_file():
        return None
    with file.open(encoding="utf-8", errors="replace") as opened:
        named = NAMED.match(opened.read(512))
    with suppress(json.JSONDecodeError):
        return file.parent / Path(json.loads(named[1])).name if named else None
    return None


def _forget(masks: Path) -> None:
    """Remove the masks of a plan that stood here before, unless another plan beside them names them, too."""
    if _mark(masks) and masks not in map(_named, masks.parent.iterdir()):
        masks.unlink()


def _mark(masks: Path) -> str:
    """The digest of the plan that a file of masks belongs to; empty where it does not say so."""
    try:
        with safe_open(masks, "pt") as opened:
            return (opened.metadata() or {}).get(MARK, "")
    except (SafetensorError, OSError):
        return ""
