"""The README's tables are what the code says, its pictures exist, and its commands and scripts work."""

import re
import shlex
from pathlib import Path

from assets.make import tables
from pruning.__main__ import main

README = Path("README.md").read_text(encoding="utf-8")


def test_tables_are_as_generated():
    assert tables.filled(README) == README


def test_pictures_exist():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert Path(path).exists(), path


def test_the_script_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = re.search(r"```python\n(import pruning.*?)```", README, re.S)
    assert source is not None
    exec(source.group(1), {"__name__": "example"})
    assert (tmp_path / "out" / "half" / "plan.json").exists()


def test_the_script_of_diff_pruning_works():
    source = re.search(r"```python\n(pipe = pruning.load\(\"emoji-ddpm\"\).*?)```", README, re.S)
    assert source is not None
    made = {}
    exec("import pruning\n" + source.group(1).replace("steps=100", "steps=1"), made)
    assert made["plan"].recipe.units == "channel"
    report = made["pruning"].report(made["pipe"], made["smaller"], made["plan"])
    assert report.params["pruned"] < 0.6 * report.params["dense"]


def test_the_commands_work(tmp_path, monkeypatch):
    lines = re.findall(r"^python -m pruning (.*)$", README, re.M)
    assert len(lines) >= 2
    monkeypatch.chdir(tmp_path)
    for line in lines:
        assert main([*shlex.split(line), *(["--steps", "2"] if line.startswith("compare") else [])]) == 0
    assert len(list((tmp_path / "out" / "pair").glob("*.png"))) == 3


def test_the_example_method_works(tmp_path, tiny):
    import pruning

    source = re.search(r"```python\n(@METHODS\.add.*?)```", README, re.S)
    assert source is not None
    head = ("from dataclasses import dataclass\nfrom typing import ClassVar\nfrom pruning.criteria import METHODS\n"
            "from pruning.registry import knob\nfrom pruning.scores import SiteScores\n")
    try:
        exec(head + source.group(1), {"__name__": "example"})
        plan = pruning.plan(tiny, "row-norm", ratio=0.5, power=2)
        assert plan.recipe.method == "row-norm"
    finally:
        pruning.METHODS.pop("row-norm", None)


def test_the_front_matter_suits_a_space():
    front = README.split("---")[1]
    for line in ("sdk: gradio", "python_version: 3.12.12", "app_file: app.py"):
        assert line in front
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert set(re.findall(r"color(?:From|To): (\w+)", front)) <= colours
    version = re.search(r"sdk_version: (\d+\.\d+)", front)
    assert version is not None
    assert f"gradio>={version.group(1)}," in Path("requirements.txt").read_text()
