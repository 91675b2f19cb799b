"""How far the pruned pictures are from the dense ones: as pictures, as latents after each step, and as read by a model.

Alignment and retrieval are taken with ``emoji-clip``, which knows nothing but emoji: a proxy, for bundled models only.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from pruning.drawing.images import Drawn
from pruning.metrics.judge import CANDIDATES, Judge
from pruning.metrics.latents import apart
from pruning.metrics.pictures import likeness


@dataclass(frozen=True)
class Quality:
    """What pruning did to the pictures. Pairs are (dense, pruned).

    ``ranks`` has an entry for every picture, None where there is no judge or the prompt is empty. Where all are None,
    alignment and retrieval are None, too. Without a judge ``candidates`` is 0 and ``proxy`` is empty.
    """

    psnr: float | None  # dB, mean over the pictures that differ; None when none does
    ssim: float  # mean over pictures
    latents: float  # |pruned - dense| / |dense| of the final latents, mean over pictures
    steps: tuple[float, ...]  # the same after each denoising step
    alignment: tuple[float, float] | None  # mean cosine of the pictures with their own prompts
    retrieval: tuple[float, float] | None  # share of pictures that fit their own prompt best of all
    ranks: tuple[tuple[int, int] | None, ...]  # the place of the own prompt, 1 is best
    candidates: int  # how many captions the own prompt has to beat
    proxy: str  # the model that alignment and retrieval are taken with

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no NaN: None stands where the latents of a broken model have one."""
        return asdict(self) | {"latents": _finite(self.latents), "steps": tuple(map(_finite, self.steps))}


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


# Pictures.


def compared(dense: Drawn, pruned: Drawn, prompts: Sequence[str], steps: Sequence[float],
             judge: Judge | None) -> Quality:
    """The quality of a pair. ``prompts`` are the shot's, ``steps`` those of a ``Divergence``."""
    psnr, ssim = likeness(dense.images, pruned.images)
    count = len(dense.images)
    asked = [prompts[i * len(prompts) // count] for i in range(count)]  # each prompt's pictures stand together
    both = [judge.readings(side.images, asked) if judge else [None] * count for side in (dense, pruned)]
    pairs = [(a, b) if a and b else None for a, b in zip(*both, strict=True)]
    read = [pair for pair in pairs if pair]
    return Quality(
        psnr, ssim, apart(dense.latents, pruned.latents), tuple(steps),
        alignment=_means([(a.cosine, b.cosine) for a, b in read]),
        retrieval=_means([(a.place == 1, b.place == 1) for a, b in read]),
        ranks=tuple((pair[0].place, pair[1].place) if pair else None for pair in pairs),
        candidates=CANDIDATES if judge else 0, proxy=judge.name if judge else "")


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    return (sum(a for a, _ in pairs) / len(pairs), sum(b for _, b in pairs) / len(pairs)) if pairs else None
