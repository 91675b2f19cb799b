"""The command line, made from the arguments of the public functions and the knobs of the methods.

Under ``--json`` standard output is one JSON object, and everything else goes to standard error. It exits
with 0 when done, with 1 when refused or failed, in a sentence, and with 2 when the command was not understood.
"""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo
from torch import nn
from tqdm import tqdm

import pruning
from pruning import images, planning, store
from pruning.accounting import total
from pruning.costs import trace
from pruning.criteria import CRITERIA
from pruning.errors import Later, Refused
from pruning.images import SAMPLERS, Drawn, Stepped
from pruning.registry import knobs
from pruning.subject import log, plan_of, subject
from pruning.surgery import check
from pruning.types import DEFAULT_PROTECT, Plan, PlanStep, Shot
from pruning.units.catalog import FINDERS, find

Result = dict[str, Any]
KINDS = ("weight", "head", "neuron", "channel")  # what ``inspect`` counts
LATER = {"bench": "measure dense against pruned, interleaved", "recover": "train the damage away",
         "sweep": "run many recipes"}


class Flag(NamedTuple):
    """An argument of a public function as a flag. Values are read after parsing: a bad one is refused, not usage."""

    read: Callable[[str], Any]
    help: str
    many: bool = False


REQUEST = {
    "method": Flag(str, "see `methods` (magnitude)"),
    "ratio": Flag(float, "the share to remove, from 0 up to but not including 1"),
    "component": Flag(str, "such as text_encoder or vae.decoder (the denoiser)"),
    "units": Flag(str, f"what goes: {', '.join([*FINDERS, 'width'])} (weight)"),
    "pattern": Flag(str, "N:M keeps N of each M neighbours along the inputs, such as 2:4"),
    "of": Flag(str, "what the ratio is a share of (units)"),
    "spread": Flag(str, "how the ratio is divided: layer or global (layer)"),
    "protect": Flag(str, f"glob of modules to leave alone, repeatable; none releases all ({' '.join(DEFAULT_PROTECT)})",
                    many=True),
    "only": Flag(str, "glob of the modules that may be pruned, repeatable", many=True),
    "overrides": Flag(str, "another ratio for some modules, repeatable; the longest glob wins", many=True),
    "seed": Flag(int, "of random choices (0)"),
}
DRAW = {
    "prompts": Flag(str, "what to draw, repeatable", many=True),
    "negative": Flag(str, "what to stay away from"),
    "seed": Flag(int, "of the noise; picture i starts from seed + i (0)"),
    "steps": Flag(int, f"denoising steps ({Shot.steps})"),
    "guidance": Flag(float, f"how strongly the prompt is followed ({Shot.guidance:g})"),
    "sampler": Flag(str, f"{', '.join(SAMPLERS)} ({Shot.sampler})"),
    "images": Flag(int, f"pictures per prompt ({Shot.images})"),
}
SPELLED = {"overrides": ("override", "GLOB=RATIO"), "prompts": ("prompt", "TEXT")}  # what can be given several times


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    args = parsed(argv)
    try:
        with redirect_stdout(sys.stderr), _logged():
            result = args.run(args)
    except KeyboardInterrupt:
        return _failed(args, Refused("Stopped.", "Nothing is left half done."))
    except Refused as error:
        return _failed(args, error)
    except (OSError, MemoryError, torch.OutOfMemoryError) as error:
        return _failed(args, in_words(error))
    print(json.dumps(result) if args.json else args.show(result))
    return 0


def _failed(args: argparse.Namespace, error: Refused) -> int:
    if args.json:
        print(json.dumps({"error": {"message": error.message, "remedy": error.remedy}}))
    else:
        print(error, file=sys.stderr)
    return 1


def in_words(error: BaseException) -> Refused:
    """What the system reports, as a sentence."""
    if not isinstance(error, OSError):
        return Refused("There is not enough memory for this.", "Choose a smaller model, or fewer images at once.")
    why = error.strerror or str(error).splitlines()[0]
    where = f"{error.filename}: " if error.filename else ""
    return Refused(f"{where}{why.rstrip('.')}.", "Check the path, its permissions and the space on the disk.")


@contextmanager
def _logged() -> Iterator[None]:
    """Our log on standard error, for one command."""
    handler, level = logging.StreamHandler(sys.stderr), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


# Flags.


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a command, with ``run`` and ``show``. Exits with 2 when they are no command."""
    parser = argparse.ArgumentParser("python -m pruning", description=(pruning.__doc__ or "").partition("\n")[0],
                                     allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], Result], show: Callable[[Result], str],
                *models: str, name: str = "", out: str = "") -> argparse.ArgumentParser:
        what = LATER.get(name, (run.__doc__ or "").partition("\n")[0])
        sub = commands.add_parser(name or run.__name__, help=what, description=what, allow_abbrev=False)
        sub.set_defaults(run=run, show=show)
        for model in models:
            sub.add_argument(model, metavar=model.upper(), help="a bundled name, a folder, or a hub id (owner/name)"
                             if model == "model" else "a folder that `prune` wrote")
        if out:
            sub.add_argument("-o", "--out", required=True, metavar=out, help="where to write")
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
        return sub

    command(methods, show_methods)
    _flags(command(inspect, show_inspected, "model"), {"component": REQUEST["component"]})
    _request_flags(command(plan, show_report, "model", out="PLAN.json"))
    pruner = command(prune, show_report, "model", out="FOLDER")
    pruner.add_argument("--plan", metavar="PLAN.json", help="a plan that `plan` wrote, instead of the flags below")
    _request_flags(pruner)
    for drawn in (command(generate, show_drawn, "model", out="FOLDER"),
                  command(compare, show_compared, "model", "pruned", out="FOLDER")):
        _flags(drawn, DRAW, required=("prompts",))
    for name in LATER:
        command(later, str, name=name)

    args, rest = parser.parse_known_args(argv)
    if rest and args.command not in LATER:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.command == "prune":
        given = [name for name in (*REQUEST, *_method_knobs()) if hasattr(args, name)]
        if args.plan and given:
            parser.error(f"--plan says it all: leave out {', '.join(f'--{_spelled(name)[0]}' for name in given)}")
        if not args.plan and not {"method", "ratio", "pattern"} & set(given):
            parser.error("prune needs --plan, or --method and --ratio")
    return args


def _spelled(name: str) -> tuple[str, str]:
    return SPELLED.get(name, (name, name.upper()))


def _flags(parser: Any, flags: dict[str, Flag], required: tuple[str, ...] = ()) -> None:
    for name, flag in flags.items():
        spelled, value = _spelled(name)
        parser.add_argument(f"--{spelled}", dest=name, metavar=value, help=flag.help.replace("%", "%%"),
                            action="append" if flag.many else "store", default=argparse.SUPPRESS,
                            required=name in required)


def _request_flags(parser: argparse.ArgumentParser) -> None:
    _flags(parser.add_argument_group("what to remove"), REQUEST)
    _flags(parser.add_argument_group("options of methods"), _method_knobs())


def _method_knobs() -> dict[str, Flag]:
    """The knobs of all methods as flags; a method refuses those that it does not have."""
    flags: dict[str, Flag] = {}
    for method, part in sorted(CRITERIA.items()):
        for knob in knobs(part):
            choices = f": {', '.join(knob.metadata['choices'])}" if knob.metadata["choices"] else ""
            text = f"{method}: {knob.metadata['help']}{choices} ({knob.default})"
            flags[knob.name] = Flag(str, f"{flags[knob.name].help}; {text}" if knob.name in flags else text)
    return flags


def _given(args: argparse.Namespace, flags: dict[str, Flag]) -> dict[str, Any]:
    """The flags that were given, as values.

    Raises:
        Refused: a value cannot be read.
    """
    values = {}
    for name, flag in flags.items():
        if hasattr(args, name):
            text = getattr(args, name)
            values[name] = tuple(text) if flag.many else _read(name, flag.read, text)
    return values


def _read(name: str, kind: Callable[[str], Any], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number, such as 4" if kind is int else "a number, such as 0.5"
        raise Refused(f"{name} cannot be {text!r}.", f"It is {what}.") from None


def _request(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of ``pruning.plan``."""
    values = _given(args, REQUEST | _method_knobs())
    if values.get("protect") == ("none",):
        values["protect"] = ()
    pairs = [text.rpartition("=") for text in values.pop("overrides", ())]
    if wrong := [ratio for glob, _, ratio in pairs if not glob]:
        raise Refused(f"override cannot be {wrong[0]!r}.", "It reads GLOB=RATIO, such as 'mid_block*=0.2'.")
    values["overrides"] = {glob: _read(f"override {glob}", float, ratio) for glob, _, ratio in pairs}
    return values


# Commands.


def methods(args: argparse.Namespace) -> Result:
    """List the methods."""
    return {"methods": [method._asdict() for method in pruning.methods()]}


def inspect(args: argparse.Namespace) -> Result:
    """Show what a model consists of, and what it costs."""
    looked_at = subject(pruning.load(args.model), getattr(args, "component", None))
    net, costs = looked_at.net, trace(looked_at.net, looked_at.example)
    dense = {name: costs.macs_of(name) for name in costs.uses}
    blocks: dict[str, Result] = {
        name: {"name": name, "params": 0, "macs": 0 if costs.known else None, "units": dict.fromkeys(KINDS, 0)}
        for name in _block_names(net, costs.order)}
    for name, parameter in net.named_parameters():
        blocks[_block_of(net, name)]["params"] += parameter.numel()
    for name, macs in (*dense.items(), *costs.attention.items()):
        blocks[_block_of(net, name)]["macs"] += macs
    for kind in KINDS:
        for site in find(net, kind):
            blocks[_block_of(net, site.module)]["units"][kind] += site.units
    return {"model": args.model, "component": looked_at.component, "class": type(net).__name__, "params": total(net),
            "macs": costs.count()[1] if costs.known else None,
            "macs_linear_conv": sum(dense.values()) if costs.known else None,
            "input": looked_at.example.to_dict(), "blocks": list(blocks.values())}


def _block_of(net: nn.Module, name: str) -> str:
    """The child that something inside it belongs to: a list of blocks counts block by block."""
    first, _, rest = name.partition(".")
    held = isinstance(getattr(net, first, None), nn.ModuleList | nn.ModuleDict)
    return f"{first}.{rest.partition('.')[0]}" if held else first


def _block_names(net: nn.Module, order: Sequence[str]) -> list[str]:
    """The blocks, in the order in which they run; then parameters that no child owns."""
    names = [name for name, _ in net.named_modules() if name and _block_of(net, name) == name]
    place = {name: i for i, name in reversed(list(enumerate(order)))}
    own = [name for name, _ in net.named_parameters(recurse=False)]
    return sorted(names, key=lambda name: place.get(name, len(order))) + own


def plan(args: argparse.Namespace) -> Result:
    """Write down what would go; the model is not changed."""
    pipe = pruning.load(args.model)
    found = _planned(pipe, args)
    report = pruning.report(pipe, pruning.apply(pipe, found), found)
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(found.to_json(), encoding="utf-8")
    return report.to_dict() | {"plan": str(out), "digest": found.digest}


def _planned(pipe: Any, args: argparse.Namespace) -> Plan:
    recipe = planning.request(pipe, **_request(args))
    with tqdm(desc="scoring", unit="site", leave=False, file=sys.stderr) as bar:
        scores = planning.scored(pipe, recipe, lambda done, sites: _at(bar, done, sites))
    return planning.resolved(pipe, recipe, scores)


def _at(bar: tqdm, done: int, of: int) -> None:
    bar.total = of
    bar.update(done - bar.n)


def prune(args: argparse.Namespace) -> Result:
    """Write a smaller model, as an ordinary folder of diffusers with its plan."""
    out = store.free(args.out)
    known = Plan.from_json(Path(args.plan).read_text("utf-8", errors="replace")) if args.plan else None
    pipe = pruning.load(args.model)
    found = known or _planned(pipe, args)
    smaller = pruning.apply(pipe, found)
    done = plan_of(smaller) or found
    if done == plan_of(pipe):
        raise Refused(f"{args.model} has gone through this plan already.", "Give the model that the plan was made on.")
    report = pruning.report(pipe, smaller, done)
    pruning.save(smaller, out)
    return report.to_dict() | {"folder": str(out), "plan": str(out / store.PLAN), "digest": done.digest}


def generate(args: argparse.Namespace) -> Result:
    """Draw with one model."""
    shot, pipe = Shot(**_given(args, DRAW)), pruning.load(args.model)
    folder = _folder(args.out)
    (drawn,) = _drawn(pruning.generate(pipe, shot), shot.steps)
    files = [_written(folder / f"image_{i}.png", image, drawn) for i, image in enumerate(drawn.images)]
    return {"files": files, "live_ms_per_step": float(np.median(drawn.ms)), "shot": shot.to_dict(),
            "origin": asdict(drawn.origin)}


def compare(args: argparse.Namespace) -> Result:
    """Draw with both models from the same noise; write the pictures, their differences and the report."""
    shot = Shot(**_given(args, DRAW))
    dense, pruned = pruning.load(args.model), pruning.load(args.pruned)
    found, folder = _shared_plan(args, dense, pruned), _folder(args.out)
    sides = _drawn(images.draw_pair(dense, pruned, shot), 2 * shot.steps)
    report = pruning.report(dense, pruned, found)
    files = [_written(folder / f"{drawn.side}_{i}.png", image, drawn)
             for drawn in sides for i, image in enumerate(drawn.images)]
    for i, (a, b) in enumerate(zip(*(drawn.images for drawn in sides), strict=True)):
        files.append(_written(folder / f"difference_{i}.png", ImageChops.difference(a, b)))
    file = folder / "report.json"
    result = report.to_dict() | {"files": [*files, str(file)],
                                 "live_ms_per_step": {d.side: float(np.median(d.ms)) for d in sides}}
    file.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _shared_plan(args: argparse.Namespace, dense: Any, pruned: Any) -> Plan:
    """The plan that leads from one model to the other.

    Raises:
        Refused: there is none, or it starts from another model.
    """
    found, before = plan_of(pruned), plan_of(dense)
    done = before.steps if before else ()
    if found is None:
        raise Refused(f"{args.pruned} is not a pruned model: it has no {store.PLAN}.",
                      "Give a folder that `prune` wrote.")
    if found.steps[: len(done)] != done or len(found.steps) == len(done):
        raise Refused(f"{args.pruned} was not pruned from {args.model}, which went through a plan of its own.",
                      "Give the model that it was pruned from.")
    firsts: dict[str, PlanStep] = {}
    for step in found.steps[len(done):]:
        firsts.setdefault(step.recipe.component, step)
    for component, step in firsts.items():
        check(step, subject(dense, component).net)
    return found


def later(args: argparse.Namespace) -> Result:
    """A command that is not built yet."""
    raise Later(f"The command {args.command}")


def _folder(path: str) -> Path:
    """A folder for pictures. What is in it stays, except files of the same names."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _drawn(events: Iterator[images.Event], steps: int) -> list[Drawn]:
    """The finished pictures, with a bar over the steps."""
    with tqdm(total=steps, desc="drawing", unit="step", leave=False, file=sys.stderr) as bar:
        finished = []
        for event in events:
            if isinstance(event, Stepped):
                bar.update()
            else:
                finished.append(event)
    return finished


def _written(path: Path, image: Image.Image, drawn: Drawn | None = None) -> str:
    """Write a picture, with the model that made it in its text fields."""
    notes = PngInfo()
    for name, value in asdict(drawn.origin).items() if drawn else ():
        notes.add_text(f"prunescope {name}", str(value))
    image.save(path, pnginfo=notes)
    return str(path)


# For people.


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Aligned columns; numbers to the right, with thousands set apart."""
    text = [[f"{cell:,}" if isinstance(cell, int) else str(cell or "") for cell in row] for row in rows]
    width = [max(map(len, column)) for column in zip(head, *text, strict=True)]
    right = [any(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    lines = [[cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, width, right, strict=True)]
             for line in (head, *text)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def show_methods(result: Result) -> str:
    """The methods as a table."""
    rows = [(m["name"], m["family"], " ".join(m["units"]), " ".join(f"{k}={v}" for k, v in m["options"].items()),
             m["paper"]) for m in result["methods"]]
    return table(("method", "family", "units", "options", "paper"), rows)


def show_inspected(result: Result) -> str:
    """The blocks as a table under the totals."""
    size = result["input"]
    macs = "MACs are not counted for this class" if result["macs"] is None else (
        f"{result['macs']:,} MACs at latent {size['latent']}, {size['tokens']} tokens, batch {size['batch']}; "
        f"{result['macs_linear_conv']:,} of them in linear layers and convolutions")
    rows = [(b["name"], b["params"], b["macs"], *(b["units"][kind] for kind in KINDS))
            for b in result["blocks"] if b["params"]]
    return (f"{' '.join(filter(None, (result['model'], result['component'], result['class'])))}\n"
            f"{result['params']:,} parameters\n{macs}\n\n"
            + table(("block", "params", "macs", *(f"{kind}s" for kind in KINDS)), rows))


def show_report(result: Result) -> str:
    """What was asked for and what came of it."""
    units, rows = result["units"], []
    for name in ("params", "macs", "bytes"):
        row = result[name]
        rows.append((name, row["dense"], row["pruned"], row.get("nonzero")))
    layers = [(layer["name"], layer["units"], layer["gone"], f"{layer['gone'] / layer['units']:.1%}",
               layer["reason"]) for layer in result["layers"]]
    written = result.get("folder") or result.get("plan")
    return (table(("layer", "units", "gone", "share", "why"), layers)
            + f"\n\nasked for {result['requested']['ratio']:.1%} of {result['requested']['of']}; "
            f"gone {units['gone']:,} of {units['total']:,}\n\n" + table(("", "dense", "pruned", "not zero"), rows)
            + f"\n\n{_speed(result['speed'])}" + (f"\n\nwritten to {written}" if written else ""))


def _speed(speed: Result) -> str:
    theory = "" if speed["theory"] is None else f"in theory {speed['theory']:.2f} times as fast; not measured yet. "
    return f"{theory}{speed['why']}"


def show_drawn(result: Result) -> str:
    """The files, and the live clock."""
    return "\n".join([*result["files"], f"{result['live_ms_per_step']:.1f} ms a step, taken live"])


def show_compared(result: Result) -> str:
    """The report, the live clock of both, and the files."""
    live = ", ".join(f"{side} {ms:.1f}" for side, ms in result["live_ms_per_step"].items())
    return "\n".join([show_report(result), "", f"ms a step, taken live while both were drawn in turn: {live}", "",
                      *result["files"]])


if __name__ == "__main__":
    sys.exit(main())
