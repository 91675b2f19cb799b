"""The frozen nouns that pass between the parts. Small, hashable, and JSON where they leave the process."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from pruning import values
from pruning.errors import Refused

SCHEMA = 1  # of plan.json
DEFAULT_PROTECT = ("conv_in", "conv_out", "proj_out", "*embed*", "*label_emb*")
RECOVERED = "recovered"  # in plan.json: a step that changed what stays, and removed nothing


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class Noun:
    """A frozen dataclass whose fields are checked where it is made, by ``__post_init__``."""

    def _set(self, **fields_: Any) -> None:
        for name, value in fields_.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _made(cls, value: Any, what: str) -> Self:
        """What a mapping of fields says.

        Raises:
            Refused: it is no mapping, a field is unknown, or its value cannot be.
        """
        if not isinstance(value, Mapping):
            raise Refused(f"{what} cannot be {values.told(value)}.", "Give what to_dict gave.")
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if unknown := [values.told(key).strip("'") for key in value if key not in known]:
            raise Refused(f"{what} has unknown parts: {', '.join(sorted(unknown))}.",
                          "It may come from a newer version.")
        return cls(**value)


@dataclass(frozen=True)
class Calibration(Noun):
    """What a method that sees data is shown. Ratios and seeds of a plan do not change it.

    ``prompts`` may be one text and ``timesteps`` one number; empty, they stand for the model's own prompts and for all
    timesteps evenly. ``samples`` counts pictures (1 to 1024). With a ``guidance`` above 1 (0 to 50) a denoiser is shown
    each sample with its prompt and without. ``source`` is "bundled", "generated", "noise" or a folder of pictures; ""
    is the first that the model has.

    Raises:
        Refused: a value is of another kind or out of range.
    """

    prompts: tuple[str, ...] = ()
    samples: int = 16
    timesteps: tuple[int, ...] = ()
    guidance: float = 0.0
    seed: int = 0
    source: str = "bundled"

    def __post_init__(self) -> None:
        steps = values.several(self.timesteps)
        if steps is None:
            raise Refused(f"The timesteps of a calibration cannot be {values.told(self.timesteps)}.",
                          "Give whole numbers, such as (100, 500).")
        source = str(self.source) if isinstance(self.source, Path) else self.source
        self._set(prompts=values.texts("The prompts of a calibration", self.prompts,
                                       'They are texts, such as ("a cat", "a house").'),
                  samples=values.whole("The samples of a calibration", self.samples, 1, 1024),
                  timesteps=tuple(values.whole("A timestep of a calibration", step) for step in steps),
                  guidance=values.number("The guidance of a calibration", self.guidance, 0, 50),
                  seed=values.whole("The seed of a calibration", self.seed),
                  source=values.text("The source of a calibration", source,
                                     "Choose bundled, generated, noise, or the path of a folder of pictures."))

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """A calibration, or None, as it is; a mapping of its fields as the calibration that it says.

        Raises:
            Refused: it is something else.
        """
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise Refused(f"calibration cannot be {values.told(value)}.",
                          "Give a pruning.Calibration, or leave it out.")
        return cls._made(value, "This calibration")


SHARE = "It is the share to remove, from 0 up to but not including 1, such as 0.5."


def share(name: str, value: Any) -> float:
    """A ratio: 0 to 1, and never all.

    Raises:
        Refused: it is something else.
    """
    return values.number(name, value, 0, 1, SHARE, below=True)


@dataclass(frozen=True)
class Recipe(Noun):
    """A request: what to remove from which component, how it is chosen, and how much. The cache key, the URL.

    The fields are the arguments of ``pruning.plan``, whose docstring says what each means; mappings are taken as pairs.
    Values are checked by kind and range here, and against methods and models by ``pruning.plan``.

    Raises:
        Refused: a value is of another kind or out of range.
    """

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

    def __post_init__(self) -> None:
        names = ("model", "component", "method", "units", "of", "spread", "rounding")
        pattern = None if self.pattern is None else values.text("pattern", self.pattern, 'It reads "2:4".')
        own = tuple((glob, share(f"The ratio for {glob}", ratio))
                    for glob, ratio in pairs("overrides", self.overrides, OVERRIDES))
        self._set(**{name: values.text(name, getattr(self, name)) for name in names}, pattern=pattern,
                  options=tuple((name, plain(name, value)) for name, value in pairs("options", self.options, OPTIONS)),
                  ratio=values.number("The ratio", self.ratio, 0, 1, SHARE),  # while a share is searched, all may go
                  protect=globs("protect", self.protect), only=globs("only", self.only), overrides=own,
                  calibration=Calibration.of(self.calibration), seed=values.whole("seed", self.seed),
                  most=values.number("most", self.most, 0, 1), update=values.flag("update", self.update),
                  multiple=values.whole("multiple", self.multiple, 1))

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
        """The recipe that ``to_dict`` wrote; parts that it leaves out are as usual.

        Raises:
            Refused: it is no mapping, a part is unknown, or its value cannot be.
        """
        return cls._made(value, "This recipe")


def globs(name: str, value: Any) -> tuple[str, ...]:
    """Globs on module names, of which a lone one may be a plain text.

    Raises:
        Refused: they are something else.
    """
    return values.texts(name, value, 'Name layers by globs, such as "mid_block*".')


OVERRIDES = 'It maps globs to ratios, such as {"mid_block*": 0.2}.'
OPTIONS = 'It maps names to values, such as {"norm": "l1"}.'


def pairs(name: str, value: Any, remedy: str) -> tuple[tuple[str, Any], ...]:
    """What a mapping holds, by name, where it may be given as its items.

    Raises:
        Refused: it is something else.
    """
    items = tuple(value.items()) if isinstance(value, Mapping) else values.several(value)
    found = [values.several(item) or () for item in items or ()]
    if items is None or not all(len(pair) == 2 and isinstance(pair[0], str) for pair in found):
        raise Refused(f"{name} cannot be {values.told(value)}.", remedy)
    return tuple((values.text(name, key), own) for key, own in found)


def plain(name: str, value: Any) -> Any:
    """The value of an option: a text, a number, or yes or no.

    Raises:
        Refused: it is something else, which could be neither a key nor JSON.
    """
    if value is not None and not isinstance(value, str | int | float):
        raise Refused(f"The option {name} cannot be {values.told(value)}.", "Give a text, a number, True or False.")
    return value


@dataclass(frozen=True)
class Decision:
    """What goes, in the smallest form that can be resolved again on the same model.

    ``sites`` maps a site's name to what the decision's ``kind`` says of it: ``pruning.decisions`` has a file for each.
    """

    kind: str
    sites: Mapping[str, Any]
    tensors: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Adjusted:
    """That weights were adjusted for those that went: site -> [before, after], relative output errors of its layer."""

    sites: Mapping[str, Any]
    kind: ClassVar = RECOVERED
    tensors: ClassVar[Mapping[str, Any]] = {}


@dataclass(frozen=True)
class Trained:
    """That a component was trained: ``steps``, the denoiser's error ``before`` and ``after``, and how."""

    entry: Mapping[str, Any]
    kind: ClassVar = RECOVERED
    tensors: ClassVar[Mapping[str, Any]] = {}

    @property
    def sites(self) -> Mapping[str, Any]:
        """As plan.json has it: under no site's name."""
        return {"": self.entry}


def _decided(written: Mapping[str, Any], tensors: Mapping[str, Any]) -> Decision | Adjusted | Trained:
    """What plan.json says of a step."""
    kind, sites = written["kind"], written["sites"]
    if kind != RECOVERED:
        return Decision(kind, sites, tensors)
    if "" not in sites:
        return Adjusted(sites)
    (entry,) = sites.values()  # a ValueError where there is more
    return Trained(entry)


@dataclass(frozen=True)
class PlanStep:
    """One recipe resolved on one model: the model's fingerprints before the step, and the decision."""

    recipe: Recipe
    arch: str
    weights: str
    decision: Decision | Adjusted | Trained

    @property
    def decides(self) -> bool:
        """Whether it says what goes; else what stays was adjusted or trained."""
        return isinstance(self.decision, Decision)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; masks that do not fit there are left out."""
        return {"recipe": self.recipe.to_dict(), "arch": self.arch, "weights": self.weights,
                "decision": {"kind": self.decision.kind, "sites": dict(self.decision.sites)}}


@dataclass(frozen=True)
class Plan:
    """Ordered steps. Refused on a model that they were not resolved on."""

    steps: tuple[PlanStep, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.steps, tuple) or not all(isinstance(step, PlanStep) for step in self.steps):
            raise Refused(f"The steps of a plan cannot be {values.told(self.steps)}.", "Make it with pruning.plan.")
        if not self.steps:
            raise Refused("This is not a Prunescope plan: it has no steps.",
                          "Make it again with pruning.plan or `python -m pruning plan`.")

    @property
    def recipe(self) -> Recipe:
        """The recipe of the last step."""
        return self.steps[-1].recipe

    @property
    def decided(self) -> PlanStep:
        """The last step that says what goes, or the first where nothing does; recovering what stays comes after it."""
        return next((step for step in reversed(self.steps) if step.decides), self.steps[0])

    @property
    def trained(self) -> tuple[Mapping[str, Any], ...]:
        """What is noted of trainings since the last step that says what goes."""
        after = self.steps[self.steps.index(self.decided):]
        return tuple(step.decision.entry for step in after if isinstance(step.decision, Trained))

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
        return [step.to_dict() for step in self.steps]

    def to_json(self, masks: str = "") -> str:
        """The plan as text; ``masks`` is the name of the file beside it that has its tensors."""
        beside = {"masks": masks} if masks else {}
        return json.dumps({"prunescope": SCHEMA, "digest": self.digest} | beside | {"steps": self._steps()}, indent=1)

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
            plan = cls(tuple(PlanStep(Recipe.from_dict({**s["recipe"]}), s["arch"], s["weights"], _decided(
                s["decision"], {name: bits for (step, _, name), bits in beside if step == str(i)}))
                for i, s in enumerate(steps)))
            actual = digest(steps)  # of what is written: a recipe of an older version has fewer parts
        except Refused:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise Refused("This is not a Prunescope plan, or it is cut short.",
                          "Make it again with pruning.plan or `python -m pruning plan`.") from error
        if actual != written:
            raise Refused("This plan was changed after it was written: its digest does not fit.",
                          "Make it again from its recipe instead of editing it.")
        return plan


@dataclass(frozen=True)
class Shot(Noun):
    """How to draw. The same shot on the same model gives the same pictures.

    ``prompts`` may be given as one text; ``negative`` is what to stay away from, and None says nothing of that.
    ``images`` (1 to 64) counts per prompt; image i starts from ``seed`` + i. ``guidance`` (0 to 50) is how strongly the
    prompt is followed; up to 1 it is not strengthened. ``steps`` are those of the ``sampler``, 1 to 1000. ``size`` is a
    picture's side in pixels, None the model's own. Whole numbers may be numpy's, or floats that are whole.

    Raises:
        Refused: a value is of another kind or out of range; which samplers and sizes a model has, drawing says.
    """

    prompts: tuple[str, ...] | str = ("",)
    negative: str = ""
    seed: int = 0
    steps: int = 20
    guidance: float = 3.0
    sampler: str = "ddim"
    images: int = 1
    size: int | None = None

    def __post_init__(self) -> None:
        prompts = values.texts("prompts", self.prompts, 'Give a text or several, such as "a cat"; "" is one, too.')
        if not prompts:
            raise Refused("There are no prompts.", 'Give one or more; "" is one, too.')
        negative = "" if self.negative is None else self.negative
        self._set(prompts=prompts, negative=values.text("negative", negative, "Give one text, for all prompts."),
                  seed=values.whole("seed", self.seed), steps=values.whole("steps", self.steps, 1, 1000),
                  guidance=values.number("guidance", self.guidance, 0, 50),
                  sampler=values.text("sampler", self.sampler, "Give the name of a sampler, such as ddim."),
                  images=values.whole("images", self.images, 1, 64),
                  size=None if self.size is None else values.whole("size", self.size, 1, 8192))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
