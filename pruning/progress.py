"""Long work is a generator: it yields how far it is, returns what came of it, and stops when it is closed."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Looked:
    """How far some work is, and what it is doing."""

    done: int
    of: int
    what: str = "looking at data"


def drained(work: Generator[Any, None, T], tell: Callable[[Any], None] = lambda event: None) -> T:
    """What a generator returns; its events are told on the way."""
    while True:
        try:
            tell(next(work))
        except StopIteration as done:
            return done.value
