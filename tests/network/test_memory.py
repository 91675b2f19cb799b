"""Limits follow the container's memory, whichever of the kernel's two ways of writing it down is there."""

import psutil
import pytest

from pruning.network import memory

GB = 10 ** 9


def contained(tmp_path, monkeypatch, line, files):
    """A machine of 64 GB with 40 free, and the kernel's files of a container."""
    machine = type("Machine", (), {"total": 64 * GB, "available": 40 * GB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    monkeypatch.setattr(memory, "OURS", tmp_path / "own")
    if line is not None:
        (tmp_path / "own").write_text(line)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)


SECOND = {"memory.max": f"{8 * GB}\n", "memory.current": f"{5 * GB}\n", "memory.stat": f"anon 1\ninactive_file {GB}\n"}
FIRST = {"memory/memory.limit_in_bytes": f"{8 * GB}", "memory/memory.usage_in_bytes": f"{5 * GB}",
         "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GB}\n"}
NONE = {"memory.max": "max\n", "memory.current": f"{5 * GB}", "memory.stat": "anon 1\n"}


@pytest.mark.parametrize(("line", "files", "limit", "available"), [
    (None, {}, 64, 40),  # no such kernel
    ("0::/\n", {}, 64, 40),  # nothing is mounted
    ("0::/\n", SECOND, 8, 4),
    ("0::/\n", NONE, 64, 40),
    ("0::/\n", SECOND | {"memory.max": f"{80 * GB}"}, 64, 40),  # more than there is
    ("0::/\n", SECOND | {"memory.current": f"{10 * GB}"}, 8, 0),
    ("0::/\n", SECOND | {"memory.max": "much"}, 64, 40),
    ("0::/a/b\n", NONE | {f"a/{name}": text for name, text in SECOND.items()}, 8, 4),  # of the container around it
    ("1:cpu,cpuacct:/x\n4:memory:/\n0::/\n", FIRST, 8, 4),
    ("4:memory:/a\n0::/\n", FIRST | {"memory/a/memory.limit_in_bytes": "9223372036854771712",
                                     "memory/a/memory.usage_in_bytes": "1", "memory/a/memory.stat": ""}, 8, 4),
])
def test_the_least_that_is_granted_counts(tmp_path, monkeypatch, line, files, limit, available):
    contained(tmp_path, monkeypatch, line, files)
    assert (memory.limit(), memory.available()) == (limit * GB, available * GB)


def test_here():
    assert 0 < memory.available() <= memory.limit() <= psutil.virtual_memory().total
