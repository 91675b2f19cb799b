"""What one visitor may ask for at once. Everything that is typed, sent or drawn has a largest size, named here."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pruning.errors import Refused
from pruning.types import Calibration

PROMPT = 1000  # characters of a prompt; text encoders read the first 77 tokens or so
GLOBS = 64, 200  # patterns on layers: how many, and characters of one
OWN = 4000  # layers with a ratio of their own
TEXT = 16_000  # characters of anything else that is typed: all globs, or the prompts of a calibration
SAMPLES = 64  # samples, prompts or timesteps of a calibration
BODY = 1 << 19  # bytes of a request
PIXELS = 60_000_000  # images x steps x pixels of a drawing on a public page; 50 steps at 1024 px, or 200 at 512
ELSEWHERE = "Duplicate the Space, or run it on your machine, to ask for more."


def request(asked: Mapping[str, Any]) -> None:
    """Refuse a request of more, or longer, globs and samples than anybody needs."""
    for name in ("protect", "only"):
        globs(asked.get(name) or (), name)
    own(asked.get("overrides") or {})
    if looks := asked.get("calibration"):
        calibration(looks)


def own(names: Collection[str]) -> None:
    """Refuse ratios for too many single layers, among them too many patterns, or for a name that is too long."""
    patterns = sum(bool(set(name) & set("*?[")) for name in names)
    for count, most, what in ((len(names), OWN, "layers"), (patterns, GLOBS[0], "patterns")):
        if count > most:
            raise Refused(f"{count:,} {what} have ratios of their own.", f"There can be {most:,}.")
    short(names, "A layer's name")


def globs(given: Iterable[str], name: str) -> None:
    """Refuse too many globs, or one that is too long."""
    found = tuple(given)
    if len(found) > GLOBS[0]:
        raise Refused(f"{name} has {len(found):,} patterns.", f"It takes {GLOBS[0]} at most; * stands for any text.")
    short(found, f"A pattern of {name}")


def short(names: Iterable[str], what: str) -> None:
    """Refuse a name that is too long."""
    longest = max(map(len, names), default=0)
    if longest > GLOBS[1]:
        raise Refused(f"{what} has {longest:,} characters.", f"It may have {GLOBS[1]}.")


def calibration(looks: Calibration) -> None:
    """Refuse too many samples, prompts or timesteps, and prompts that are too long."""
    for what, count in (("samples", looks.samples), ("prompts", len(looks.prompts)),
                        ("timesteps", len(looks.timesteps))):
        if count > SAMPLES:
            raise Refused(f"A calibration of {count:,} {what} is too large for the page.",
                          f"It takes {SAMPLES} at most; the command line and Python take more.")
    for one in looks.prompts:
        prompt(one, "A prompt of the calibration")


def prompt(given: str, what: str = "The prompt") -> None:
    """Refuse a prompt that is too long."""
    if len(given) > PROMPT:
        raise Refused(f"{what} has {len(given):,} characters.", f"It may have {PROMPT:,}.")
