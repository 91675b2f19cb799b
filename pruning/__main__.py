"""The command line, made from the arguments of the public functions and the knobs of the methods.

Under ``--json`` standard output is one JSON object, and everything else goes to standard error. It exits
with 0 when done, with 1 when refused or failed, in a sentence, and with 2 when the command was not understood.
``shell`` says what closed streams and signals come to. No output takes the place of what Prunescope did not write,
unless ``--force`` says so, and where it goes is tried before the work begins.
"""

import argparse
import json
import logging
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, redirect_stdout
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo
from torch import nn
from tqdm import tqdm

import pruning
from pruning.cli import flags, printed, shell
from pruning.cli.shell import Parser, Stopped, Usage
from pruning.cli.watched import Watch, interruptible
from pruning.decisions import applying
from pruning.decisions.check import check
from pruning.drawing import canvas, images
from pruning.drawing.images import Drawn, Stepped
from pruning.errors import Later, Refused, in_words, out_of_memory
from pruning.metrics.judge import judge_for
from pruning.metrics.latents import Divergence
from pruning.metrics.quality import compared
from pruning.models import files, outputs, planfile, saving
from pruning.models.sources import outline
from pruning.network.notes import plan_of
from pruning.network.size import total
from pruning.network.subject import log, subject
from pruning.planning import preview, request, resolve
from pruning.planning.overlap import overlapping
from pruning.progress import Looked, drained
from pruning.recovery import Training, keeping, recovering
from pruning.reports.aftercare import recovered
from pruning.reports.verdict import sentence
from pruning.types import Plan, PlanStep, Shot
from pruning.units.catalog import find
from pruning.units.costs import trace

T = TypeVar("T")
Result = dict[str, Any]
REPORT = "report.json"
LATER = {"bench": "measure dense against pruned, interleaved", "sweep": "run many recipes"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Exits with 2 when it is no command."""
    given = sys.argv[1:] if argv is None else list(argv)
    with shell.attached(), shell.signalled():
        try:
            return _run(given)
        except Stopped as stop:
            return shell.failed(stop.told, "--json" in given, stop.status)


def _run(given: list[str]) -> int:
    try:
        args = parsed(given)
    except Usage as error:
        error.parser.print_usage(sys.stderr)
        print(f"{error.parser.prog}: error: {error.message}", file=sys.stderr)
        if "--json" in given:
            shell.failed(Refused(f"{error.message.rstrip('.')}.", f"See {error.parser.prog} --help."), True)
        raise SystemExit(2) from None
    try:
        with redirect_stdout(sys.stderr), _logged():
            result = args.run(args)
    except Refused as error:
        return shell.failed(error, args.json)
    except (OSError, MemoryError) as error:
        return shell.failed(in_words(error), args.json)
    except Exception as error:  # a fault of ours: said in full, and still one object under --json
        if out_of_memory(error):
            return shell.failed(in_words(error), args.json)
        traceback.print_exc(file=sys.stderr)
        told = Refused(f"{type(error).__name__}: {error}", "This is a fault of Prunescope; please report it.")
        return shell.failed(told, args.json)
    return shell.printed(json.dumps(result) if args.json else args.show(result), 0)


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
    """The arguments of a command, with ``run`` and ``show``.

    Raises:
        Usage: they are no command.
    """
    parser = Parser("python -m pruning", description=(pruning.__doc__ or "").partition("\n")[0],
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
            sub.add_argument("--force", action="store_true", help="take the place of what is there")
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
        return sub

    command(methods, printed.methods)
    flags.add(command(inspect, printed.inspected, "model"), {"component": flags.REQUEST["component"]})
    scorer, rivals = command(score, printed.scored, "model"), command(overlap, printed.overlapped, "model")
    rivals.add_argument("--rival", required=True, metavar="METHOD", help="the method to compare with")
    planner = command(plan, printed.report, "model", out="PLAN.json")
    pruner = command(prune, printed.report, "model", out="FOLDER")
    pruner.add_argument("--plan", metavar="PLAN.json", help="a plan that `plan` wrote, instead of the flags below")
    for asking in (scorer, rivals, planner, pruner):
        flags.add(asking, flags.LOAD)
        flags.add_request(asking)
    for drawn in (command(generate, printed.drawn, "model", out="FOLDER"),
                  command(compare, printed.compared, "model", "pruned", out="FOLDER")):
        flags.add(drawn, flags.LOAD | flags.DRAW)
    trainer = command(recover, printed.recovered, "pruned", out="FOLDER")
    trainer.add_argument("--dense", metavar="MODEL", help="the model before pruning, which has or draws the samples")
    trainer.add_argument("--state", metavar="FILE", help="where a stop leaves what was reached, and where the same "
                         "command goes on (FOLDER.state)")
    flags.add(trainer.add_argument_group("how it is trained"), flags.TRAIN)
    flags.add(trainer.add_argument_group("which samples it is shown"), flags.calibration(flags.SHOWN))
    for name in LATER:
        command(later, str, name=name)

    args, rest = parser.parse_known_args(argv)
    if rest and args.command not in LATER:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if args.command == "prune":
        given = [name for name in flags.asked() if hasattr(args, name)]
        if args.plan and given:
            parser.error(f"--plan says it all: leave out {', '.join(f'--{flags.spelled(name)[0]}' for name in given)}")
        if not args.plan and not {"method", "ratio", "pattern"} & set(given):
            parser.error("prune needs --plan, or --method and --ratio")
    return args


# Commands.


def methods(args: argparse.Namespace) -> Result:
    """List the methods."""
    return {"methods": [method._asdict() for method in pruning.methods()]}


def inspect(args: argparse.Namespace) -> Result:
    """Show what a model, or an architecture such as sd-1.5, consists of, and what it costs."""
    looked_at = subject(outline(args.model), getattr(args, "component", None))
    net, costs = looked_at.net, trace(looked_at.net, looked_at.example)
    dense = {name: costs.macs_of(name) for name in costs.uses}
    blocks: dict[str, Result] = {
        name: {"name": name, "params": 0, "macs": 0 if costs.known else None,
               "units": dict.fromkeys(flags.counted(), 0)}
        for name in _block_names(net, costs.order)}
    for name, parameter in net.named_parameters():
        blocks[_block_of(net, name)]["params"] += parameter.numel()
    for name, macs in (*dense.items(), *costs.attention.items()):
        blocks[_block_of(net, name)]["macs"] += macs
    for kind in flags.counted():
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


def score(args: argparse.Namespace) -> Result:
    """Show what a method thinks of every layer, and at which noise it matters."""
    pipe, asked = _loaded(args), flags.request(args)
    if "pattern" not in asked and asked.get("units") != "nm":
        asked.setdefault("ratio", 0.0)  # scores do not depend on it
    recipe = request.request(pipe, **asked)
    scores = _watched(resolve.scoring(pipe, recipe))
    layers = [{"name": site.name, "kind": site.kind, "units": site.units,
               "quantiles": list(preview.quantiles(scores, site, 5)),
               "by_timestep": scores.profiles[site.name].tolist() if site.name in scores.profiles else None,
               "repeatability": scores.repeats.get(site.name)} for site in scores.catalog]
    return {"model": args.model, "method": recipe.method, "repeatability": scores.repeatability, "layers": layers,
            "timesteps": asdict(scores.curve) if scores.curve else None}


def overlap(args: argparse.Namespace) -> Result:
    """Compare what two methods would remove, layer by layer."""
    pipe, asked = _loaded(args), flags.request(args)
    own = {"method", *flags.method_knobs()}
    sides = [request.request(pipe, **asked), request.request(pipe, method=args.rival, **{
        name: value for name, value in asked.items() if name not in own})]
    scores = [_watched(resolve.scoring(pipe, recipe)) for recipe in sides]
    found = _watched(overlapping(scores[0], sides[0], scores[1], sides[1]))
    whole = reduce(add, found.values())
    return {"model": args.model, "method": sides[0].method, "rival": args.rival, "agreement": whole.agreement,
            "chance": whole.chance, "layers": [{"name": name, **asdict(each), "agreement": each.agreement}
                                               for name, each in found.items()]}


def plan(args: argparse.Namespace) -> Result:
    """Write down what would go; the model is not changed."""
    out = outputs.plan(args.out, args.force)
    pipe = _loaded(args)
    found = _planned(pipe, args)
    report = pruning.report(pipe, _watched(applying.applying(pipe, found)), found)
    planfile.keep(found, out, args.force)
    return report.to_dict() | {"plan": str(out), "digest": found.digest}


def _planned(pipe: Any, args: argparse.Namespace) -> Plan:
    recipe = request.request(pipe, **flags.request(args))
    scores = _watched(resolve.scoring(pipe, recipe))
    return _watched(resolve.resolving(pipe, recipe, scores))


def _watched(work: Generator[Looked, None, T]) -> T:
    """What some work returns, with a bar over it."""
    with tqdm(leave=False, file=sys.stderr) as bar:
        return drained(work, lambda event: _at(bar, event))


def _at(bar: tqdm, event: Looked) -> None:
    bar.set_description(event.what, refresh=False)
    bar.total = event.of
    bar.update(event.done - bar.n)


def _loaded(args: argparse.Namespace) -> Any:
    return pruning.load(args.model, **flags.given(args, flags.LOAD))


def prune(args: argparse.Namespace) -> Result:
    """Write a smaller model, as an ordinary folder of diffusers with its plan."""
    out = outputs.model(args.out, args.force, [args.model])
    known = planfile.read(Path(args.plan)) if args.plan else None
    pipe = _loaded(args)
    found = known or _planned(pipe, args)
    smaller = _watched(applying.applying(pipe, found))
    done = plan_of(smaller) or found
    if done == plan_of(pipe):
        raise Refused(f"{args.model} has gone through this plan already.", "Give the model that the plan was made on.")
    report = pruning.report(pipe, smaller, done)
    saving.write(smaller, out, args.force)
    return report.to_dict() | {"folder": str(out), "plan": str(out / planfile.PLAN), "digest": done.digest}


def generate(args: argparse.Namespace) -> Result:
    """Draw with one model."""
    out = outputs.pictures(args.out)
    pipe = _loaded(args)
    shot = _shot(args, pipe)
    names = [f"image_{i}.png" for i in range(len(shot.prompts) * shot.images)]
    outputs.pictures(out, names, args.force)
    (drawn,) = _drawn(pruning.generate(pipe, shot), shot.steps)
    with _filling(args, names) as part:
        for name, image in zip(names, drawn.images, strict=True):
            _write(part / name, image, drawn)
    return {"files": [str(out / name) for name in names], "live_ms_per_step": float(np.median(drawn.ms)),
            "shot": shot.to_dict(), "origin": asdict(drawn.origin), "notes": list(drawn.notes)}


def compare(args: argparse.Namespace) -> Result:
    """Draw with both models from the same noise; write the pictures, their differences and the report."""
    out = outputs.pictures(args.out)
    dense, pruned = _loaded(args), pruning.load(args.pruned)
    shot = _shot(args, dense)
    found, count = _shared_plan(args, dense, pruned), len(shot.prompts) * shot.images
    names = [*(f"{side}_{i}.png" for side in ("dense", "pruned", "difference") for i in range(count)), REPORT]
    outputs.pictures(out, names, args.force)
    apart = Divergence()
    one, other = sides = _drawn(apart.watching(images.draw_pair(dense, pruned, shot)), 2 * shot.steps)
    report = pruning.report(dense, pruned, found)
    far = compared(one, other, shot.prompts, apart.steps, judge_for(found.recipe.model)).to_dict()
    told = sentence(report.to_dict(), far, found.decided.recipe.component, found.decided.recipe.pattern)
    result = report.to_dict() | {"quality": far, "verdict": told, "notes": list(one.notes),
                                 "files": [str(out / name) for name in names],
                                 "live_ms_per_step": {d.side: float(np.median(d.ms)) for d in sides}}
    with _filling(args, names) as part:
        for i, (a, b) in enumerate(zip(*(drawn.images for drawn in sides), strict=True)):
            for image, drawn in ((a, one), (b, other), (ImageChops.difference(a, b), None)):
                _write(part / f"{drawn.side if drawn else 'difference'}_{i}.png", image, drawn)
        (part / REPORT).write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _filling(args: argparse.Namespace, names: Sequence[str]) -> AbstractContextManager[Path]:
    """A folder for files of these names, which then are at ``--out``."""
    return files.filling(args.out, lambda folder: outputs.pictures(folder, names, args.force))


def _shot(args: argparse.Namespace, pipe: Any) -> Shot:
    """What to draw.

    Raises:
        Refused: a model that reads prompts is given none.
    """
    values = flags.given(args, flags.DRAW)
    if "prompts" not in values and canvas.drawing(pipe).prompted:
        raise Refused("There is no prompt.", 'Say what to draw with --prompt TEXT; "" is a prompt, too.')
    return Shot(**values)


def recover(args: argparse.Namespace) -> Result:
    """Train a pruned model so that it recovers; a run that was stopped goes on where it was."""
    out = outputs.model(args.out, args.force, filter(None, (args.pruned, args.dense)))
    file = Path(args.state or f"{out if out.name else out.resolve()}.state")
    if files.target(out) in files.target(file).parents:
        raise Refused("The state cannot be in the folder that the model goes to.", "Choose a file beside it.")
    state = Training.at(file)
    pruned, dense = pruning.load(args.pruned), pruning.load(args.dense) if args.dense else None
    component = getattr(args, "component", None)
    options = flags.recovery(args, subject(pruned if dense is None else dense, component))
    work = keeping(recovering(pruned, dense, options, component, state), state, file)
    with tqdm(leave=False, file=sys.stderr) as bar, interruptible() as asked, closing(work):
        made = drained(work, Watch(bar, state, file, asked))
    _saved(made, out, args.force, file)
    files.target(file).unlink(missing_ok=True)
    plan = plan_of(made)
    assert plan is not None
    told = recovered(plan)
    assert told is not None
    return told | {"training": dict(plan.trained[-1]), "seconds": round(state.seconds, 2), "folder": str(out),
                   "plan": str(out / planfile.PLAN), "digest": plan.digest}


def _saved(made: Any, out: Path, force: bool, state: Path) -> None:
    """Write what was trained.

    Raises:
        Refused: it cannot be written; the state stays.
    """
    try:
        saving.write(made, out, force)
    except (Refused, OSError) as error:
        told = error if isinstance(error, Refused) else in_words(error)
        raise Refused(told.message, f"{state} holds the training, and the same command goes on there: "
                      f"it has nothing left but to save. {told.remedy}") from error


def _shared_plan(args: argparse.Namespace, dense: Any, pruned: Any) -> Plan:
    """The plan that leads from one model to the other.

    Raises:
        Refused: there is none, or it starts from another model.
    """
    found, before = plan_of(pruned), plan_of(dense)
    done = before.steps if before else ()
    if found is None:
        raise Refused(f"{args.pruned} is not a pruned model: it has no {planfile.PLAN}.",
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


def _drawn(events: Iterable[images.Event], steps: int) -> list[Drawn]:
    """The finished pictures, with a bar over the steps."""
    with tqdm(total=steps, desc="drawing", unit="step", leave=False, file=sys.stderr) as bar:
        finished = []
        for event in events:
            if isinstance(event, Stepped):
                bar.update()
            else:
                finished.append(event)
    return finished


def _write(path: Path, image: Image.Image, drawn: Drawn | None) -> None:
    """Write a picture, with the model that made it in its text fields."""
    notes = PngInfo()
    for name, value in (asdict(drawn.origin) if drawn else {"picture": "difference"}).items():
        notes.add_text(f"prunescope {name}", str(value))
    image.save(path, pnginfo=notes)


if __name__ == "__main__":
    sys.exit(main())
