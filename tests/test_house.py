"""The rules of the house: who may import whom, names that stay free, and the contract that every method is held to."""

import ast
import dataclasses
import importlib.util
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch
from conftest import output, same, state

import pruning
from pruning.criteria import METHODS
from pruning.network.subject import subject
from pruning.registry import checked, knobs
from pruning.scores.scores import streamed
from pruning.types import Calibration
from pruning.units import UNITS
from pruning.units.catalog import catalog

ROOT = Path(pruning.__file__).parent
VERBS = ("load", "methods", "score", "plan", "apply", "report", "generate", "measure", "save", "export", "recover")
FILES = {".".join(("pruning", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
         for path in sorted(ROOT.rglob("*.py"))}
CONTRACT = [(name, units) for name, part in sorted(METHODS.items()) for units in part.units]


def imported(path):
    """Every name that a file imports: modules, and things from modules as module.thing."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                raise AssertionError(f"{path} has a relative import")


def within(name, files=FILES):
    """The module of ours that an imported name belongs to, or None."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


@pytest.mark.parametrize("module", FILES)
def test_the_engine_knows_no_page(module):
    assert not {name.split(".")[0] for name in imported(FILES[module])} & {"ui", "app", "gradio", "plotly"}


FLOORS = ("errors", "values", "registry", "types", "progress", "cache", "network", "units", "scores", "drawing",
          "calibration", "observe", "criteria", "systems", "surgery", "decisions", "spreads", "timing", "models",
          "metrics", "recovery", "planning", "reports", "cli")  # a room imports from those before it
WAITING = {"systems"}  # rooms that are to have three files


def room(module):
    """The room that a module of the engine is in."""
    return module.split(".")[1]


def test_imports_go_down_the_page():
    graph = {module: {within(name) for name in imported(path)} - {None, "pruning", module}
             for module, path in FILES.items() if module != "pruning"}
    list(TopologicalSorter(graph).static_order())  # raises on a circle
    up = [f"{module} imports {other}" for module, others in graph.items() if room(module) != "__main__"
          for other in others if FLOORS.index(room(other)) > FLOORS.index(room(module))]
    assert up == []


def test_rooms_hold_three_files_and_say_what_they_are():
    rooms = [path for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert {path.name for path in rooms} <= set(FLOORS)
    assert len([path for path in ROOT.iterdir() if path.name != "__pycache__"]) <= 26
    for path in rooms:
        assert len(list(path.glob("*.py"))) > 3 or path.name in WAITING, path.name
        assert (ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8"))) or "").endswith(".")


SOURCES = sorted((*ROOT.rglob("*.py"), *(ROOT.parent / "ui").rglob("*.py")))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_what_is_private_stays_in_its_file(path):
    ours = (name.rpartition(".")[2] for name in imported(path) if name.startswith(("pruning.", "ui.")))
    assert [name for name in ours if name.startswith("_") and not name.endswith("__")] == []


@pytest.mark.parametrize("code", ["decision.kind ==", "decision.kind !=", "in WEIGHTS", "spread ==", "spread !="])
def test_kinds_are_asked_and_not_compared(code):
    """What a kind of decision, unit or spread does stands in its own file."""
    assert [str(path) for path in SOURCES if code in path.read_text(encoding="utf-8")] == []


def test_no_file_is_called_like_a_verb():
    assert not {module.split(".")[1] for module in FILES if "." in module} & set(VERBS)


PAGE = ROOT.parent / "ui"
PARTS = {".".join(("ui", *path.relative_to(PAGE).with_suffix("").parts)).removesuffix(".__init__"): path
         for path in sorted(PAGE.rglob("*.py"))}
UI_FLOORS = ("limits", "turns", "theme", "values", "js", "links", "replay", "state", "door", "device", "plots",
             "views", "widgets", "setup", "tabs", "page")  # the page's rooms and files, as FLOORS has the engine's
PAGE_LINES = 200  # of the page itself: what is longer belongs in a tab


def test_imports_of_the_page_go_down():
    graph = {module: {within(name, PARTS) for name in imported(path)} - {None, "ui", module}
             for module, path in PARTS.items() if module != "ui"}
    list(TopologicalSorter(graph).static_order())  # raises on a circle
    up = [f"{module} imports {other}" for module, others in graph.items() for other in others
          if UI_FLOORS.index(room(other)) > UI_FLOORS.index(room(module))]
    assert up == []
    assert [f"{module} imports {other}" for module, others in graph.items() for other in others
            if room(module) == room(other) == "tabs"] == []


def test_rooms_of_the_page_hold_three_files_and_say_what_they_are():
    rooms = [path for path in PAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert {path.name for path in rooms} <= set(UI_FLOORS)
    for path in rooms:
        assert len([file for file in path.iterdir() if file.suffix in (".py", ".js")]) > 3, path.name
        assert (ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8"))) or "").endswith(".")
    assert len((PAGE / "page.py").read_text(encoding="utf-8").splitlines()) <= PAGE_LINES


def root(node):
    """The name that an expression such as gr.Slider.preprocess begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return getattr(node, "id", "")


@pytest.mark.parametrize("path", [*PARTS.values(), ROOT.parent / "app.py"], ids=lambda path: path.stem)
def test_the_page_changes_nothing_of_other_packages_for_everybody(path):
    """What is imported is used as it is: neither a module nor a class gets another attribute."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.asname or alias.name.split(".")[0] for node in ast.walk(tree)
             if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
               for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    changed = [target.value for target in targets if isinstance(target, ast.Attribute)]
    changed += [node.args[0] for node in ast.walk(tree) if isinstance(node, ast.Call) and root(node.func) == "setattr"]
    assert [ast.unparse(thing) for thing in changed if root(thing) in names] == []


@pytest.mark.parametrize("path", sorted((ROOT.parent / "ui").rglob("*.py")), ids=lambda path: path.stem)
def test_nobody_holds_the_lock_while_others_are_waited_for(path):
    """Who left comes back to no generator, or another thread closes it, which may not let go of what it never held."""
    locked = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.With)
              and any("LOCK" in ast.unparse(item.context_expr) for item in node.items)]
    waits = ast.Yield | ast.YieldFrom
    assert not [inner.lineno for node in locked for inner in ast.walk(node) if isinstance(inner, waits)]


def test_verbs_survive_the_import_of_every_file():
    """In a process of its own, because this one has imported everything already."""
    code = (f"import importlib, sys, pruning\n"
            f"early = {{'gradio', 'plotly', 'ui'}} & set(sys.modules)\n"
            f"for name in {[name for name in FILES if not name.endswith('__main__')]}: importlib.import_module(name)\n"
            f"print(early, {{'gradio', 'plotly', 'ui'}} & set(sys.modules), sorted(v for v in {VERBS} "
            f"if not callable(getattr(pruning, v))))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "set() set() []"), done.stderr


def test_torchvision_is_not_here():
    """It would change which image processors are used, and our users need not have it."""
    assert importlib.util.find_spec("torchvision") is None


def test_methods_lists_every_part():
    listed = {method.name: method for method in pruning.methods()}
    assert set(listed) == set(METHODS) >= {"magnitude", "random"}
    assert listed["magnitude"].options == {"norm": "l1"}
    assert all(method.units == METHODS[name].units for name, method in listed.items())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_describes_itself(name):
    part = METHODS[name]
    assert part.__dataclass_params__.frozen
    assert part() == part()
    hash(part())
    label = (part.__doc__ or "").splitlines()[0]
    assert label.endswith(".")
    assert not label.startswith((f"{part.__name__}(", "This class"))
    assert part.paper == "" or re.fullmatch(r"arXiv:\d{4}\.\d{5}|https://\S+", part.paper)
    assert part.sees in ("weights", "inputs", "gradients")
    assert part.units
    assert set(part.units) <= set(UNITS)
    assert [f.name for f in dataclasses.fields(part)] == [f.name for f in knobs(part)]
    for knob in knobs(part):
        assert knob.metadata["help"]
        assert checked(knob, knob.default) == knob.default


def shown(name):
    """The least that a method can be shown; None for one that sees weights alone."""
    return Calibration(("a",), samples=2, source="generated") if METHODS[name].sees != "weights" else None


@pytest.mark.parametrize(("name", "units"), CONTRACT)
def test_a_method_keeps_the_contract(tiny, name, units):
    before, answer, stream = state(tiny), output(tiny, "unet"), torch.get_rng_state()
    looked_at = subject(tiny, "unet", seed=3)
    sites = catalog(looked_at.net, units, looked_at.example)
    first, second = (list(streamed(METHODS[name](), looked_at, sites, shown(name))) for _ in range(2))
    assert list(dict.fromkeys(scored.site for scored in first)) == list(sites)
    reached = dict.fromkeys(sites.sites, 0)
    for scored, again in zip(first, second, strict=True):
        site, values = scored.site, scored.values
        if site.single:
            weight = site.rows(looked_at.net.get_parameter(site.tensor))
            assert scored.start == reached[site.name]
            assert values.shape == weight[scored.start : scored.start + len(values)].shape
        else:
            assert values.shape == (site.units,)
        reached[site.name] += len(values)
        assert torch.isfinite(values).all()
        assert (values >= 0).all()
        assert torch.equal(values, again.values)
    assert all(reached[site.name] == (len(looked_at.net.get_parameter(site.tensor)) if site.single
                                      else site.units) for site in sites)
    abandoned = iter(METHODS[name]()(looked_at, sites, shown(name)))
    next(abandoned)
    del abandoned
    assert same(before, state(tiny))
    assert torch.equal(answer, output(tiny, "unet"))
    assert torch.equal(stream, torch.get_rng_state())


@pytest.mark.parametrize("name", [name for name, part in METHODS.items() if part.sees != "weights"])
def test_a_method_that_sees_data_tells_each_bucket_apart(tiny, name):
    looked_at = subject(tiny, "unet")
    sites = catalog(looked_at.net, METHODS[name].units[0], looked_at.example)
    profiles = {scored.site.name: scored.profile for scored in streamed(METHODS[name](), looked_at, sites, shown(name))
                if scored.profile is not None}
    assert set(profiles) == set(sites.sites)
    assert all(profile.shape == (METHODS[name]().buckets,) for profile in profiles.values())
    assert all(profile.isfinite().all() and (profile >= 0).all() for profile in profiles.values())


@pytest.mark.parametrize(("name", "units"), CONTRACT)
def test_scores_can_be_streamed_again(tiny, name, units):
    component = "text_encoder" if units != "channel" and METHODS[name].sees != "gradients" else None
    scores = pruning.score(tiny, name, units=units, component=component, calibration=shown(name))
    some = list(scores.catalog.sites)[1:3]
    for scored in scores.stream(some):
        assert scored.site.name in some
        if scored.site.single:
            assert int(scores.sketches[scored.site.name].counts.sum()) == scored.values.numel()
        else:
            assert torch.equal(scored.values, scores.values[scored.site.name])


@pytest.mark.parametrize(("method", "options", "words"), [
    ("magnitud", {}, "There are .*magnitude, random"), ("magnitude", {"nrom": "l1"}, "Its options: norm"),
    ("magnitude", {"norm": "l3"}, "Choose one of l1, l2"), ("random", {"norm": "l1"}, "Its options: none")])
def test_unknown_names_are_refused_with_the_choices(tiny, method, options, words):
    with pytest.raises(pruning.Refused, match=words):
        pruning.plan(tiny, method, 0.5, **options)


@pytest.mark.parametrize(("component", "units", "words"), [
    ("vae.decoder", "head", "single head"), ("text_encoder", "channel", "adds to one stream of tokens"),
    ("vae.encoder", "weight", "It has: unet, vae.decoder, text_encoder"), (None, "layer", "not part of this version"),
    (None, "bit", "Choose one of weight, nm, head")])
def test_what_cannot_work_is_refused_with_the_reason(tiny, component, units, words):
    with pytest.raises(pruning.Refused, match=words):
        pruning.plan(tiny, ratio=0.5, component=component, units=units)
