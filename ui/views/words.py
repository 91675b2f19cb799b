"""Free prompts meet a small model: which words it does not know, and the nearest names that it can draw."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pruning.metrics.judge import COLOURS

PLAIN = frozenset({"a", "an", "the", "on", "in", "of", "with", "and", "background", "at", "to", "emoji", *COLOURS})


def unknown(prompt: str, vocabulary: Sequence[Mapping[str, Any]]) -> list[str]:
    """The words of a prompt that no name or tag has, in order."""
    known = {word for entry in vocabulary for phrase in (entry["name"], *entry["tags"]) for word in words(phrase)}
    return [word for word in dict.fromkeys(words(prompt)) if word not in known | PLAIN and not word.isdigit()]


def words(phrase: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"\w+(?:[’'-]\w+)*", phrase.lower())


def nearest(word: str, vocabulary: Sequence[Mapping[str, Any]], count: int = 3) -> list[str]:
    """The names that are nearest to a word: by a word of the name or a tag, or by letters."""
    of = {entry["name"]: {w for phrase in (entry["name"], *entry["tags"]) for w in words(phrase)}
          for entry in vocabulary}
    letters = difflib.SequenceMatcher(b=word)  # it remembers the second word
    like: dict[str, float] = {}
    for other in set().union(*of.values()):
        letters.set_seq1(other)
        like[other] = letters.ratio()
    best = {name: max((like[other] for other in others), default=0.0) for name, others in of.items()}
    return sorted(best, key=lambda name: -best[name])[:count]


def replaced(prompt: str, word: str, name: str) -> str:
    """The prompt with a word exchanged for a name."""
    return re.sub(rf"\b{re.escape(word)}\b", name, prompt, count=1, flags=re.IGNORECASE)
