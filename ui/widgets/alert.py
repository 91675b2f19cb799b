"""What the page says in a line: a refusal, a fault, or that something has stopped."""

from pruning.errors import Refused, in_words, out_of_memory
from ui.plots.markup import tag, text


def alert(error: Refused | str = "") -> str:
    """A refusal near the control that caused it."""
    return tag("p", text(error), class_="alert", role="alert") if str(error) else ""


def hint(words: str) -> str:
    """A line that screen readers hear when it changes."""
    return tag("p", text(words), class_="hint", role="status")


def note(words: str) -> str:
    """The same beside work that goes on, or has just ended."""
    return tag("p", text(words), class_="note", role="status")


def known(error: Exception) -> Refused | None:
    """An error as people read it; None for a fault of ours, which is to be raised again once the page is tidy."""
    if isinstance(error, Refused):
        return error
    return in_words(error) if out_of_memory(error) else None
