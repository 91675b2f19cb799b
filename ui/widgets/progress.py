"""How far long work is, as the page says it."""

from collections.abc import Generator, Iterator
from time import perf_counter
from typing import Any

from pruning.progress import Looked
from ui.plots.markup import tag, text

EVERY = 0.15  # seconds between two notes


def noted(event: Looked, before: str = "", after: str = "") -> str:
    """How far some work is, in words and as a bar."""
    words = f"{before}{event.what}, {event.done} of {event.of}{after}"
    words = words[0].upper() + words[1:]
    return tag("p", text(words), tag("progress", "", value=event.done, max=event.of, aria_label=words), class_="note",
               role="status")


def paced(work: Iterator[Looked]) -> Iterator[str]:
    """Notes of some work, not more often than people read, with the time that is left once that can be told."""
    last = since = perf_counter()
    what, first = "", 0
    for event in work:
        now = perf_counter()
        if event.what != what:
            what, since, first = event.what, now, event.done
        elif now - last < EVERY and event.done < event.of:
            continue
        last, passed = now, event.done - first
        left = (event.of - event.done) * (now - since) / passed if passed and now - since > 1 else 0
        yield noted(event, after=f", about {left:.0f} s left" if left >= 2 else "")


def kept_in(found: list[Any], work: Generator[Looked, None, Any]) -> Iterator[Looked]:
    """The progress of some work; what it returns is put in the list."""
    found.append((yield from work))
