"""Parts that describe themselves: a file adds its class to a table, and the app, the command line and the docs find it.

Knows nothing of pruning.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import MISSING, Field, field, fields, is_dataclass
from math import isfinite
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from pruning import values
from pruning.errors import Refused

Part = TypeVar("Part", bound=type[Any])


def knob(default: Any, help: str, *, low: float | None = None, high: float | None = None, step: float | None = None,
         choices: tuple[str, ...] = ()) -> Any:
    """A field of a part that people turn: a control in the app, a flag on the command line, a row in the docs."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "step": step, "choices": choices})


class Registry(dict[str, Any]):
    """Names to parts. Filled by importing every file of the package that it lives in."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.rules = kind, list[Callable[[str, type], None]]()

    def add(self, name: str) -> Callable[[Part], Part]:
        """Register the class under a name; it must be a frozen dataclass, so that it can be a cache key."""

        def register(part: Part) -> Part:
            if not is_dataclass(part):
                raise TypeError(f"{part.__name__} must be a dataclass")
            for rule in self.rules:
                rule(name, part)
            self[name] = part
            return part

        return register

    def require(self, rule: Callable[[str, type], None]) -> None:
        """Hold all parts, those to come as well, to a rule: it raises a TypeError where one breaks it."""
        for name, part in self.items():
            rule(name, part)
        self.rules.append(rule)

    def ordered(self) -> list[str]:
        """The names in the order of lists, of parts that say their place in it (``order``)."""
        return sorted(self, key=lambda name: self[name].order)

    def fill(self, package: str) -> None:
        """Import the package's files. One that fails to import fails loudly."""
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            importlib.import_module(f"{package}.{module.name}")

    def __missing__(self, name: str) -> type:
        raise Refused(f"No {self.kind} is called {name!r}.", f"There are {', '.join(sorted(self))}.")

    def make(self, name: str, options: dict[str, Any]) -> Any:
        """The part with its options, each checked against its knob.

        Raises:
            Refused: unknown part or option, or a value outside the knob's range.
        """
        part = self[values.text(self.kind, name, f"There are {', '.join(sorted(self))}.")]
        known = {f.name: f for f in knobs(part)}
        for option, value in options.items():
            if option not in known:
                named = ", ".join(known) or "none"
                raise Refused(f"{name} has no option {option!r}.", f"Its options: {named}.")
            options = options | {option: checked(known[option], value)}
        return part(**options)


def knobs(part: type) -> list[Field]:
    """The fields that people turn."""
    return [f for f in fields(part) if "help" in f.metadata]


KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
TAKEN: dict[type, tuple[Any, ...]] = {bool: (str, int, np.bool_), str: (str,)}  # else texts and real numbers
WORDS = {"true": True, "false": False, "1": True, "0": False}


def checked(knob: Field, value: Any) -> Any:
    """The value in the knob's own type, or a refusal that names what would fit. Texts are read, as flags and links are.

    Raises:
        Refused: it is of another kind, or out of range.
    """
    default = None if knob.default is MISSING else knob.default
    choices, low, high = (knob.metadata[key] for key in ("choices", "low", "high"))
    try:
        value = read(type(default), value)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise Refused(f"{knob.name} takes {KINDS.get(type(default), 'another value')}, not {values.told(value)}.",
                      f"{default!r} works.") from None
    if choices and value not in choices:
        raise Refused(f"{knob.name} cannot be {values.told(value)}.", f"Choose one of {', '.join(choices)}.")
    if (low is not None and value < low) or (high is not None and value > high):
        raise Refused(f"{knob.name} cannot be {values.told(value)}.", f"It runs from {low} to {high}.")
    return value


def read(kind: Any, value: Any) -> Any:
    """A value as one of ``KINDS``; a TypeError, ValueError, KeyError or OverflowError where it cannot be one."""
    taken: tuple[Any, ...] = TAKEN.get(kind, (str, Real))
    if not isinstance(value, taken) or (isinstance(value, bool) and kind is not bool):
        raise TypeError
    if kind is bool:
        return WORDS[str(value).lower()]
    if kind is not str and not (isfinite(float(value)) and kind(float(value)) == float(value)):
        raise ValueError
    return kind(value)
