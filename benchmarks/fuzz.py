"""Random calls of the whole public face, right and wrong arguments mixed: each gives something or is refused in words.

python -m benchmarks.fuzz [--calls 5000] [--seed 0] [--call TEXT]

A call is a text that Python evaluates, so that what is printed is what reproduces it: ``--call`` runs one alone. No
call may end in an error that is not ``pruning.Refused``, change a model that it was given, or move the random numbers
that all of the process shares.
"""

import argparse
import copy
import json
import logging
import os
import random
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from traceback import extract_tb
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import numpy as np
import torch
import transformers
from torch import nn

import pruning
from benchmarks.table import lines, machine
from pruning.network.notes import plan_of
from pruning.network.subject import parts_of, subject
from pruning.types import digest
from pruning.units.costs import on_meta
from pruning.values import instance

ROOT = Path(pruning.__file__).parent.parent


# What calls are given.


class Speechless:
    """Cannot even be written."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


ODD = (  # anything, anywhere
    "None", "True", "False", "0", "1", "-1", "2", "0.5", "2.5", "1.0", "float('nan')", "float('inf')", "-float('inf')",
    "10**9", "10**5000", "-10**20", "1e308", "1j", "''", "' '", "'0.5'", "'3'", "'a'", "'nm'", "'unet'", "'*'", "'[!'",
    "'\\x00'", "'\\ud83d'", "'a' * 10_000", "b''", "b'0.5'", "bytearray(b'a')", "()", "[]", "{}", "set()", "(None,)",
    "[1, 2]", "['a', 3]", "{'a': 0.5}", "{1: 2}", "{None: None}", "{'*': 'x'}", "{'mid_block*': float('nan')}",
    "{'task': -1}", "{'a', 'b'}", "np.int64(2)", "np.float32(0.5)", "np.float64('nan')", "np.bool_(True)",
    "np.str_('weight')", "np.array(0.5)", "np.array([0.1, 0.2])", "np.array(['a', 'b'])", "np.array([])",
    "torch.tensor(0.5)", "torch.tensor([1, 2])", "torch.float32", "torch.device('cpu')", "Decimal('0.5')",
    "Fraction(1, 2)", "object()", "Speechless()", "[Speechless()]", "int", "len", "(x for x in 'ab')",
    "(x for x in [1, 2])", "iter(())", "count()", "range(3)", "...", "NotImplemented", "Path('.')",
    "Path('nowhere/at/all')", "Path('/dev/null')", "sd", "unet", "linear", "shot", "plan", "scores", "report",
    "measured", "calibration", "recipe", "ValueError('a')")

MODELS = ("sd", "sd", "sd", "ddpm", "ddpm", "unet", "text", "flux", "small", "zeros")
STRANGE = ("other", "wider", "masked", "meta", "meta_ddpm", "half", "bundled", "headless", "eyeless", "wordless",
           "deaf", "unscheduled", "broken", "linear", "empty", "vae", "linear.weight", "{'unet': unet}", "type(sd)")
LOOKS = ("pruning.Calibration(samples=2, source='noise')", "pruning.Calibration(('a',), 2, source='generated')",
         "pruning.Calibration(samples=1, source=pictures)", "pruning.Calibration(source='nowhere')",
         "pruning.Calibration(samples=2, timesteps=[5, 2000], source='noise')", "calibration")
METHODS = ("'magnitude'",) * 4 + (
    "'random'", "'lamp'", "'wanda'", "'taylor'", "'fisher'", "'gauss-newton'", "'activation'", "'diff-pruning'")
UNITS = ("'weight'", "'weight'", "'nm'", "'head'", "'neuron'", "'channel'", "'width'", "'layer'", "'modulation'")
SEEDS = ("0", "7", "np.int64(3)")
COMPONENTS = ("'unet'", "'text_encoder'", "'vae.decoder'", "'transformer'", "''", "'vae'", "'unet.mid_block'")
RATIOS = ("0.5", "0.5", "0.3", "0", "0.99", "np.float32(0.25)", "0.01")
OPTIONS = {"norm": ("'l1'", "'l2'"), "buckets": ("2",), "every": ("250",), "over": ("'max'",), "cancel": ("True",),
           "threshold": ("0.1",), "gate": ("'prefix'",)}
REQUEST = {
    "component": COMPONENTS, "units": UNITS, "pattern": ("'2:4'", "'1:4'", "'3:7'", "'4:2'", "'2:4:8'", "'²:4'"),
    "of": ("'units'", "'params'", "'macs'", "'ms'"), "protect": ("()", "'conv_in'", "['mid*']"),
    "spread": ("'layer'", "'row'", "'global'", "'isomorphic'", "'sensitivity'"),
    "only": ("'mid*'", "('mid*', 'up*')", "'encoder*'", "'nothing'"), "calibration": LOOKS, "seed": SEEDS,
    "overrides": ("{'mid*': 0.2}", "{'mid*': 1}", "{'nowhere': 0.2}"), "most": ("0.8", "1", "0"), "update": ("True",),
    "rounding": ("'nearest'", "'paper'", "'newer'"), "multiple": ("8", "16", "3")}
SCORES = ("scores", "scores", "width_scores", "other_scores", "ddpm_scores", "text_scores", "seen_scores")
PLANS = ("plan", "plan", "zeros_plan", "wide_plan", "ddpm_plan", "seen_plan", "text_plan", "plan_of(small)")
SHOTS = {"prompts": ("'a'", "'a b'", "('a', 'b')", "''"), "negative": ("'b'", "None"), "seed": SEEDS,
         "steps": ("1", "2", "2.0"), "guidance": ("1", "3.5", "0"), "images": ("1", "2"), "size": ("None", "16", "15"),
         "sampler": ("'ddim'", "'dpm++'", "'euler'", "'unipc'", "'heun'")}
SHOOTING = ("shot", "shot", "bare_shot", "bare_shot", "pruning.Shot('a', steps=1, images=np.int64(2))")
RECOVERY = {"steps": ("1", "2"), "batch": ("1", "2"), "rate": ("1e-4", "0"), "average": ("0", "0.9"),
            "unprompted": ("0", "1"), "dropout": ("True",), "half": ("True",),
            "losses": ("{'task': 1}", "{'tusk': 1}"), "calibration": LOOKS, "seed": SEEDS}
FIELDS = {"prompts": ("'a'", "('a', 'b')"), "samples": ("2", "2.0"), "timesteps": ("3", "(1, 2)"),
          "guidance": ("0", "3"), "seed": SEEDS, "source": ("'noise'", "'generated'", "pictures")}
RECIPE = {**REQUEST, "method": METHODS, "model": ("'a'",), "options": ("(('norm', 'l1'),)", "{'norm': 'l1'}"),
          "ratio": RATIOS}


@dataclass(frozen=True)
class Verb:
    """A part of the face: what is called, with which arguments that it must have and may have, and how often."""

    call: str
    needs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    may: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weight: int = 10
    keyed: bool = False  # arguments are the items of one mapping


PIPE = {"pipe": MODELS}
SIDES = {"dense": ("sd", "sd", "ddpm", "unet"), "pruned": ("small", "zeros", "sd", "unet", "both", "seen")}
FACE = {
    "load": Verb("pruning.load", {"source": ("folder", "pruned_folder", "pictures", "'ddpm-cifar10'", "'emoji-clip'",
                                             "'sd-1.5'", "'owner/name'", "'a/b/c'", "'~'", "Path('nowhere')")},
                 {"weights": ("'meta'", "'trained'"), "device": ("'cpu'", "'cuda'", "'tpu'"), "seed": SEEDS,
                  "dtype": ("torch.float16", "'bfloat16'", "torch.int8")}, 5),
    "methods": Verb("pruning.methods", weight=1),
    "score": Verb("pruning.score", {**PIPE, "method": METHODS},
                  {**{key: REQUEST[key] for key in ("component", "units", "calibration", "seed")}, **OPTIONS}, 15),
    "plan": Verb("pruning.plan", {**PIPE, "method": METHODS, "ratio": RATIOS},
                 {**REQUEST, "scores": SCORES, **OPTIONS}, 30),
    "apply": Verb("pruning.apply", {**PIPE, "plan": PLANS}, {"masked": ("True", "False")}, 15),
    "report": Verb("pruning.report", {**SIDES, "plan": (*PLANS, "both_plan")}, {"measured": ("measured",)}, 15),
    "generate": Verb("drawn", {**PIPE, "shot": SHOOTING}, weight=10),
    "measure": Verb("pruning.measure", {**SIDES, "shot": SHOOTING}, {"repeats": ("1", "0", "2.0")}, 5),
    "save": Verb("pruning.save", {**PIPE, "folder": ("'out'", "Path('a/b/out')", "'full'", "'note'", "'note/out'")},
                 weight=8),
    "export": Verb("pruning.export", {**PIPE, "path": ("'x.pt'",)}, {"format": ("'torch'", "'onnx'")}, 1),
    "recover": Verb("recovered", {"pruned": ("small", "zeros", "sd", "ddpm", "unet", "seen"),
                                  "dense": ("sd", "sd", "None", "ddpm", "other")},
                    {"component": COMPONENTS, **RECOVERY}, 6),
    "Plan.to_json": Verb("pruning.Plan.from_json", {"text": tuple(f"{plan}.to_json()" for plan in PLANS[1:])},
                         {"tensors": ("seen_plan.tensors", "{}")}, 4),
    "Plan.from_json": Verb("reread", {**PIPE, "plan": PLANS, "seed": tuple(map(str, range(40)))}, weight=8),
    "Recipe": Verb("pruning.Recipe", {}, RECIPE, 8),
    "Recipe.from_dict": Verb("pruning.Recipe.from_dict", {}, {**RECIPE, "colour": ("1",)}, 8, keyed=True),
    "Calibration": Verb("pruning.Calibration", {}, FIELDS, 8),
    "Shot": Verb("pruning.Shot", {}, SHOTS, 10),
    "Recovery": Verb("pruning.Recovery", {}, RECOVERY, 6),
}


def drawn(pipe: Any, shot: Any) -> list[Any]:
    """The first events of a drawing; then it is stopped."""
    events = pruning.generate(pipe, shot)
    return [event for event, _ in zip(events, range(4), strict=False)]


def recovered(pruned: Any, dense: Any, **how: Any) -> Any:
    """A short recovery on samples that are soon made."""
    return pruning.recover(pruned, dense, **{"steps": 1, "batch": 1, "calibration": pruning.Calibration(
        ("a",), 1, source="generated")} | how)


def reread(pipe: Any, plan: Any, seed: Any) -> Any:
    """What comes of a plan whose text somebody changed and signed again, on a model."""
    plan = instance("plan", plan, pruning.Plan, "Give what pruning.plan gave.")
    return pruning.apply(pipe, pruning.Plan.from_json(changed(plan.to_json(), random.Random(repr(seed))), plan.tensors))


def changed(text: str, draw: random.Random) -> str:
    """JSON with one of its values replaced, and signed anew."""
    body = json.loads(text)
    spots = list(_spots(body["steps"]))
    owner, key = draw.choice(spots)
    owner[key] = draw.choice((None, -1, 0, 3, 1e9, 0.5, float("nan"), True, "", "a", "3:4", "2:4", [], [1, 2], [[0, 0]],
                              [[0, 8]], {}, {"a": 1}))
    return json.dumps(body | {"digest": digest(body["steps"])})


def _spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value made of lists and dictionaries."""
    for key, inner in enumerate(value) if isinstance(value, list) else value.items():
        yield value, key
        if isinstance(inner, list | dict):
            yield from _spots(inner)


class Space(dict[str, Any]):
    """The names that calls are made of. Models are tiny, random and of the real classes; each is made when needed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(pruning=pruning, np=np, torch=torch, Decimal=Decimal, Fraction=Fraction, Path=Path,
                         count=count, Speechless=Speechless, drawn=drawn, recovered=recovered, reread=reread,
                         plan_of=plan_of)
        self.root = folder
        self.models: dict[str, tuple[Any, Any]] = {}  # with their states when they were made

    def __missing__(self, name: str) -> Any:
        if name not in MADE:
            raise KeyError(name)  # a name of Python's own
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = self[name] = MADE[name](self)
        if name in WATCHED:
            self.models[name] = (made, state(made))
        return made


def tiny(space: Space, seed: int = 0, **parts: Any) -> Any:
    """A StableDiffusionPipeline of a hundred thousand weights that knows two words."""
    torch.manual_seed(seed)
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3, "a": 4, "b": 5}
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1)
    whole = {"unet": conditional(), "vae": autoencoder(), "text_encoder": transformers.CLIPTextModel(text).eval(),
             "tokenizer": transformers.CLIPTokenizer(vocab=words, merges=[], model_max_length=8),
             "scheduler": diffusers.DDIMScheduler(steps_offset=1, clip_sample=False), "safety_checker": None,
             "feature_extractor": None, "requires_safety_checker": False}
    pipe = diffusers.StableDiffusionPipeline(**whole | parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def conditional(width: int = 16) -> Any:
    """A U-Net of two levels that reads prompts."""
    return diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(width, 2 * width), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=16, attention_head_dim=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")).eval()


def autoencoder() -> Any:
    """An autoencoder of two levels."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4, sample_size=16,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4).eval()


def unprompted() -> Any:
    """A DDPMPipeline of two levels."""
    net = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    pipe = diffusers.DDPMPipeline(net.eval(), diffusers.DDPMScheduler(num_train_timesteps=100))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def flow() -> Any:
    """A transformer of FLUX's class."""
    return diffusers.FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(2, 2, 4)).eval()


def broken(space: Space) -> Any:
    """A pipeline that has lost an attribute that it was made with."""
    pipe = copy.copy(space["sd"])
    del pipe.vae
    return pipe


def without(name: str) -> Any:
    """A pipeline without one of its components."""
    return lambda space: tiny(space, **{name: None})


def saved(name: str, model: str) -> Any:
    """The folder of a model of the space."""
    return lambda space: pruning.save(space[model], space.root / name)


def pictures(space: Space) -> Path:
    """A folder with one picture and its caption."""
    from PIL import Image

    folder = space.root / "pictures"
    folder.mkdir()
    Image.new("RGB", (16, 16), "red").save(folder / "a.png")
    (folder / "a.txt").write_text("a")
    return folder


SEEN = "pruning.Calibration(samples=2, source='noise')"
MADE: dict[str, Any] = {
    "sd": tiny, "other": lambda space: tiny(space, 1), "wider": lambda space: tiny(space, unet=conditional(32)),
    "ddpm": lambda space: unprompted(), "unet": lambda space: conditional(), "flux": lambda space: flow(),
    "text": lambda space: tiny(space, 2).text_encoder, "vae": lambda space: autoencoder(),
    "linear": lambda space: nn.Linear(4, 4), "empty": lambda space: nn.Module(),
    "meta": lambda space: subject(space["sd"]).holding(on_meta(space["sd"].unet)),
    "meta_ddpm": lambda space: subject(space["ddpm"]).holding(on_meta(space["ddpm"].unet)),
    "half": lambda space: tiny(space, 3).to(torch.float16), "bundled": lambda space: pruning.load("emoji-ddpm"),
    "headless": without("unet"), "eyeless": without("vae"), "wordless": without("tokenizer"),
    "deaf": without("text_encoder"), "unscheduled": without("scheduler"), "broken": broken,
    "plan": lambda space: pruning.plan(space["sd"], ratio=0.5, units="width"),
    "zeros_plan": lambda space: pruning.plan(space["sd"], pattern="2:4"),
    "wide_plan": lambda space: pruning.plan(space["wider"], ratio=0.5, units="width"),
    "ddpm_plan": lambda space: pruning.plan(space["ddpm"], ratio=0.5, units="channel"),
    "text_plan": lambda space: pruning.plan(space["sd"], ratio=0.5, component="text_encoder"),
    "seen_plan": lambda space: pruning.plan(space["sd"], "wanda", 0.5, calibration=eval(SEEN)),
    "both_plan": lambda space: pruning.plan(space["small"], ratio=0.5, component="vae.decoder"),
    "small": lambda space: pruning.apply(space["sd"], space["plan"]),
    "zeros": lambda space: pruning.apply(space["sd"], space["zeros_plan"]),
    "seen": lambda space: pruning.apply(space["sd"], space["seen_plan"]),
    "both": lambda space: pruning.apply(space["small"], space["both_plan"]),
    "masked": lambda space: pruning.apply(space["sd"], space["plan"], masked=True),
    "scores": lambda space: pruning.score(space["sd"], "magnitude"),
    "width_scores": lambda space: pruning.score(space["sd"], "magnitude", units="width"),
    "other_scores": lambda space: pruning.score(space["other"], "magnitude"),
    "ddpm_scores": lambda space: pruning.score(space["ddpm"], "taylor", calibration=eval(SEEN)),
    "text_scores": lambda space: pruning.score(space["sd"], "magnitude", component="text_encoder"),
    "seen_scores": lambda space: pruning.score(space["sd"], "wanda", calibration=eval(SEEN)),
    "shot": lambda space: pruning.Shot("a b", steps=2), "bare_shot": lambda space: pruning.Shot(steps=2),
    "calibration": lambda space: pruning.Calibration(), "recipe": lambda space: space["plan"].recipe,
    "report": lambda space: pruning.report(space["sd"], space["small"], space["plan"]),
    "measured": lambda space: pruning.measure(space["sd"], space["small"], space["shot"], repeats=1),
    "folder": saved("dense", "sd"), "pruned_folder": saved("pruned", "small"), "pictures": pictures,
}
WATCHED = {"sd", "other", "wider", "ddpm", "unet", "flux", "text", "vae", "meta", "half", "bundled", "small", "zeros",
           "seen", "both", "masked", "linear"}


# What has to stay as it was.


def state(model: Any) -> dict[str, Any]:
    """Every tensor of a model, copied, and what else a call could leave changed."""
    parts = parts_of(model)
    found: dict[str, Any] = {f"{part} {name}": tensor.detach().clone() for part, net in parts.items()
                             for name, tensor in net.state_dict().items()}
    for part, net in parts.items():
        found[f"{part}: modes, hooks, gradients"] = (
            [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training, sorted(vars(m))) for m in net.modules()],
            [(p.requires_grad, p.grad is None) for p in net.parameters()])
    own = {key: id(value) for key, value in vars(model).items()}
    schedule = getattr(getattr(model, "scheduler", None), "config", {})  # diffusers adds its own notes when it saves
    return found | {"attributes": own, "schedule": {key: schedule[key] for key in schedule if key[0] != "_"}}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Where two states differ."""
    return [name for name in one.keys() | other.keys() if name not in one or name not in other or not (
        equal(one[name], other[name]) if isinstance(one[name], torch.Tensor) else one[name] == other[name])]


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit; of those without values, their shapes."""
    if one.device.type == "meta":
        return one.shape == other.shape
    return one.dtype == other.dtype and torch.equal(one, other)


def streams() -> tuple[Any, ...]:
    """Where the random numbers are that all of the process shares."""
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


# Calls.


def call(verb: Verb, draw: random.Random) -> str:
    """The text of one call: mostly right arguments, of which one or two may be odd."""
    given = {name: draw.choice(good) for name, good in verb.needs.items()}
    given |= {name: draw.choice(good) for name, good in verb.may.items() if draw.random() < 1.5 / (2 + len(verb.may))}
    for name in ("pipe", "dense", "pruned"):
        if name in given and draw.random() < 0.1:
            given[name] = draw.choice(STRANGE)
    names = [*verb.needs, *verb.may]
    for name in draw.sample(names, min(len(names), draw.choice((0, 0, 1, 1, 2)))):
        given[name] = draw.choice(ODD)
    if verb.keyed:
        return f"{verb.call}({draw.choice(ODD)})" if draw.random() < 0.1 else (
            f"{verb.call}({{{', '.join(f'{name!r}: {value}' for name, value in given.items())}}})")
    return f"{verb.call}({', '.join(v if name in verb.needs else f'{name}={v}' for name, v in given.items())})"


@dataclass(frozen=True)
class Outcome:
    """What came of one call: ``kind`` is ok, refused, bare, changed or moved."""

    kind: str
    text: str = ""  # the sentence, the error, or what was changed
    where: str = ""  # the line of ours that a bare error came through last
    seconds: float = 0.0


def tried(text: str, space: Space) -> Outcome:
    """Evaluate one call, and look at what it was given."""
    for name in re.findall(r"[a-z_]\w*", text):
        if name in MADE:
            space[name]  # made before anything is on the clock, and before the streams are read
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("full").mkdir()
        Path("full/note").write_text("mine")
        Path("note").write_text("mine")
        before, started = streams(), time.perf_counter()
        try:
            eval(text, {}, space)
            found = Outcome("ok")
        except pruning.Refused as error:
            found = Outcome("refused" if len(error.message) > 8 else "bare", str(error))
        except Exception as error:
            ours = [f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno}"
                    for frame in extract_tb(error.__traceback__) if frame.filename.startswith(str(ROOT / "pruning"))]
            found = Outcome("bare", f"{type(error).__name__}: {str(error)[:200]}", ours[-1] if ours else "")
        taken = time.perf_counter() - started
        lost = [name for name in ("note", "full/note") if not Path(name).is_file() or Path(name).read_text() != "mine"]
    moved = [name for name, one, other in zip(("torch", "numpy", "random"), before, streams(), strict=True)
             if one != other]
    altered = [f"{name}: {where[0]}" for name, (model, was) in space.models.items()
               if re.search(rf"\b{name}\b", text) and (where := same(was, state(model)))]
    if altered or lost:
        return Outcome("changed", ", ".join([*altered, *lost]), seconds=taken)
    if moved:
        return Outcome("moved", ", ".join(moved), seconds=taken)
    return Outcome(found.kind, found.text, found.where, taken)


def calls(number: int, seed: int = 0, verbs: Iterable[str] = FACE) -> Iterator[tuple[str, str]]:
    """(verb, text) of so many calls. Each verb comes at least once among its first few dozens."""
    names = list(verbs)
    for i in range(number):
        draw = random.Random(f"{seed} {i}")
        name = names[i] if i < len(names) else draw.choices(names, [FACE[name].weight for name in names])[0]
        yield name, call(FACE[name], draw)


def quiet() -> None:
    """Warnings, progress and logs of libraries are not what is looked at."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def main(number: int = 5000, seed: int = 0) -> int:
    """Make the calls; print what came of them by verb, and each distinct fault with a call that shows it."""
    quiet()
    torch.set_num_threads(1)
    counts, taken, faults = Counter[tuple[str, str]](), Counter[str](), dict[tuple, list[str]]()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        space = Space(Path(folder))
        for verb, text in calls(number, seed):
            found = tried(text, space)
            counts[verb, found.kind] += 1
            taken[verb] += found.seconds
            if found.kind not in ("ok", "refused"):
                faults.setdefault((found.kind, found.text.split("'")[0][:60], found.where), []).append(
                    f"{text}\n    {found.text} {found.where}")
    kinds = ("ok", "refused", "bare", "changed", "moved")
    rows = [{"verb": verb, **{kind: counts[verb, kind] for kind in kinds}, "s": taken[verb]} for verb in FACE]
    total = {"verb": "all", **{kind: sum(counts[verb, kind] for verb in FACE) for kind in kinds},
             "s": sum(taken.values())}
    print(f"fuzz ({machine()})\n\n" + "\n".join(lines([*rows, total])))
    print(f"\n{number} calls in {time.perf_counter() - started:.0f} s, seed {seed}; {len(faults)} distinct faults")
    for (kind, *_), shown in faults.items():
        print(f"\n{kind}, {len(shown)} times: {shown[0]}")
    return int(bool(faults))


def one(text: str) -> int:
    """Make a single call."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        found = tried(text, Space(Path(folder)))
    print(f"{found.kind} {found.text} {found.where}")
    return int(found.kind not in ("ok", "refused"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--call", metavar="TEXT")
    args = parser.parse_args()
    sys.exit(one(args.call) if args.call else main(args.calls, args.seed))
