"""A request resolved on one model: score, divide the ratio, write down what goes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pruning.criteria import CRITERIA
from pruning.errors import Later, Refused
from pruning.registry import knobs
from pruning.scores import Scores, collect
from pruning.spread import SPREADS, decide, parse_pattern
from pruning.subject import Subject, fingerprint, plan_of, source_of, subject
from pruning.types import DEFAULT_PROTECT, UNITS, Calibration, Plan, PlanStep, Recipe
from pruning.units.catalog import FINDERS, catalog


def request(pipe: Any, method: str = "magnitude", ratio: float | None = None, *, component: str | None = None,
            units: str = "weight", pattern: str | None = None, of: str = "units", spread: str = "layer",
            protect: tuple[str, ...] = DEFAULT_PROTECT, only: tuple[str, ...] = (),
            overrides: Mapping[str, float] | None = None, calibration: Calibration | None = None, seed: int = 0,
            **options: Any) -> Recipe:
    """The recipe of a call, every value checked.

    Raises:
        Refused: a value cannot be; the sentence names what would work.
    """
    criterion = CRITERIA.make(method, options)
    if pattern is not None:
        units, ratio = "nm", pattern_ratio(pattern, ratio)
    elif units == "nm":
        raise Refused("Units of kind 'nm' need a pattern.", 'Give pattern="2:4", "1:4" or "4:8".')
    if units not in UNITS:
        raise Refused(f"There are no units of kind {units!r}.", f"Choose one of {', '.join([*FINDERS, 'width'])}.")
    if units not in (*FINDERS, "width"):
        raise Later(f"units={units!r}")
    if units not in criterion.units:
        raise Refused(f"{method} does not score {units}.", f"It scores {', '.join(criterion.units)}.")
    if of != "units":
        raise Later(f"of={of!r}") if of in ("params", "macs", "ms") else Refused(
            f"A ratio cannot be a share of {of!r}.", "Choose units.")
    if spread not in SPREADS:
        raise Later(f"spread={spread!r}") if spread in ("row", "isomorphic", "sensitivity") else Refused(
            f"There is no spread {spread!r}.", f"Choose one of {', '.join(SPREADS)}.")
    for glob, share in {"ratio": ratio, **(overrides or {})}.items():
        if share is None:
            raise Refused("The ratio is missing.", "Give the share to remove, from 0 up to but not including 1.")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise Refused(f"{'The ratio' if glob == 'ratio' else f'The ratio for {glob}'} cannot be {share!r}.",
                          "It is the share to remove, from 0 up to but not including 1, such as 0.5.")
    if not 0 <= seed < 1 << 31:
        raise Refused(f"seed cannot be {seed}.", f"It runs from 0 to {(1 << 31) - 1}.")
    if units == "nm" and overrides:
        raise Refused("N:M removes the same share everywhere, so overrides do not apply.", "Use protect or only.")
    looked_at = subject(pipe, component, seed)
    set_options = tuple((f.name, getattr(criterion, f.name)) for f in knobs(type(criterion)))
    assert ratio is not None  # the loop above refused a missing one
    return Recipe(source_of(pipe), looked_at.component, method, set_options, units, pattern, float(ratio), of, spread,
                  globs(protect), globs(only), tuple(sorted((overrides or {}).items())), calibration, seed)


def globs(given: str | Iterable[str]) -> tuple[str, ...]:
    """Globs, of which a lone one may be a plain string."""
    return (given,) if isinstance(given, str) else tuple(given)


def pattern_ratio(pattern: str, ratio: float | None) -> float:
    """1 - N/M, which a given ratio must equal."""
    n, m = parse_pattern(pattern)
    if ratio is not None and (isinstance(ratio, bool) or not isinstance(ratio, int | float)):
        raise Refused(f"The ratio cannot be {ratio!r}.", "Leave it out: the pattern says it.")
    if ratio is not None and not abs(ratio - (1 - n / m)) <= 1e-6:  # so that NaN is refused
        raise Refused(f"{pattern} removes {1 - n / m:.4g}, not {ratio:.4g}.",
                      "Leave the ratio out, or give exactly that.")
    return 1 - n / m


def scored(pipe: Any, recipe: Recipe, progress: Callable[[int, int], None] | None = None) -> Scores:
    """Scores for a recipe; they do not depend on its ratio, spread or protection."""
    looked_at: Subject = subject(pipe, recipe.component, recipe.seed)
    sites = catalog(looked_at.net, recipe.units, looked_at.example, looked_at.label)
    return collect(looked_at, sites, CRITERIA.make(recipe.method, dict(recipe.options)), recipe.calibration, progress)


def resolved(pipe: Any, recipe: Recipe, scores: Scores) -> Plan:
    """The plan: the pipeline's own steps so far, and this one.

    Raises:
        Refused: the scores are of another model or component, or the ratio removes nothing.
    """
    net = subject(pipe, recipe.component).net
    if scores.subject.net is not net and fingerprint(scores.subject.net) != fingerprint(net):
        raise Refused("These scores were taken on another model or component.", "Score this one.")
    if recipe.units != scores.catalog.units:
        raise Refused(f"These scores are of {scores.catalog.units}, not of {recipe.units}.", "Score those units.")
    taken = (scores.criterion, scores.calibration, scores.subject.seed)
    if taken != (CRITERIA.make(recipe.method, dict(recipe.options)), recipe.calibration, recipe.seed):
        raise Refused("These scores were taken with another method, option, calibration or seed.",
                      "Plan with those that the scores were taken with, or score again.")
    arch, weights = fingerprint(net)
    before = plan_of(pipe)
    return Plan((*(before.steps if before else ()), PlanStep(recipe, arch, weights, decide(scores, recipe))))
