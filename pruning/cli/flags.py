"""Flags of the command line, made from the arguments of the public functions and the knobs of the methods."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from pruning.calibration import samples
from pruning.calibration.pictures import GUIDANCE
from pruning.criteria import METHODS
from pruning.drawing.samplers import SAMPLERS
from pruning.errors import Refused
from pruning.network.subject import Subject
from pruning.recovery import LOSSES, Recovery
from pruning.recovery.options import DRAWN, MANY, many
from pruning.registry import knobs
from pruning.spreads import SPREADS
from pruning.spreads.amount import OF
from pruning.spreads.granularity import MULTIPLES, ROUNDINGS
from pruning.types import DEFAULT_PROTECT, Calibration, Shot
from pruning.units import UNITS


class Flag(NamedTuple):
    """An argument of a public function as a flag. Values are read after parsing: a bad one is refused, not usage."""

    read: Callable[[str], Any]
    help: str | Callable[[], str]  # of what is registered, it is asked when it is shown
    many: bool = False

    @property
    def said(self) -> str:
        """The help as it is shown."""
        return self.help if isinstance(self.help, str) else self.help()


REQUEST = {
    "method": Flag(str, "see `methods` (magnitude)"),
    "ratio": Flag(float, "the share to remove, from 0 up to but not including 1"),
    "component": Flag(str, "such as text_encoder or vae.decoder (the denoiser)"),
    "units": Flag(str, lambda: f"what goes: {', '.join(UNITS.ordered())} (weight)"),
    "pattern": Flag(str, "N:M keeps N of each M neighbours along the inputs, such as 2:4"),
    "of": Flag(str, f"what the ratio is a share of: {', '.join(OF)} (units)"),
    "spread": Flag(str, lambda: f"how the ratio is divided: {', '.join(SPREADS.ordered())} (layer)"),
    "protect": Flag(str, f"glob of modules to leave alone, repeatable; none releases all ({' '.join(DEFAULT_PROTECT)})",
                    many=True),
    "only": Flag(str, "glob of the modules that may be pruned, repeatable", many=True),
    "overrides": Flag(str, "another ratio for some modules, repeatable; the longest glob wins", many=True),
    "seed": Flag(int, "of random choices (0)"),
    "most": Flag(float, "of any one layer, at most this share goes (1: all but one unit)"),
    "rounding": Flag(str, f"how a layer's share becomes whole channels: {', '.join(ROUNDINGS)} (the method's own)"),
    "multiple": Flag(int, f"keep widths at multiples of {', '.join(map(str, MULTIPLES[1:]))} (1)"),
    "update": Flag(bool, "let the weights that stay make up for those that go, without training"),
}
CALIBRATION = {  # of methods that see data
    "prompts": Flag(str, "a prompt to look at, repeatable", many=True),
    "samples": Flag(int, f"how many samples to look at ({Calibration.samples})"),
    "timesteps": Flag(int, "a timestep to look at, repeatable (evenly spread)", many=True),
    "guidance": Flag(float, "above 1: look at each sample with its prompt and without (0)"),
    "seed": Flag(int, "of the samples (0)"),
    "source": Flag(str, "where samples come from: bundled, generated, noise, or a folder of pictures (the first that "
                   "the model has)"),
}
LOAD = {"weights": Flag(str, "trained, or random for an architecture such as sd-1.5 (trained)")}
DRAW = {
    "prompts": Flag(str, "what to draw, repeatable; a model that takes no prompt draws without", many=True),
    "negative": Flag(str, "what to stay away from"),
    "seed": Flag(int, "of the noise; picture i starts from seed + i (0)"),
    "steps": Flag(int, f"denoising steps ({Shot.steps})"),
    "guidance": Flag(float, f"how strongly the prompt is followed ({Shot.guidance:g})"),
    "sampler": Flag(str, f"{', '.join(SAMPLERS)} ({Shot.sampler})"),
    "images": Flag(int, f"pictures per prompt ({Shot.images})"),
    "size": Flag(int, "pixels of a picture's side (the model's own)"),
}
TRAIN = {knob.name: Flag(bool if knob.default is False else str, str(knob.metadata["help"]) + (
    "" if knob.default is False else f" ({knob.default:g})")) for knob in knobs(Recovery)} | {
    "component": Flag(str, "what is trained; denoisers alone can be (the denoiser)"),
    "losses": Flag(str, lambda: f"what is made small, repeatable: {', '.join(LOSSES)} (task=1)", many=True),
}
SHOWN = {  # the samples that a recovery trains on, at all timesteps
    "prompts": Flag(str, "a prompt to draw, or the caption of pictures without one, repeatable", many=True),
    "samples": Flag(int, f"how many at most ({MANY}; {DRAWN} where the model draws them)"),
    "guidance": Flag(float, f"how strongly prompts are followed where the model draws ({GUIDANCE:g})"),
    "seed": Flag(int, "of what the model draws (0)"),
    "source": Flag(str, "bundled, generated, or a folder of pictures (the first that the dense model has)"),
}
SPELLED = {"overrides": ("override", "GLOB=RATIO"), "prompts": ("prompt", "TEXT"),  # what can be given several times
           "timesteps": ("timestep", "STEP"), "losses": ("loss", "NAME=WEIGHT")}
OF_CALIBRATION = "calibration-"


def spelled(name: str) -> tuple[str, str]:
    """A flag's name on the command line, and what stands for its value in the help."""
    if name.startswith(OF_CALIBRATION):
        option, value = spelled(name.removeprefix(OF_CALIBRATION))
        return OF_CALIBRATION + option, value
    return SPELLED.get(name, (name, name.upper()))


def add(parser: Any, flags: dict[str, Flag]) -> None:
    """Give a parser some flags. What is not given is not in the result."""
    for name, flag in flags.items():
        option, value = spelled(name)
        kind: dict[str, Any] = {"action": "store_true"} if flag.read is bool else {
            "action": "append" if flag.many else "store", "metavar": value}
        parser.add_argument(f"--{option}", dest=name, help=flag.said.replace("%", "%%"), default=argparse.SUPPRESS,
                            **kind)


def counted() -> list[str]:
    """The kinds of unit that ``inspect`` counts."""
    return [kind for kind in UNITS.ordered() if UNITS[kind].counted]


def add_request(parser: argparse.ArgumentParser) -> None:
    """Give a command the arguments of ``pruning.plan``."""
    add(parser.add_argument_group("what to remove"), REQUEST)
    add(parser.add_argument_group("what methods that see data look at"), calibration())
    add(parser.add_argument_group("options of methods"), method_knobs())


def calibration(known: dict[str, Flag] = CALIBRATION) -> dict[str, Flag]:
    """The arguments of ``Calibration`` as flags."""
    return {OF_CALIBRATION + name: flag for name, flag in known.items()}


def asked() -> dict[str, Flag]:
    """Every flag of ``add_request``."""
    return REQUEST | calibration() | method_knobs()


def method_knobs() -> dict[str, Flag]:
    """The knobs of all methods as flags; a method refuses those that it does not have."""
    flags: dict[str, Flag] = {}
    for method, part in sorted(METHODS.items()):
        for knob in knobs(part):
            choices = f": {', '.join(knob.metadata['choices'])}" if knob.metadata["choices"] else ""
            text = f"{method}: {knob.metadata['help']}{choices} ({knob.default})"
            flags[knob.name] = Flag(str, f"{flags[knob.name].said}; {text}" if knob.name in flags else text)
    return flags


def given(args: argparse.Namespace, flags: dict[str, Flag]) -> dict[str, Any]:
    """The flags that were given, as values.

    Raises:
        Refused: a value cannot be read.
    """
    values = {}
    for name, flag in flags.items():
        if hasattr(args, name):
            text = getattr(args, name)
            values[name] = tuple(read(name, flag.read, one) for one in text) if flag.many else read(
                name, flag.read, text)
    return values


def read(name: str, kind: Callable[[str], Any], text: str) -> Any:
    """A value of a kind, or a refusal that says what would be one."""
    try:
        return kind(text)
    except ValueError:
        what = "a whole number, such as 4" if kind is int else "a number, such as 0.5"
        raise Refused(f"{name} cannot be {text!r}.", f"It is {what}.") from None


def request(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``pruning.plan``."""
    values = given(args, asked())
    if values.get("protect") == ("none",):
        values["protect"] = ()
    pairs = [text.rpartition("=") for text in values.pop("overrides", ())]
    if wrong := [ratio for glob, _, ratio in pairs if not glob]:
        raise Refused(f"override cannot be {wrong[0]!r}.", "It reads GLOB=RATIO, such as 'mid_block*=0.2'.")
    for name in calibration():
        values.pop(name, None)
    if looked := looked_at(args):
        values["calibration"] = Calibration(**{"source": "", **looked})
    values["overrides"] = {glob: read(f"override {glob}", float, ratio) for glob, _, ratio in pairs}
    return values


def looked_at(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``Calibration`` that were given."""
    return {name.removeprefix(OF_CALIBRATION): value for name, value in given(args, calibration()).items()}


def recovery(args: argparse.Namespace, mentor: Subject) -> Recovery:
    """The options of ``pruning.recover``; of ``mentor``'s samples, as many as there are unless some number is given."""
    values, looked = given(args, {name: flag for name, flag in TRAIN.items() if name != "component"}), looked_at(args)
    if looked:
        shown = Calibration(**{"source": "", **looked})
        source = shown.source or samples.first(mentor, shown)
        values["calibration"] = replace(shown, source=source, samples=looked.get("samples", many(source)))
    if "losses" in values:
        pairs = [text.partition("=") for text in values["losses"]]
        values["losses"] = tuple((name, read(f"loss {name}", float, weight or "1")) for name, _, weight in pairs)
    return Recovery(**values)
