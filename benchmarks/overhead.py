"""A pipeline drawn through Prunescope against bare diffusers: same latents, steps and guidance, in pairs of runs.

python -m benchmarks.overhead
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

import pruning
from benchmarks.pairs import in_turn, interval
from benchmarks.table import publish
from pruning.drawing.images import Run, scheduler, starts
from pruning.timing import intervals

PAIRS, STEPS = 10, 6


def ours(pipe, shot) -> None:
    """Measure mode's loop, the decoder, and the counts on the badge."""
    run = Run(pipe, shot)
    for index in range(shot.steps):
        run.step(index)
    run.finish()


def bare(pipe, shot) -> None:
    """What a user of diffusers writes."""
    pipe.scheduler = scheduler(pipe, shot.sampler)
    pipe(shot.prompts[0], num_inference_steps=shot.steps, guidance_scale=shot.guidance,
         num_images_per_prompt=shot.images, latents=starts(pipe, shot, shot.images))


@torch.no_grad()
def seconds(draw: Callable[[Any, pruning.Shot], None], pipe: Any, shot: pruning.Shot) -> float:
    """How long one drawing takes."""
    before = time.perf_counter()
    draw(pipe, shot)
    return time.perf_counter() - before


def main() -> None:
    """Both, at one and four images."""
    pipe, rows = pruning.load("emoji-sd"), []
    for images in (1, 4):
        shot = pruning.Shot("red heart on a blue background", steps=STEPS, images=images)
        sides = [partial(seconds, draw, pipe, shot) for draw in (ours, bare)]
        in_turn(sides, 1)  # to warm up
        one, other = in_turn(sides, PAIRS)
        found = intervals.ratio(one, other)
        rows.append({"images": images, "ours, s": median(one), "diffusers, s": median(other),
                     "ours / diffusers": intervals.said(found), "95 % interval": interval(found, 3)})
    publish("overhead", "python -m benchmarks.overhead", rows)


if __name__ == "__main__":
    main()
