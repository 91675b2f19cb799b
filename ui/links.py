"""The page's state as the part of a link behind the question mark, and back.

Only what differs from the first paint is written, so links stay short. What is read comes from strangers: every value
is checked here, save for names that the page has to look up anyway (model, component, layer). Knows no gradio. The
page has one prompt and no size of its own, and links say nothing of them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, replace
from math import isfinite
from operator import attrgetter
from reprlib import repr as shortened
from typing import Any, NamedTuple
from urllib.parse import urlencode

from pruning.criteria import METHODS
from pruning.drawing.samplers import SAMPLERS
from pruning.errors import Refused
from pruning.models.sources import BUNDLED
from pruning.planning.request import pattern_ratio, usual
from pruning.registry import checked, knobs
from pruning.spreads import SPREADS
from pruning.spreads.amount import OF
from pruning.spreads.granularity import MULTIPLES, ROUNDINGS
from pruning.types import Calibration, Recipe, Shot
from pruning.units import UNITS

TABS = ("compare", "importance", "masks", "blocks", "recover", "speed", "report")
PATTERNS = ("2:4", "1:4", "4:8")
MOST = {"steps": 50, "guidance": 10, "images": 4}  # what one drawing on the page may ask for
SEEDS = (1 << 31) - 1
PLAIN = ":,*/="  # what a value may hold unescaped, so that people can read it
OPTION = "option."


@dataclass(frozen=True)
class Address:
    """What a link stands for."""

    recipe: Recipe
    shot: Shot
    tab: str = TABS[0]
    layer: str = ""
    present: bool = False


START = Address(Recipe(BUNDLED[0], "unet", options=(("norm", "l1"),), ratio=0.3),
                Shot("red heart on a blue background", seed=7))


# Kinds of values.


class Kind(NamedTuple):
    """How a value is written, how it is read (ValueError where it cannot be), and what would have worked."""

    write: Callable[[Any], str]
    read: Callable[[str], Any]
    works: str = ""


def one_of(names: tuple[str, ...]) -> Kind:
    """One of a few names."""
    return Kind(str, lambda text: names[names.index(text)], f"Choose one of {', '.join(names)}.")


def number(kind: Callable[[str], float], low: float, high: float) -> Kind:
    """A number between two others."""

    def within(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:  # so that NaN is refused
            raise ValueError(text)
        return value

    whole = "a whole number" if kind is int else "a number"
    return Kind(brief, within, f"It is {whole} from {low} to {high}.")


def brief(value: float) -> str:
    """A number in the fewest digits that say it exactly."""
    return repr(value).removesuffix(".0")


def share(text: str) -> float:
    """A ratio."""
    value = float(text)
    if not 0 <= value < 1:
        raise ValueError(text)
    return value


def parts(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def overrides(text: str) -> tuple[tuple[str, float], ...]:
    """GLOB=RATIO between commas."""
    pairs = [part.rpartition("=") for part in parts(text)]
    if not all(glob for glob, _, _ in pairs):
        raise ValueError(text)
    return tuple((glob, share(ratio)) for glob, _, ratio in pairs)


def looks(calibration: Calibration | None) -> str:
    """What a method looks at, as JSON of whatever is not as usual."""
    usual = Calibration()
    return json.dumps({name: value for name, value in asdict(calibration or usual).items()
                       if value != getattr(usual, name)}, separators=(",", ":"))


def looked(text: str) -> Calibration | None:
    """The calibration that ``looks`` wrote. Folders are nobody else's business."""
    given = json.loads(text)
    if not isinstance(given, dict) or given.get("source", "bundled") not in ("bundled", "generated", "noise"):
        raise ValueError(text)
    try:
        known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value
                                 for name, value in given.items()}
        read = Calibration(**known)
        return None if read == Calibration() else read
    except TypeError:
        raise ValueError(text) from None


def lone(prompts: tuple[str, ...]) -> str:
    """The prompt; the page has one."""
    (prompt,) = prompts
    return prompt


def method(text: str) -> str:
    """A method's name; the registry refuses others and names the choices."""
    METHODS.make(text, {})
    return text


def option(knob: Field) -> Kind:
    """A method's own option."""

    def read(text: str) -> Any:
        value = checked(knob, text)
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(text)
        return value

    return Kind(lambda value: value if isinstance(value, str) else brief(value), read, f"{knob.default!r} works.")


TEXT = Kind(str, str)
GLOBS = Kind(",".join, parts)
SHARE = Kind(brief, share, "It is the share to remove, from 0 up to but not including 1, such as 0.3.")
OVERRIDES = Kind(lambda pairs: ",".join(f"{glob}={brief(ratio)}" for glob, ratio in pairs), overrides,
                 "It reads GLOB=RATIO, such as mid_block*=0.2, with commas between several.")
PROMPT = Kind(lone, lambda text: (text,))
YES = Kind(lambda value: str(int(value)), lambda text: bool(("0", "1").index(text)), "Choose 0 or 1.")

LOOKS = Kind(looks, looked, 'It reads like {"samples": 8}.')

KEYS: dict[str, tuple[str, Kind]] = {  # key -> where it goes, and its kind; links are written in this order
    "model": ("recipe.model", TEXT),
    "component": ("recipe.component", TEXT),
    "units": ("recipe.units", one_of(tuple(UNITS.ordered()))),
    "pattern": ("recipe.pattern", one_of(PATTERNS)),
    "method": ("recipe.method", Kind(str, method)),
    "ratio": ("recipe.ratio", SHARE),
    "of": ("recipe.of", one_of(tuple(OF))),
    "spread": ("recipe.spread", one_of(tuple(SPREADS.ordered()))),
    "protect": ("recipe.protect", GLOBS),
    "only": ("recipe.only", GLOBS),
    "overrides": ("recipe.overrides", OVERRIDES),
    "most": ("recipe.most", number(float, 0.05, 1)),
    "update": ("recipe.update", YES),
    "rounding": ("recipe.rounding", one_of(tuple(ROUNDINGS))),
    "multiple": ("recipe.multiple", Kind(str, lambda text: MULTIPLES[tuple(map(str, MULTIPLES)).index(text)],
                                         f"Choose one of {', '.join(map(str, MULTIPLES))}.")),
    "calibration": ("recipe.calibration", LOOKS),
    "prune-seed": ("recipe.seed", number(int, 0, SEEDS)),
    "prompt": ("shot.prompts", PROMPT),
    "negative": ("shot.negative", TEXT),
    "seed": ("shot.seed", number(int, 0, SEEDS)),
    "steps": ("shot.steps", number(int, 1, MOST["steps"])),
    "guidance": ("shot.guidance", number(float, 1, MOST["guidance"])),
    "sampler": ("shot.sampler", one_of(tuple(SAMPLERS))),
    "images": ("shot.images", number(int, 1, MOST["images"])),
    "tab": ("tab", one_of(TABS)),
    "layer": ("layer", TEXT),
    "present": ("present", YES),
}


# Links.


def query(recipe: Recipe, shot: Shot, *, tab: str = TABS[0], layer: str = "", present: bool = False) -> str:
    """What stands behind the question mark: whatever differs from the page's first paint."""
    here, usual = values(Address(recipe, shot, tab, layer, present)), values(begun(recipe.method, recipe.pattern))
    told = {key: kind.write(here[key]) for key, kind in kinds_of(recipe.method).items()
            if key in here and here[key] != usual[key]}
    return urlencode(told, safe=PLAIN, errors="replace")


def read(given: Mapping[str, str]) -> Address:
    """The address that ``query`` wrote. Keys that are not ours are passed over; links pick up such on their way.

    Raises:
        Refused: a value cannot be; the sentence names it and what would work.
    """
    wanted = value_of("method", KEYS["method"][1], given.get("method", START.recipe.method))
    kinds = kinds_of(wanted)
    for key in given:
        if key.startswith(OPTION) and key not in kinds:
            named = ", ".join(key for key in kinds if key.startswith(OPTION)) or "none"
            raise Refused(f"A link cannot say {shortened(key)}: {wanted} has no such option.", f"It has: {named}.")
    found = {key: value_of(key, kind, given[key]) for key, kind in kinds.items() if key in given}
    return assembled(values(begun(wanted, patterned(found))) | found)


def patterned(found: dict[str, Any]) -> str | None:
    """The pattern; it, the kind of units and the ratio have to say the same."""
    pattern = found.get("pattern")
    if not pattern:
        if found.get("units") == "nm":
            raise Refused("A link with units=nm needs a pattern.", f"Add pattern={PATTERNS[0]}.")
        return None
    if (units := found.setdefault("units", "nm")) != "nm":
        raise Refused(f"A link cannot say both units={units} and pattern={pattern}.", "A pattern goes with units=nm.")
    pattern_ratio(pattern, found.get("ratio"))
    return pattern


def value_of(key: str, kind: Kind, text: str) -> Any:
    """One value, or a refusal."""
    try:
        return kind.read(text)
    except (ValueError, OverflowError) as error:
        raise Refused(f"{key} cannot be {shortened(text)} in a link.", getattr(error, "remedy", kind.works)) from None


def begun(method: str, pattern: str | None) -> Address:
    """The first paint with the ways and options of a method and the ratio of a pattern, which links need not say."""
    options = tuple((knob.name, knob.default) for knob in knobs(METHODS[method]))
    ratio = pattern_ratio(pattern, None) if pattern else START.recipe.ratio
    ways = usual(METHODS[method])
    return replace(START, recipe=replace(START.recipe, options=options, ratio=ratio, **ways))


def kinds_of(method: str) -> dict[str, Kind]:
    """Every key that a link may have under a method, in order: its options come right behind it."""
    options = {f"{OPTION}{knob.name}": option(knob) for knob in knobs(METHODS[method])}
    kinds: dict[str, Kind] = {}
    for key, (_, kind) in KEYS.items():
        kinds |= {key: kind} | (options if key == "method" else {})
    return kinds


def values(address: Address) -> dict[str, Any]:
    """An address as one value a key."""
    found = {key: attrgetter(path)(address) for key, (path, _) in KEYS.items()}
    found["calibration"] = None if found["calibration"] == Calibration() else found["calibration"]
    return found | {f"{OPTION}{name}": value for name, value in address.recipe.options}


def assembled(found: dict[str, Any]) -> Address:
    """The address of all values: what ``values`` took apart."""
    made: dict[str, dict[str, Any]] = {"recipe": {}, "shot": {}, "": {}}
    for key, (path, _) in KEYS.items():
        owner, _, field = path.rpartition(".")
        made[owner][field] = found[key]
    options = tuple((key.removeprefix(OPTION), value) for key, value in found.items() if key.startswith(OPTION))
    return Address(Recipe(options=options, **made["recipe"]), Shot(**made["shot"]), **made[""])
