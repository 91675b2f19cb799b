"""What made a result, as text to have it again: a Python script, two commands, a record.

Prompts, models and globs are what people typed: in every text each stands as one quoted literal, whatever is in it.
"""

import inspect
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import version
from math import isfinite
from typing import Any

import pruning
from pruning.cli.flags import DRAW, LOAD, OF_CALIBRATION, REQUEST, TRAIN, Flag, spelled
from pruning.cli.flags import asked as known_flags
from pruning.criteria import METHODS
from pruning.errors import Refused
from pruning.models.sources import SLUGS
from pruning.network.subject import DENOISERS
from pruning.planning import request
from pruning.recovery import Recovery
from pruning.types import SCHEMA, Calibration, Recipe, Shot

SCRIPT = "Take the Python script."
WIDE = 100  # characters of a call on one line
ADJUSTED = "# What stays is adjusted now. Plans do not hold weights: keep them by pruning.save(smaller, folder).\n"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # a terminal takes them for keys, or not at all


def asked(recipe: Recipe) -> dict[str, Any]:
    """The keywords of ``pruning.plan`` that make a recipe: the method, how much, and whatever is not as usual.

    Raises:
        Refused: there is no such method or option.
    """
    usual = {name: parameter.default for name, parameter in inspect.signature(pruning.plan).parameters.items()}
    usual |= request.usual(METHODS[recipe.method])
    values = {name: getattr(recipe, name) for name in (*REQUEST, "calibration")}
    values["overrides"] = dict(recipe.overrides) or None
    if recipe.component in (*DENOISERS, ""):
        del values["component"]  # what None stands for
    if recipe.pattern:
        del values["units"], values["ratio"]  # the pattern says both
    given = {name: value for name, value in values.items() if name == "method" or value != usual[name]}
    return given | changed(METHODS.make(recipe.method, dict(recipe.options)))


def changed(noun: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as usual."""
    return {f.name: value for f in fields(noun) if (value := getattr(noun, f.name)) != f.default}


# Python.


def python(recipe: Recipe, shot: Shot, recovery: Recovery | None = None) -> str:
    """A script that plans, prunes, counts, and draws both sides into ``dense_0.png``, ``pruned_0.png`` and so on.

    Raises:
        Refused: there is no such method or option.
    """
    trained = f"smaller = {call('pruning.recover', 'smaller', 'pipe', **changed(recovery))}\n" if recovery else ""
    return f"""\
import pruning

pipe = {call("pruning.load", literal(recipe.model), **loading(recipe.model))}
plan = {call("pruning.plan", "pipe", **asked(recipe))}
smaller = pruning.apply(pipe, plan)  # a new pipeline; the dense one stays as it was
{ADJUSTED if recipe.update else ""}{trained}print(pruning.report(pipe, smaller, plan).to_dict())

shot = {literal(shot)}
for side, model in (("dense", pipe), ("pruned", smaller)):
    *_, drawn = pruning.generate(model, shot)
    for i, image in enumerate(drawn.images):
        image.save(f"{{side}}_{{i}}.png")
"""


def loading(model: str) -> dict[str, str]:
    """How a model is loaded, beside its name: an architecture has no trained weights."""
    return {"weights": "random"} if model in SLUGS else {}


def call(name: str, *given: str, **named: Any) -> str:
    """A call, of which long ones take a line for each argument."""
    arguments = [*given, *(f"{key}={literal(value)}" for key, value in named.items())]
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= WIDE else f"{name}(\n    " + ",\n    ".join(arguments) + ")"


def literal(value: Any) -> str:
    """A value as Python writes it. ``repr`` escapes quotes, newlines and all that cannot be seen."""
    match value:
        case Shot(prompts=prompts):
            named = {name: given for name, given in changed(value).items() if name != "prompts"}
            return call("pruning.Shot", literal(prompts[0] if len(prompts) == 1 else prompts), **named)
        case Calibration():
            return call("pruning.Calibration", **changed(value))
    return repr(value)


# Commands.


def command(recipe: Recipe, shot: Shot, recovery: Recovery | None = None) -> str:
    """Commands for a shell such as bash: one prunes into a folder, one compares that folder with the dense model.

    Where what stays was trained, one in between does that.

    Raises:
        Refused: the command line cannot say this; the sentence names what.
    """
    model, out = word(recipe.model), f"out/{recipe.digest[:8]}"
    wanted = asked(recipe)
    looks = wanted.pop("calibration", None)
    wanted |= {OF_CALIBRATION + name: value for name, value in changed(looks).items()} if looks else {}
    load = loading(recipe.model)
    prune = ["prune", model, *options(load | wanted, LOAD | known_flags()), "-o", out]
    tuned = f"{out}-tuned" if recovery else out
    compare = ["compare", model, tuned, *options(load | {"prompts": shot.prompts} | changed(shot), LOAD | DRAW),
               "-o", f"{out}-pair"]
    commands = [prune, compare]
    if recovery:
        commands.insert(1, ["recover", out, "--dense", model, *options(changed(recovery), TRAIN), "-o", tuned])
    return "".join(f"python -m pruning {' '.join(words)}\n" for words in commands)


def options(values: Mapping[str, Any], known: Mapping[str, Flag]) -> Iterator[str]:
    """Values as flags, in the way in which ``pruning.cli.flags`` reads them."""
    for name, value in values.items():
        if value is True:
            yield f"--{spelled(name)[0]}"
            continue
        if name not in known:
            raise Refused(f"The command line has no word for {name} yet.", SCRIPT)
        for one in spoken(value):
            if one == "--":
                raise Refused(f"The command line cannot take {name} {one!r}: to it, that ends the flags.", SCRIPT)
            # A value that begins like a flag is joined to its own, so that it cannot be taken for another.
            yield f"--{spelled(name)[0]}{'=' if one.startswith('-') else ' '}{quoted(one)}"


def spoken(value: Any) -> list[str]:
    """A value as the values of a flag, which can be given several times."""
    match value:
        case dict():
            return [f"{glob}={ratio}" for glob, ratio in value.items()]
        case tuple():
            return [*map(str, value)] or ["none"]
    return [str(value)]


def word(model: str) -> str:
    """A model as an argument; a folder whose name begins like a flag is named as a folder."""
    return quoted(f"./{model}" if model.startswith("-") else model)


def quoted(text: str) -> str:
    """One word of a shell."""
    if CONTROL.search(text):
        raise Refused(f"A command cannot hold {text!r}: a terminal would take part of it for keys.", SCRIPT)
    return shlex.quote(text)


# A record.


def record(recipe: Recipe, shot: Shot, report: Mapping[str, Any] | None, quality: Mapping[str, Any] | None,
           machine: Mapping[str, Any] | None, recovery: Recovery | None = None) -> dict[str, Any]:
    """Everything about a result as plain values for JSON. It has no date, so that the same result is the same text."""
    versions = {"prunescope": SCHEMA, "torch": version("torch"), "diffusers": version("diffusers")}
    return plain({"recipe": recipe.to_dict(), "recovery": recovery.to_dict() if recovery else None,
                  "shot": shot.to_dict(), "report": report, "quality": quality,
                  "machine": machine, "versions": versions})


def plain(value: Any) -> Any:
    """A value as JSON has it. Numbers that JSON lacks become the words that Python and JavaScript read as numbers."""
    match value:
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case float() if not isfinite(value):
            return {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(value)]
    return value
