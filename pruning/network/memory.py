"""How much memory a process may take here: what its container grants, where that is less than what the machine has.

Knows no model. A container's limit is a file of the kernel (cgroups); no package is needed to read it.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

ROOT = Path("/sys/fs/cgroup")
OURS = Path("/proc/self/cgroup")  # lines of "number:controllers:path"
VERSIONS = {"": ("memory.max", "memory.current", "inactive_file"),  # controllers -> limit, use, reclaimable cache
            "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}


def limit() -> int:
    """Bytes of memory that this process and its like may hold together."""
    return min([psutil.virtual_memory().total, *(most for most, _ in _granted())])


def available() -> int:
    """Bytes of memory that can still be taken: what the machine has left, or its container grants, if that is less."""
    return max(0, min([psutil.virtual_memory().available, *(most - used for most, used in _granted())]))


def _granted() -> Iterator[tuple[int, int]]:
    """(limit, in use) in bytes of every container around this process, from the inmost outwards; none, no pairs."""
    try:
        lines = OURS.read_text("utf-8").splitlines()
    except OSError:  # another system
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        kind = "memory" if "memory" in controllers.split(",") else controllers
        if kind in VERSIONS:
            inside = PurePosixPath(path.lstrip("/"))
            for place in (inside, *inside.parents):
                if pair := _pair(ROOT / kind / place, *VERSIONS[kind]):
                    yield pair


def _pair(folder: Path, most: str, used: str, cache: str) -> tuple[int, int] | None:
    """(limit, in use without what the kernel would drop) of one container; None without a limit."""
    try:
        granted, taken = (folder / most).read_text("utf-8").strip(), int((folder / used).read_text("utf-8"))
        if granted == "max":
            return None
        told = dict(line.split() for line in (folder / "memory.stat").read_text("utf-8").splitlines())
        return int(granted), max(0, taken - int(told.get(cache, 0)))
    except (OSError, ValueError):  # not mounted here
        return None
