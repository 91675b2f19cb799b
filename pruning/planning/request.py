"""A request: every value checked against the method and the model."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from pruning.calibration import samples
from pruning.criteria import METHODS
from pruning.decisions.pattern import parse_pattern
from pruning.errors import Later, Refused
from pruning.network.notes import source_of
from pruning.network.subject import Subject, subject
from pruning.registry import knobs
from pruning.spreads import SPREADS
from pruning.spreads.amount import OF
from pruning.spreads.granularity import MULTIPLES, ROUNDINGS
from pruning.types import DEFAULT_PROTECT, OVERRIDES, Calibration, Recipe, globs, pairs, share
from pruning.units import UNITS
from pruning.units.catalog import find
from pruning.units.unit import LATER, single
from pruning.values import flag, number, real, told, whole

MOST = "It is the largest share that any one layer may lose, above 0 and up to 1."


def request(pipe: Any, method: str = "magnitude", ratio: float | None = None, *, component: str | None = None,
            units: str | None = None, pattern: str | None = None, of: str = "units", spread: str | None = None,
            protect: tuple[str, ...] | None = None, only: tuple[str, ...] = (),
            overrides: Mapping[str, float] | None = None, calibration: Calibration | None = None, seed: int = 0,
            most: float = 1.0, update: bool = False, rounding: str | None = None, multiple: int = 1,
            **options: Any) -> Recipe:
    """The recipe of a call, every value checked. None is what is usual for the method.

    Raises:
        Refused: a value cannot be; the sentence names what would work.
    """
    criterion = METHODS.make(method, options)
    ways = usual(criterion) | {key: value for key, value in (
        ("units", units), ("spread", spread), ("protect", protect)) if value is not None}
    units, spread = ways["units"] if pattern is None else "nm", ways["spread"]
    _check_kinds(method, criterion, units, of, spread)
    if pattern is not None:
        ratio = pattern_ratio(pattern, ratio)
    elif units == "nm":
        raise Refused("Units of kind 'nm' need a pattern.", 'Give pattern="2:4", "1:4" or "4:8".')
    if rounding is None:
        rounding = ways["rounding"] if SPREADS[spread].alone and of == "units" else "nearest"
    _check_widths(units, of, spread, rounding, multiple)
    most, update = number("most", most, 0, 1, MOST), flag("update", update)
    if most == 0:
        raise Refused("most cannot be 0.", MOST)
    if update and not single(units):
        raise Refused(f"Weights are adjusted where single ones go, not {units} units.",
                      "Leave update out, or choose units weight or nm.")
    if ratio is None:
        raise Refused("The ratio is missing.", "Give the share to remove, from 0 up to but not including 1.")
    ratio = share("The ratio", ratio)
    if overrides is not None and not isinstance(overrides, Mapping):
        raise Refused(f"overrides cannot be {told(overrides)}.", OVERRIDES)
    own = {glob: share(f"The ratio for {glob}", value)
           for glob, value in pairs("overrides", overrides or {}, OVERRIDES)}
    seed = whole("seed", seed)
    if units == "nm" and own:
        raise Refused("N:M removes the same share everywhere, so overrides do not apply.", "Use protect or only.")
    if units == "nm" and (of != "units" or SPREADS[spread].sees != "weights" or most < 1):
        raise Refused("N:M removes the same share everywhere.", "Leave of, spread and most as they are.")
    looked_at = subject(pipe, component, seed)
    if units == "channel":
        looked_at.check_streams()
    protect, only = globs("protect", ways["protect"]), globs("only", only)
    fitting(looked_at, {"overrides": (*own,), "only": only,
                        "protect": tuple(glob for glob in protect if glob not in DEFAULT_PROTECT)})
    calibration = _looks(looked_at, method, criterion, update, spread, calibration)
    set_options = tuple((f.name, getattr(criterion, f.name)) for f in knobs(type(criterion)))
    return Recipe(source_of(pipe), looked_at.component, method, set_options, units, pattern, ratio, of, spread,
                  protect, only, tuple(sorted(own.items())), calibration, seed, most, update, rounding, multiple)


def _check_kinds(method: str, criterion: Any, units: Any, of: Any, spread: Any) -> None:
    """Refuse units, amounts and spreads that there are not, or that do not go together."""
    if not isinstance(units, str) or units not in (*UNITS, *LATER):
        raise Refused(f"There are no units of kind {told(units)}.", f"Choose one of {', '.join(UNITS.ordered())}.")
    if units in LATER:
        raise Later(f"units={units!r}")
    if units not in criterion.units:
        raise Refused(f"{method} does not score {units}.", f"It scores {', '.join(criterion.units)}.")
    if not isinstance(of, str) or of not in OF:
        raise Later('of="ms"') if isinstance(of, str) and of == "ms" else Refused(
            f"A ratio cannot be a share of {told(of)}.", f"Choose one of {', '.join(OF)}.")
    if not isinstance(spread, str) or spread not in SPREADS:
        raise Refused(f"There is no spread {told(spread)}.", f"Choose one of {', '.join(SPREADS.ordered())}.")
    if refusal := SPREADS[spread]().refuses(units):
        raise refusal


def _looks(looked_at: Subject, method: str, criterion: Any, update: bool, spread: str,
           calibration: Any) -> Calibration | None:
    """The calibration that a request needs, settled on its component; None where it sees no data.

    Raises:
        Refused: there is nothing that the component can be shown, or the calibration cannot be.
    """
    calibration = Calibration.of(calibration)
    needs = [(method, sees(criterion)), ("Adjusting weights", "inputs" if update else "weights"),
             (f"The spread by {spread}", SPREADS[spread].sees)]
    for what, kind in needs:
        if reason := samples.why_not(looked_at, kind):
            raise Refused(f"{what} has to see data. {reason}", "Choose a method that sees weights alone.")
    blind = all(kind == "weights" for _, kind in needs)
    return None if blind else samples.settled(looked_at, calibration)


def _check_widths(units: str, of: str, spread: str, rounding: Any, multiple: Any) -> None:
    """Refuse what cannot be said of whole units, or would say nothing."""
    if not isinstance(rounding, str) or rounding not in ROUNDINGS:
        raise Refused(f"There is no rounding {told(rounding)}.", f"Choose one of {', '.join(ROUNDINGS)}.")
    if not real(multiple) or multiple not in MULTIPLES:
        raise Refused(f"Widths cannot be multiples of {told(multiple)}.",
                      f"Choose one of {', '.join(map(str, MULTIPLES))}.")
    if single(units) and (rounding != "nearest" or multiple > 1):
        raise Refused(f"Rounding is for whole channels, neurons and heads, not for {units} units.",
                      "Leave rounding and multiple as they are, or choose units channel or width.")
    if rounding != "nearest" and not (SPREADS[spread].alone and of == "units"):
        raise Refused(f"The {rounding} rounding is for a share of each layer's own units.",
                      'Leave of and spread as they are, or choose rounding="nearest".')


def usual(criterion: Any) -> dict[str, Any]:
    """What a method is asked with where nothing is said."""
    units = criterion.units[0]
    return {"units": units, "spread": "layer", "protect": DEFAULT_PROTECT, "rounding": "nearest",
            **getattr(criterion, "usual", {})}


def sees(criterion: Any) -> str:
    """What a criterion looks at: weights, inputs or gradients."""
    return getattr(criterion, "sees", "weights")


def fitting(looked_at: Subject, given: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse globs that fit no layer of the component, whatever units are asked for: a slip that would go unseen."""
    if not any(given.values()):
        return
    layers = {site.module for units in UNITS if UNITS[units].counted
              for site in find(looked_at.net, units)}
    for name, globs_ in given.items():
        for glob in globs_ if layers else ():
            if glob not in layers and not any(fnmatchcase(layer, glob) for layer in layers):
                raise Refused(f"{looked_at.label} has no layer that fits {glob!r} in {name}.",
                              f"It has {', '.join(nearest(glob, layers))}.")


def nearest(glob: str, layers: Collection[str]) -> list[str]:
    """A few globs that do fit layers, like one that does not; just some, where none is like it."""
    groups = {layer.rsplit(".", depth)[0]: None for layer in sorted(layers) for depth in range(layer.count(".") + 1)}
    near = get_close_matches(glob.strip("*."), groups, 3) or [name for name in groups if "." not in name][:3]
    return [name if name in layers else f"{name}.*" for name in near]


def pattern_ratio(pattern: Any, ratio: Any) -> float:
    """1 - N/M, which a given ratio must equal.

    Raises:
        Refused: the pattern is none, or the ratio is another.
    """
    n, m = parse_pattern(pattern)
    if ratio is not None:
        asked = number("The ratio", ratio, 0, 1, "Leave it out: the pattern says it.")
        if abs(asked - (1 - n / m)) > 1e-6:
            raise Refused(f"{pattern} removes {1 - n / m:.4g}, not {asked:.4g}.",
                          "Leave the ratio out, or give exactly that.")
    return 1 - n / m
