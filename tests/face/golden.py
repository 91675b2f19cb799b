"""What users' scripts, shells, links and files stand on, taken from the code as it is.

python -m tests.face.golden

writes it to ``tests/face/golden``, where ``test_face`` finds it again. Do that when the face is meant to change; a
change of structure alone leaves every file there as it is.
"""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pruning
from pruning.__main__ import main as command
from pruning.network.notes import plan_of
from pruning.types import Calibration, Plan, Recipe, Shot
from tests.conftest import pipeline

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = ("methods", "inspect", "score", "overlap", "plan", "prune", "generate", "compare", "recover", "bench",
            "sweep")
DDPM = "emoji-ddpm"
PLANS: dict[str, tuple[str, dict[str, Any]]] = {  # weights alone are looked at, so all processors say the same
    "weight": ("emoji-sd", {"ratio": 0.5}),
    "row": ("emoji-sd", {"ratio": 0.3, "spread": "row", "norm": "l2"}),
    "global": ("emoji-sd", {"ratio": 0.4, "spread": "global", "of": "params", "most": 0.9}),
    "random": ("emoji-sd", {"method": "random", "ratio": 0.5, "seed": 3, "only": ("mid_block*",)}),
    "own": ("emoji-sd", {"ratio": 0.5, "overrides": {"mid_block*": 0.2, "down_blocks.0*": 0}, "protect": ()}),
    "nm": ("emoji-sd", {"pattern": "2:4"}),
    "text": ("emoji-sd", {"component": "text_encoder", "units": "neuron", "ratio": 0.25}),
    "head": ("emoji-sd", {"units": "head", "ratio": 0.5}),
    "width": ("emoji-sd", {"units": "width", "ratio": 0.25, "spread": "isomorphic"}),
    "channel": (DDPM, {"units": "channel", "ratio": 0.5}),
    "rounding": (DDPM, {"units": "channel", "ratio": 0.3, "rounding": "paper", "multiple": 8}),
    "macs": (DDPM, {"units": "channel", "ratio": 0.3, "of": "macs", "spread": "global"}),
}
LOOK = Calibration(samples=2, source="noise")


def signatures() -> dict[str, Any]:
    """Every public name with the names and defaults of what it takes, or of its fields."""
    said = {}
    for name in pruning.__all__:
        thing = getattr(pruning, name)
        if isinstance(thing, type) and dataclasses.is_dataclass(thing):
            said[name] = {field.name: _default(field) for field in dataclasses.fields(thing) if field.init}
        elif isinstance(thing, type):
            said[name] = sorted(getattr(thing, "_fields", ()))
        elif callable(thing):
            said[name] = {key: f"{given.kind.name} {given.default!r}".removesuffix(f" {given.empty!r}")
                          for key, given in inspect.signature(thing).parameters.items()}
        else:
            said[name] = repr(thing)
    return said


def _default(field: dataclasses.Field) -> str:
    return "" if field.default is dataclasses.MISSING else repr(field.default)


def helps() -> dict[str, Any]:
    """What every command says of itself, and the exit codes for words that are no command."""
    os.environ["COLUMNS"] = "100"
    said: dict[str, Any] = {}
    for words in ([], *([name] for name in COMMANDS)):
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
            command([*words, "--help"])
        said[" ".join(["pruning", *words])] = told.getvalue().splitlines()
    return said


def keys(value: Any) -> Any:
    """A value of JSON with its keys, and the kind of what stands under them; of a list, its first item.

    Numbers that a clock takes may be missing, so nothing and numbers are one kind.
    """
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value else []
    return "number or nothing" if value is None or type(value) in (int, float) else type(value).__name__


def dicts() -> dict[str, Any]:
    """The keys of what leaves as JSON: nouns, reports, a measurement, and what the commands print."""
    pipe, shot = pipeline(), Shot("a", steps=1)
    small = pruning.plan(pipe, ratio=0.5, units="width")
    looked = pruning.plan(pipe, "wanda", 0.5, calibration=LOOK, update=True)
    seen = pruning.apply(pipe, small)
    tuned = pruning.recover(seen, pipe, steps=1, batch=2, calibration=Calibration(("a",), 8, source="generated"))
    measured = pruning.measure(pipe, seen, shot, repeats=6)
    reports = {"width": pruning.report(pipe, seen, small), "measured": pruning.report(
        pipe, seen, small, measured=measured), "updated": pruning.report(pipe, pruning.apply(pipe, looked), looked),
        "recovered": pruning.report(pipe, tuned, plan_of(tuned))}
    return {"shot": keys(Shot().to_dict()), "recipe": keys(looked.recipe.to_dict()), "measured": keys(
        measured.to_dict()), "plan": keys(json.loads(small.to_json())), "recovered": keys(
        json.loads(plan_of(tuned).to_json())), **{
        f"report {name}": keys({key: value for key, value in told.to_dict().items() if key != "machine"})
        for name, told in reports.items()}, **printed()}


def printed() -> dict[str, Any]:
    """The keys of what commands print under ``--json``, and how they end."""
    said = {}
    with tempfile.TemporaryDirectory() as folder:
        for words in ("methods", "inspect emoji-sd", "plan emoji-sd --ratio 0.5 -o {}/a.json",
                      "plan emoji-sd --ratio 0.5 --units head -o {}/b.json", "plan emoji-sd --ratio 2 -o {}/c.json",
                      "plan emoji-sd --ratio 0.5", "bench"):
            told, status = io.StringIO(), 2
            with (contextlib.redirect_stdout(told), contextlib.redirect_stderr(io.StringIO()),
                  contextlib.suppress(SystemExit)):
                status = command([*words.format(folder).split(), "--json"])
            said[f"{words} -> {status}"] = keys(json.loads(told.getvalue()))
    return said


def plan(name: str) -> str:
    """``plan.json`` of one request."""
    model, request = PLANS[name]
    return pruning.plan(pruning.load(model), **request).to_json()


def links() -> dict[str, Any]:
    """Links, and what is read from them."""
    from ui import links as address

    recipes = {name: Plan.from_json((GOLDEN / "plans" / f"{name}.json").read_text(encoding="utf-8")).recipe
               for name, (model, _) in PLANS.items() if model == "emoji-sd"}
    shots = {"weight": Shot("pizza on a teal background", "red", 3, 12, 4.5, "euler", 2)}
    said = {name: address.query(recipe, shots.get(name, address.START.shot), tab="masks", layer="mid_block")
            for name, recipe in recipes.items()}
    look = Recipe("emoji-sd", "unet", "wanda", (("buckets", 4),), ratio=0.5, calibration=Calibration(("a", "b"), 8))
    said |= {"start": address.query(address.START.recipe, address.START.shot), "data": address.query(look, Shot("a"))}
    return said | {"keys": [*address.KEYS], "read": repr(address.read(dict(
        part.split("=", 1) for part in said["weight"].replace("+", " ").split("&"))))}


def endpoints() -> dict[str, Any]:
    """The endpoints of the page in their order: what they take and give, by label where there is one."""
    import app

    def named(part: dict[str, Any]) -> str:
        label = part["label"]
        return part["component"] if label.startswith(("parameter_", "value_")) else f"{part['component']} {label}"

    return {name: {"takes": [named(part) for part in said["parameters"]], "gives": [named(part) for part in said[
        "returns"]]} for name, said in app.demo.get_api_info()["named_endpoints"].items()}


PARTS: dict[str, Callable[[], Any]] = {"signatures": signatures, "helps": helps, "dicts": dicts, "links": links,
                                       "endpoints": endpoints}


def written(value: Any) -> str:
    """A part as it stands in its file."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Take all of it anew."""
    (GOLDEN / "plans").mkdir(parents=True, exist_ok=True)
    for name in PLANS:
        (GOLDEN / "plans" / f"{name}.json").write_text(plan(name), encoding="utf-8")
    for name, part in PARTS.items():
        (GOLDEN / f"{name}.json").write_text(written(part()), encoding="utf-8")


if __name__ == "__main__":
    main()
