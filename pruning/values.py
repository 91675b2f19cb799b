"""Values as they enter: each in the kind that it should have, or refused in a sentence that says what would work.

Whole numbers may be numpy's, or floats that are whole; numbers any real ones. True and False are no numbers, and texts
are those that can be written to a file. Knows nothing of pruning.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Set
from itertools import islice
from numbers import Integral, Real
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

import numpy as np

from pruning.errors import Refused

T = TypeVar("T")
SEEDS = (1 << 31) - 1  # the largest
MANY = 10_000  # texts in one collection
PLAIN = (type(None), bool, Real, complex, str, bytes, os.PathLike, tuple, list, dict, set, frozenset, range)
ALONE = (str, Real)  # what stands for a collection of itself
UNORDERED = (Mapping, Set, bytes, bytearray)  # what can be iterated over, and is no list of texts or numbers

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80
_short.maxlevel = 2


def told(value: Any) -> str:
    """A value in a sentence: a plain one as Python writes it, cut short; of another, what it is."""
    if isinstance(value, PLAIN):
        try:
            return " ".join(_short.repr(value).split())
        except ValueError:  # a number with more digits than Python writes
            return "a number of thousands of digits"
    kind = value.__name__ if isinstance(value, type) else type(value).__name__
    return f"{'the class' if isinstance(value, type) else 'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def real(value: Any) -> bool:
    """Whether it is a number; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(name: str, value: Any, low: int = 0, high: int = SEEDS) -> int:
    """A whole number.

    Raises:
        Refused: it is something else, or out of range.
    """
    if real(value) and low <= value <= high and (isinstance(value, Integral) or float(value).is_integer()):
        return int(value)
    raise Refused(f"{name} cannot be {told(value)}.", f"It is a whole number from {low} to {high}.")


def number(name: str, value: Any, low: float, high: float, remedy: str = "", *, below: bool = False) -> float:
    """A number; with ``below`` it may not reach ``high``.

    Raises:
        Refused: it is something else, NaN, or out of range.
    """
    if real(value) and low <= value <= high and not (below and value == high):
        return float(value)
    raise Refused(f"{name} cannot be {told(value)}.", remedy or f"It is a number from {low:g} to {high:g}.")


def text(name: str, value: Any, remedy: str = "It is a text.") -> str:
    """A text.

    Raises:
        Refused: it is something else, or has half a character, which no file can hold.
    """
    if isinstance(value, str):
        try:
            value.encode()
            return str(value)
        except UnicodeEncodeError:
            remedy = "It has half of a character that takes two; write it anew."
    raise Refused(f"{name} cannot be {told(value)}.", remedy)


def texts(name: str, value: Any, remedy: str = "Give texts.") -> tuple[str, ...]:
    """Texts in their order, of which a lone one may stand for itself.

    Raises:
        Refused: they are something else, have no order, or are too many.
    """
    found = several(value, MANY + 1)
    if found is None or len(found) > MANY or not all(isinstance(one, str) for one in found):
        raise Refused(f"{name} cannot be {told(value)}.", remedy)
    return tuple(text(name, one, remedy) for one in found)


def several(value: Any, most: int = MANY) -> tuple[Any, ...] | None:
    """What a collection holds, in its order, as far as ``most``; one text or number alone; None of anything else."""
    if type(value) is tuple:  # as nearly always
        return value[:most]
    if isinstance(value, ALONE):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, UNORDERED):
        return None
    try:
        return tuple(islice(value, most))
    except TypeError:  # an array of no dimensions says that it can be iterated over
        return None


def one_of(name: str, value: Any, choices: Collection[str]) -> str:
    """One of a few words.

    Raises:
        Refused: it is none of them; the sentence names them.
    """
    if not isinstance(value, str) or value not in choices:
        raise Refused(f"{name} cannot be {told(value)}.", f"Choose one of {', '.join(choices)}.")
    return str(value)


def flag(name: str, value: Any) -> bool:
    """Yes or no, numpy's as well.

    Raises:
        Refused: it is something else.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise Refused(f"{name} cannot be {told(value)}.", "Choose True or False.")


def instance(name: str, value: Any, kind: type[T], remedy: str) -> T:
    """An object of a class of ours.

    Raises:
        Refused: it is something else.
    """
    if not isinstance(value, kind):
        raise Refused(f"{name} cannot be {told(value)}.", remedy)
    return value


def path(name: str, value: Any, remedy: str = "Give a path as a text or a pathlib.Path.") -> Path:
    """A path that a system could have.

    Raises:
        Refused: it is something else, empty, or has characters that no path has.
    """
    try:
        given = os.fspath(value)
        if isinstance(given, str) and given and b"\0" not in os.fsencode(given):
            return Path(given)
    except TypeError:
        pass
    except UnicodeEncodeError:
        remedy = "It has half of a character that takes two; write it anew."
    raise Refused(f"{name} cannot be {told(value)}.", remedy)
