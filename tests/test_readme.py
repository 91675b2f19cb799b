"""The README's tables are what the code says, its pictures exist, and its commands and scripts work."""

import argparse
import importlib.util
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

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


# The commands run as they stand there, in a folder of their own, with this one rule: what only makes them long is made
# short by flags at the end, which win over those before.
SHORT = {"compare": "--steps 2", "recover": "--steps 1 --batch 2 --calibration-samples 8", "generate": "--steps 2"}
LAST = ("recover", "compare")  # they read what the others write
COMMANDS = [" ".join(line.split()) for line in dict.fromkeys(
    re.findall(r"`(python -m [^`]+)`", README) + re.findall(r"^(python -m .+)$", README, re.M))]


def test_the_commands_work(tmp_path, monkeypatch, capsys):
    lines = sorted((line.removeprefix("python -m pruning ") for line in COMMANDS if "-m pruning " in line),
                   key=lambda line: line.split()[0] in LAST)
    assert {line.split()[0] for line in lines} >= {"methods", "inspect", "plan", "prune", "recover", "compare"}
    monkeypatch.chdir(tmp_path)
    for line in lines:
        words = shlex.split(line)
        assert main([*words, *SHORT.get(words[0], "").split()]) == 0, line
    assert len(list((tmp_path / "out" / "pair").glob("*.png"))) == 3
    assert (tmp_path / "out" / "better" / "model_index.json").is_file()
    printed, said = capsys.readouterr().out, re.search(r"flux-dev` counts ([\d,]+) parameters", README)
    assert said is not None
    assert said[1] in printed


class Begun(Exception):
    """A command was understood, and would go to work."""


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize("line", [line for line in COMMANDS if "-m pruning " not in line])
def test_benchmarks_and_makers_are_begun(line, monkeypatch):
    """They take minutes to hours, or a GPU: each is started with its arguments, up to where its work begins."""
    def understood(parser, *args):
        parse(parser, *args)
        raise Begun

    name, *argv = shlex.split(line.removeprefix("python -m "))
    source = Path(importlib.util.find_spec(name).origin).read_text(encoding="utf-8")
    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(sys, "argv", [name, *argv])
    if "argparse" in source:
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understood)
        with pytest.raises(Begun):
            runpy.run_module(name, run_name="__main__")
    else:
        assert not argv
        assert callable(runpy.run_module(name)["main"])
        assert '__name__ == "__main__"' in source


def test_the_page_starts():
    """The command that README begins with, on a port of its own; what it installs is what these tests run with."""
    line = re.search(r"^python3 -m venv \S+ && \S+ install -r (\S+) && \S+/python (\S+)$", README, re.M)
    assert line is not None
    assert Path(line[1]).is_file()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, line[2]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=os.environ | {"GRADIO_SERVER_PORT": str(port)}) as page:
        try:
            told = iter(page.stdout.readline, "")
            assert any(url in words for words in told)
            with urllib.request.urlopen(url, timeout=60) as answer:
                assert (answer.status, "Prunescope" in answer.read().decode()) == (200, True)
        finally:
            page.terminate()


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
