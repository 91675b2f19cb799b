"""The frozen nouns that pass between the parts. Small, hashable, and JSON where they leave the process."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self

from pruning.errors import Refused

SCHEMA = 1  # of plan.json
DEFAULT_PROTECT = ("conv_in", "conv_out", "proj_out", "*embed*", "*label_emb*")
UNITS = ("weight", "nm", "head", "neuron", "channel", "modulation", "width", "layer", "block")
Kind = Literal["threshold", "pattern", "keep", "layout", "bits", "recovered"]


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Calibration:
    """What a criterion that looks at data is shown. Ratios and seeds of a plan do not change it."""

    prompts: tuple[str, ...] = ()
    samples: int = 16
    timesteps: tuple[int, ...] = ()
    guidance: float = 0.0
    seed: int = 0
    source: str = "bundled"


@dataclass(frozen=True)
class Recipe:
    """A request: what to remove from which component, how it is chosen, and how much. The cache key, the URL."""

    model: str = ""
    component: str = ""
    method: str = "magnitude"
    options: tuple[tuple[str, Any], ...] = ()
    units: str = "weight"
    pattern: str | None = None
    ratio: float = 0.0
    of: str = "units"
    spread: str = "layer"
    protect: tuple[str, ...] = DEFAULT_PROTECT
    only: tuple[str, ...] = ()
    overrides: tuple[tuple[str, float], ...] = ()
    calibration: Calibration | None = None
    seed: int = 0
    most: float = 1.0  # of any one layer, at most this share goes, and never all
    update: bool = False  # whether the weights that stay make up for those that go (OBS)
    rounding: str = "nearest"  # how a layer's share becomes whole units; see ``room``
    multiple: int = 1  # widths that stay are multiples of it where they can be

    @property
    def scoring(self) -> Self:
        """The part of the request that scores depend on; moving the ratio leaves it as it was."""
        blank: dict[str, Any] = {f.name: f.default for f in fields(self) if f.name in (
            "ratio", "of", "spread", "protect", "only", "overrides", "pattern", "most", "update", "rounding",
            "multiple")}
        return replace(self, **blank)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for the request."""
        return digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The recipe that ``to_dict`` wrote.

        Raises:
            Refused: a key is unknown.
        """
        unknown = set(value) - {f.name for f in fields(cls)}
        if unknown:
            raise Refused(f"This recipe has unknown parts: {', '.join(sorted(unknown))}.",
                          "It may come from a newer version.")
        calibration = value.get("calibration")
        pairs = {key: tuple((str(k), v) for k, v in value[key]) for key in ("options", "overrides") if key in value}
        lists: dict[str, Any] = {key: tuple(value[key]) for key in ("protect", "only") if key in value}
        if calibration is not None:
            lists["calibration"] = Calibration(**{**calibration, "prompts": tuple(calibration["prompts"]),
                                                  "timesteps": tuple(calibration["timesteps"])})
        return cls(**{**value, **pairs, **lists})


@dataclass(frozen=True)
class Decision:
    """What goes, in the smallest form that can be resolved again on the same model.

    ``sites`` maps a site's name to
    - ``threshold``: ``[key, kept, gone]`` where a weight goes when its key (the bits of its float32 score) is below,
      and of the weights exactly at it the last ``kept`` in storage order stay; ``gone`` go in all;
    - ``pattern``: ``"N:M"``, N kept of each M neighbours along the inputs;
    - ``bits``: ``[digest, gone]`` of a mask in ``tensors``, (bytes,) uint8, eight weights a byte, set where they stay;
    - ``recovered``: ``[before, after]``, the relative output error of a layer whose weights were adjusted; or, where
      the component was trained, under ``""`` alone: ``steps``, the denoiser's error ``before`` and ``after``, and how;
    - ``keep``: ``[[start, stop], ...]``, the half-open index ranges of the units that stay.
    """

    kind: Kind
    sites: Mapping[str, Any]
    tensors: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class PlanStep:
    """One recipe resolved on one model: the model's fingerprints before the step, and the decision."""

    recipe: Recipe
    arch: str
    weights: str
    decision: Decision


@dataclass(frozen=True)
class Plan:
    """Ordered steps. Refused on a model that they were not resolved on."""

    steps: tuple[PlanStep, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe of the last step."""
        return self.steps[-1].recipe

    @property
    def decided(self) -> PlanStep:
        """The last step that says what goes, or the first where nothing does; recovering what stays comes after it."""
        return next((step for step in reversed(self.steps) if step.decision.kind != "recovered"), self.steps[0])

    @property
    def trained(self) -> tuple[Mapping[str, Any], ...]:
        """What is noted of trainings since the last step that says what goes."""
        after = self.steps[self.steps.index(self.decided):]
        return tuple(step.decision.sites[""] for step in after
                     if step.decision.kind == "recovered" and "" in step.decision.sites)

    @property
    def tensors(self) -> dict[str, Any]:
        """The masks that do not fit JSON, for the file beside it: ``"step site"`` to packed bits."""
        return {f"{i} {name}": bits for i, step in enumerate(self.steps)
                for name, bits in step.decision.tensors.items()}

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for the steps."""
        return digest(self._steps())

    def _steps(self) -> list[dict[str, Any]]:
        return [{"recipe": s.recipe.to_dict(), "arch": s.arch, "weights": s.weights,
                 "decision": {"kind": s.decision.kind, "sites": dict(s.decision.sites)}} for s in self.steps]

    def to_json(self) -> str:
        """The plan as text."""
        body = {"prunescope": SCHEMA, "digest": self.digest, "steps": self._steps()}
        return json.dumps(body, indent=1)

    @classmethod
    def from_json(cls, text: str, tensors: Mapping[str, Any] | None = None) -> Self:
        """The plan that ``to_json`` wrote; ``tensors`` are those of the file beside it, if there is one.

        Raises:
            Refused: the text is not a plan, is of a newer version, or was changed since it was written.
        """
        try:
            body = json.loads(text)
            schema, written, steps = (body[key] for key in ("prunescope", "digest", "steps"))
            if schema != SCHEMA:
                raise Refused(f"This plan has version {schema}; this Prunescope reads version {SCHEMA}.",
                              "Make it again from its recipe.")
            beside = [(key.partition(" "), bits) for key, bits in (tensors or {}).items()]
            plan = cls(tuple(PlanStep(Recipe.from_dict(s["recipe"]), s["arch"], s["weights"], Decision(
                s["decision"]["kind"], s["decision"]["sites"],
                {name: bits for (step, _, name), bits in beside if step == str(i)})) for i, s in enumerate(steps)))
            actual = digest(steps)  # of what is written: a recipe of an older version has fewer parts
        except Refused:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise Refused("This is not a Prunescope plan, or it is cut short.",
                          "Make it again with pruning.plan or `python -m pruning plan`.") from error
        if actual != written:
            raise Refused("This plan was changed after it was written: its digest does not fit.",
                          "Make it again from its recipe instead of editing it.")
        if not plan.steps:
            raise Refused("This is not a Prunescope plan: it has no steps.",
                          "Make it again with pruning.plan or `python -m pruning plan`.")
        return plan


@dataclass(frozen=True)
class Shot:
    """How to draw. The same shot on the same model gives the same pictures.

    ``prompts`` may be given as one string. ``images`` counts per prompt; image i starts from seed + i.
    """

    prompts: tuple[str, ...] | str = ("",)
    negative: str = ""
    seed: int = 0
    steps: int = 20
    guidance: float = 3.0
    sampler: str = "ddim"
    images: int = 1
    size: int | None = None  # px; None is the model's own

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompts", (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts))
        if not self.prompts:
            raise Refused("There are no prompts.", 'Give one or more; "" is one, too.')
        limits = (("steps", self.steps, 1, 1000), ("images", self.images, 1, 64), ("guidance", self.guidance, 0, 50),
                  ("seed", self.seed, 0, (1 << 31) - 1))
        for name, value, low, high in limits:
            if not low <= value <= high:
                raise Refused(f"{name} cannot be {value}.", f"It runs from {low} to {high}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
