"""A pipeline drawn through Prunescope against bare diffusers: same latents, steps and guidance, in turn.

python -m benchmarks.overhead
"""

import time

import torch

import pruning
from benchmarks.table import publish, ratio
from pruning.images import Run, scheduler, starts

REPEATS, STEPS = 9, 6


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


def main() -> None:
    """Both, at one and four images."""
    pipe, rows = pruning.load("emoji-sd"), []
    for images in (1, 4):
        shot = pruning.Shot("red heart on a blue background", steps=STEPS, images=images)
        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        for turn in range(REPEATS + 1):
            pair = [("ours", ours), ("bare", bare)]
            for name, draw in pair if turn % 2 else pair[::-1]:
                with torch.no_grad():
                    before = time.perf_counter()
                    draw(pipe, shot)
                if turn:  # the first turn warms up
                    seconds[name].append(time.perf_counter() - before)
        value, low, high = ratio(seconds["ours"], seconds["bare"])
        rows.append({"images": images, "ours, s": sorted(seconds["ours"])[REPEATS // 2],
                     "diffusers, s": sorted(seconds["bare"])[REPEATS // 2], "ratio": value,
                     "95 % interval": f"{low:.3f} to {high:.3f}"})
    publish("overhead", "python -m benchmarks.overhead", rows)


if __name__ == "__main__":
    main()
