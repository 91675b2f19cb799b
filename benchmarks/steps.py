"""How many times faster a pruned U-Net is, beside how many times fewer MACs it has (aim: 0.8 where compute dominates).

A call of the U-Net alone, without guidance, at one and four images; dense and pruned in pairs, A B and B A in turn,
once both are copied, warm and profiled. SD-1.5's U-Net has random weights. Where a call is too long to repeat, latents
are halved. Every cell is kept as it is done: a run that was stopped goes on, one that was complete begins anew.

python -m benchmarks.steps
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import pruning
from benchmarks.cell import Cell, notes, shares
from benchmarks.pairs import in_turn
from benchmarks.table import keep, kept, publish
from pruning.network.clone import copied
from pruning.network.inputs import Example, arguments, side_of
from pruning.network.subject import subject
from pruning.timing.alike import fresh
from pruning.timing.profile import profiled
from pruning.units.costs import trace

COMMAND = "python -m benchmarks.steps"
IMAGES = (1, 4)
LONGEST = 12  # seconds of a call that is repeated
ZEROS: Mapping[str, Mapping[str, Any]] = {"weights 50 %": {"ratio": 0.5}, "2:4": {"pattern": "2:4"}}
HIDDEN = "*.resnets.?"  # a ResNet is counted for its hidden channels, and its convolutions for the streams
KINDS: Mapping[str, Mapping[str, Any]] = {
    "heads": {"units": "head"}, "neurons": {"units": "neuron"},
    "hidden channels": {"units": "channel", "only": HIDDEN},
    "stream channels": {"units": "channel", "overrides": {HIDDEN: 0.0}},
}
WIDTHS = {f"{kind} {100 * ratio:.0f} %": {**asked, "ratio": ratio}
          for kind, asked in KINDS.items() for ratio in (0.25, 0.5, 0.75)}


@dataclass(frozen=True)
class Model:
    """What is timed, and how often."""

    load: Callable[[], Any]
    cases: Mapping[str, Mapping[str, Any]]
    pairs: int  # of calls
    profiled: int


MODELS = {
    "emoji-sd": Model(partial(pruning.load, "emoji-sd"), {**ZEROS, **WIDTHS}, 16, 3),
    "sd-1.5": Model(partial(pruning.load, "sd-1.5", weights="random"), WIDTHS, 6, 1),
}
Key = tuple[str, str, int]  # (model, removed, images)


def inputs(net: nn.Module, example: Example, images: int) -> dict[str, Any]:
    """Random inputs for some images."""
    draw = torch.Generator().manual_seed(0)
    given: Any = arguments(net, example)
    return {name: torch.randn(images, *value.shape[1:], generator=draw)
            if isinstance(value, Tensor) and value.ndim > 1 else value for name, value in given.items()}


@torch.no_grad()
def call(net: nn.Module, given: Mapping[str, Any]) -> float:
    """The milliseconds of one call."""
    before = time.perf_counter()
    net(**given)
    return (time.perf_counter() - before) * 1000


def again(net: nn.Module, given: Mapping[str, Any], _: int) -> float:
    """The same, for the profiler."""
    return call(net, given)


def latents(net: nn.Module, example: Example, images: int) -> tuple[int, float | None]:
    """(side, too_long): the model's own latents, halved until a call is not too long; see ``Cell``."""
    own = side = example.latent or side_of(net) or 0
    first = seconds = call(net, inputs(net, example, images)) / 1000
    while seconds > LONGEST and side > 16:
        side //= 2
        seconds = call(net, inputs(net, replace(example, latent=side), images)) / 1000
    return side, first if side < own else None


def compared(key: Key, pair: Sequence[nn.Module], example: Example, too_long: float | None) -> Cell:
    """Both sides of one cell: a profile of each, and then the clock."""
    name, removed, images = key
    given, model = inputs(pair[0], example, images), MODELS[name]
    for net in pair:
        call(net, given)  # to warm up
    parts = [shares(profiled(partial(again, net, given), model.profiled, "cpu")) for net in pair]
    macs = [trace(net, example).count()[1] * images for net in pair]
    ms = in_turn([partial(call, net, given) for net in pair], model.pairs)
    return Cell(name, removed, images, example.latent or 0, macs, ms, parts, too_long)


def measured(name: str, wanted: Sequence[Key], sizes: dict[int, tuple[int, float | None]]) -> Iterator[Cell]:
    """The cells of one model. ``sizes`` are the latents of earlier ones by their images, and are added to."""
    loaded = subject(MODELS[name].load())
    pipe, example = loaded.holding(copied(loaded.net.eval(), fresh)), loaded.example
    del loaded
    dense = pipe.unet
    for removed in dict.fromkeys(removed for _, removed, _ in wanted):
        plan = pruning.plan(pipe, "magnitude", **MODELS[name].cases[removed])
        smaller = copied(pruning.apply(pipe, plan).unet.eval(), fresh)
        for key in [key for key in wanted if key[1] == removed]:
            if key[2] not in sizes:
                sizes[key[2]] = latents(dense, example, key[2])
            side, too_long = sizes[key[2]]
            yield compared(key, (dense, smaller), replace(example, latent=side), too_long)


def listed(model: str | None = None, quick: bool = False) -> list[Key]:
    """The cells of one model or of all, in the table's order; quickly, those that lose half."""
    return [(name, removed, images) for name, one in MODELS.items() if model in (None, name)
            for removed in one.cases if not quick or "50" in removed for images in IMAGES]


def going_on(wanted: Sequence[Key]) -> dict[Key, Cell]:
    """The cells that need not be measured: all with enough pairs that are kept, but for those of a complete run."""
    found = {cell.key: cell for cell in (Cell(**one) for one in kept("steps"))
             if cell.key in listed() and cell.faster is not None}
    if found.keys() >= set(wanted):
        return {key: cell for key, cell in found.items() if key not in wanted}
    return found


def main(given: Sequence[str] | None = None) -> None:
    """What is asked for and not kept yet; the table has all that is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, help="one model alone")
    parser.add_argument("--quick", action="store_true", help="only the cells that lose half")
    asked = parser.parse_args(given)
    wanted = listed(asked.model, asked.quick)
    found = going_on(wanted)
    for name in MODELS:
        missing = [key for key in wanted if key[0] == name and key not in found]
        sizes = {cell.images: (cell.latents, cell.too_long) for cell in found.values() if cell.model == name}
        for cell in measured(name, missing, sizes) if missing else ():
            found[cell.key] = cell
            print(f"{len(found.keys() & set(wanted))} of {len(wanted)}", cell.row(), flush=True)
            keep("steps", COMMAND, *table(found))
    publish("steps", COMMAND, *table(found))


def table(found: Mapping[Key, Cell]) -> tuple[list[Any], list[str], list[Any]]:
    """(rows, notes, cells), in order."""
    cells = [found[key] for key in listed() if key in found]
    return [cell.row() for cell in cells], list(notes(cells)), [cell.to_dict() for cell in cells]


if __name__ == "__main__":
    main()
