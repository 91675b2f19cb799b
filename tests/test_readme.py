"""README and docs: tables are what the code says, links lead somewhere, and every command and script works."""

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
from functools import cache
from graphlib import CycleError
from pathlib import Path

import pytest

import pruning
from assets.make import rooms, tables
from pruning.__main__ import main
from pruning.models import sources

ROOT = tables.ROOT
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in tables.PAGES}
README = PAGES["README.md"]
MOST_WORDS = 1000  # of the README, tables and scripts among them
FOLDERS = "pruning|ui|tests|docs|assets|benchmarks"


@pytest.fixture(scope="module", autouse=True)
def cheap():
    """Bundled models are loaded once for all commands and scripts; errors of a recovery are taken on a few calls."""
    load, loaded = sources.load_pipeline, cache(sources.load_pipeline)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load_pipeline", lambda source, **how: (
            loaded if source in sources.BUNDLED else load)(source, **how))
        patch.setattr("pruning.recovery.shown.JUDGED", 4)
        yield


# Words, tables and links.


def test_the_readme_is_short():
    words = [word for word in README.split("---", 2)[2].split() if re.search(r"\w", word)]
    assert len(words) <= MOST_WORDS, f"README.md has {len(words)} words; move some to docs/"


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_as_generated(page):
    assert tables.filled(PAGES[page]) == PAGES[page], f"{page} is stale: run python -m assets.make.tables"


def test_every_generated_table_is_shown_and_no_other_is_marked():
    marked = {name for text in PAGES.values() for name in tables.MARKED.findall(text)}
    assert marked >= {*tables.TABLES, *(file.stem for file in tables.RESULTS.glob("*.json")), "power"}
    with pytest.raises(KeyError, match="no table is called 'nothing'"):
        tables.filled("<!-- nothing -->\n<!-- /nothing -->")


def test_a_benchmark_without_results_says_how_to_take_them(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.benchmark("power").startswith("`python -m benchmarks.power` makes this table")


def slugs(text):
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_resolve(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", PAGES[page], flags=re.S)):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), link
            assert not anchor or anchor in slugs(path.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    for name in re.findall(rf"`(?:pytest )?((?:{FOLDERS})/[\w./-]*)", PAGES[page]):
        assert (ROOT / name).exists(), name


def test_the_house_has_every_room():
    shown = set(re.findall(r"^\| `([\w.]+/?)` \| \d+ \| \S", PAGES["docs/house.md"], re.M))
    folders = {f"{path.name}/" for package in rooms.PACKAGES for path in (ROOT / package).iterdir()
               if (path / "__init__.py").exists()}
    assert shown >= folders >= {"criteria/", "units/", "plots/"}
    floors = rooms.floors("pruning")
    assert (floors["errors"], max(floors, key=floors.__getitem__)) == (1, "__main__")
    assert {"criteria", "errors", "network"} <= rooms.imports("pruning")["systems"]


def test_floors_follow_imports_and_a_circle_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "ROOT", tmp_path)
    for package, of_low in (("straight", ""), ("circle", "from circle.high import x")):
        (tmp_path / package / "low").mkdir(parents=True)
        (tmp_path / package / "low" / "__init__.py").write_text(f'"""The ground,\nbroken. More."""\n{of_low}\n')
        (tmp_path / package / "high.py").write_text(f'"""Above."""\nimport {package}.low\n')
    assert rooms.rows("straight") == [["`low/`", "1", "The ground, broken. More."], ["`high.py`", "2", "Above."]]
    with pytest.raises(CycleError):
        rooms.floors("circle")


# Scripts run as they stand there, but for what makes them long.


SCRIPTS = {"README.md", "docs/methods.md", "docs/architectures.md", "docs/add-a-method.md"}  # a page has one at most
SHORTER = {'method="diff-pruning", ': 'method="diff-pruning", every=250, ', "steps=100": "steps=1, batch=2"}


def script(page):
    """A page's script, made short."""
    code, = re.findall(r"```python\n(.*?)```", PAGES[page], re.S)
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    return code


def test_every_script_is_run_below():
    assert {page for page, text in PAGES.items() if "```python\n" in text} == SCRIPTS


def test_the_script_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(script("README.md"), {"__name__": "example"})
    assert (tmp_path / "out" / "half" / "plan.json").exists()


def test_the_script_of_diff_pruning_works():
    made = {}
    exec(script("docs/methods.md"), made)
    assert made["plan"].recipe.units == "channel"
    report = pruning.report(made["pipe"], made["smaller"], made["plan"])
    assert report.params["pruned"] < 0.6 * report.params["dense"]


def test_the_script_of_architectures_works():
    made = {}
    exec(script("docs/architectures.md"), made)
    assert made["shapes"].unet.conv_in.weight.is_meta
    assert made["small"].unet.conv_in.weight.std() > 0


def test_the_example_method_works(tiny):
    try:
        exec(script("docs/add-a-method.md"), {"__name__": "example"})
        plan = pruning.plan(tiny, "row-norm", ratio=0.5, power=2)
        assert plan.recipe.method == "row-norm"
    finally:
        pruning.METHODS.pop("row-norm", None)


# The commands run as they stand there, in a folder of their own, with this one rule: what only makes them long is made
# short by flags at the end, which win over those before. Each key is a part of the commands that it shortens.
SHORT = {"compare ": "--steps 2", "recover ": "--steps 1 --batch 2 --calibration-samples 8", "generate ": "--steps 2",
         "--method wanda": "--calibration-samples 2 --buckets 1"}
LAST = ("recover", "compare")  # they read what the others write
COMMANDS = [" ".join(line.split()) for line in dict.fromkeys(
    line for text in PAGES.values() for line in (*re.findall(r"`(python -m [^`]+)`", text),
                                                 *re.findall(r"^(python -m .+)$", text, re.M)))]


def shortened(line):
    """The arguments of a command, made short."""
    return shlex.split(" ".join([line, *(flags for part, flags in SHORT.items() if part in line)]))


def test_the_commands_work(tmp_path, monkeypatch, capsys):
    lines = sorted((line.removeprefix("python -m pruning ") for line in COMMANDS if "-m pruning " in line),
                   key=lambda line: line.split()[0] in LAST)
    assert {line.split()[0] for line in lines} == {
        "methods", "inspect", "score", "overlap", "plan", "prune", "generate", "recover", "compare"}
    monkeypatch.chdir(tmp_path)
    for line in lines:
        assert main(shortened(line)) == 0, line
    assert len(list((tmp_path / "out" / "pair").glob("*.png"))) == 3
    assert (tmp_path / "out" / "better" / "model_index.json").is_file()
    printed = capsys.readouterr().out
    said = re.search(r"flux-dev` counts ([\d,]+) parameters", PAGES["docs/architectures.md"])
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


def test_the_front_matter_suits_a_space():
    front = README.split("---")[1]
    for line in ("sdk: gradio", "python_version: 3.12.12", "app_file: app.py"):
        assert line in front
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert set(re.findall(r"color(?:From|To): (\w+)", front)) <= colours
    version = re.search(r"sdk_version: (\d+\.\d+)", front)
    assert version is not None
    assert f"gradio>={version.group(1)}," in Path("requirements.txt").read_text()
