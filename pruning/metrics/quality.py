"""How far the pruned pictures are from the dense ones: as pictures, as latents after each step, and as read by a model.

Alignment and retrieval are taken with ``emoji-clip``, which knows nothing but emoji: a proxy, for bundled models only.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pruning.drawing.images import Drawn, Stepped
from pruning.models.sources import ASSETS, BUNDLED, prompted, vocabulary

COLOURS = ("white", "black", "grey", "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown")
CANDIDATES = 200
WINDOW = 11  # px, of SSIM


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


# Latents.


class Divergence:
    """How far the sides are apart after each step. Keeps numbers, and latents only until the other side has its own."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._waiting: dict[int, Stepped] = {}

    def watching(self, events: Iterable[Any]) -> Iterator[Any]:
        """The events of a pair as they come, each step seen."""
        for event in events:
            if isinstance(event, Stepped):
                self.add(event)
            yield event

    def add(self, event: Stepped) -> None:
        """One side has done a step; which side comes first does not matter."""
        if event.index not in self._waiting:
            self._waiting[event.index] = event
            return
        both = {one.side: one.latents for one in (self._waiting.pop(event.index), event)}
        self.steps.append(apart(both["dense"], both["pruned"]))


@torch.no_grad()
def apart(dense: Tensor, pruned: Tensor) -> float:
    """|pruned - dense| / |dense|, the mean over pictures; both (images, channels, h, w)."""
    a, b = dense.float().flatten(1), pruned.float().flatten(1)
    return float(((b - a).norm(dim=1) / a.norm(dim=1)).mean())


# Pictures.


def likeness(dense: Sequence[Image.Image], pruned: Sequence[Image.Image]) -> tuple[float | None, float]:
    """(PSNR in dB, SSIM) of the 8-bit pictures as they are shown, each the mean over pictures.

    Equal pictures have an infinite PSNR: they do not enter its mean, and it is None when all are equal. SSIM is the
    mean over the windows that lie whole inside of the picture (Wang et al. 2004). Pictures that are smaller than a
    window are enlarged for it, pixel by pixel. In float32 SSIM is off by up to 0.0005 where a picture is flat and
    bright; float64 takes ten times as long.
    """
    from torchmetrics.functional.image import (  # takes a second, so not before something is drawn
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    a, b = pixels(dense), pixels(pruned)
    psnr = peak_signal_noise_ratio(b, a, data_range=255.0, reduction="none", dim=(1, 2, 3))
    different = psnr.isfinite()
    if (side := min(a.shape[-2:])) < WINDOW:
        a, b = (F.interpolate(x, scale_factor=-(-WINDOW // side)) for x in (a, b))
    found = structural_similarity_index_measure(b, a, data_range=255.0, reduction="none", return_full_image=True)
    edge = WINDOW // 2  # the library's own mean takes in windows that reach past the border, over a mirrored picture
    ssim = found[1][..., edge:-edge, edge:-edge].flatten(1).mean(1)
    return (float(psnr[different].mean()) if different.any() else None), float(ssim.where(different, 1.0).mean())


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """Pictures as values of 0 to 255, (images, 3, h, w)."""
    return torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images])).movedim(-1, 1).float()


# Prompts.


@dataclass(frozen=True)
class Reading:
    """How a picture is read: its cosine with its own prompt, and that prompt's place among all captions, 1 is best."""

    cosine: float
    place: int


class Judge:
    """The bundled ``emoji-clip``: how well a picture fits a caption. Loaded when first asked, in float32 on the CPU."""

    name = "emoji-clip"

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """Different glyphs, each on one colour, always the same; one is to spare for a prompt that is among them."""
        rng, listed = random.Random(0), vocabulary(BUNDLED[0])
        shuffled = sorted(rng.sample(listed, len(listed)), key=lambda entry: not entry["core"])  # the core comes first
        return tuple(f"{entry['name']} on a {rng.choice(COLOURS)} background" for entry in shuffled[: CANDIDATES + 1])

    def rivals(self, prompt: str) -> list[int]:
        """Which captions a prompt has to beat: always ``CANDIDATES``, and none that says the same."""
        return [i for i, caption in enumerate(self.captions) if _said(caption) != _said(prompt)][:CANDIDATES]

    def fit(self, images: Sequence[Image.Image], captions: Sequence[str]) -> Tensor:
        """Cosines of pictures and captions, (images, captions)."""
        return self._seen(images) @ self._read(captions).T

    def readings(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[Reading | None]:
        """How each picture is read that was drawn from the prompt at its place; None for an empty prompt."""
        seen, own = self._seen(images), self._read(prompts)
        others = seen @ self._known.T
        found: list[Reading | None] = []
        for i, prompt in enumerate(prompts):
            cosine = seen[i] @ own[i]
            at = place(cosine, others[i, self.rivals(prompt)])
            found.append(Reading(float(cosine), at) if prompt.strip() else None)
        return found

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        folder = ASSETS / self.name
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
        return model, CLIPTokenizer.from_pretrained(folder), CLIPImageProcessorPil.from_pretrained(folder)

    @cached_property
    def _known(self) -> Tensor:
        return self._read(self.captions)

    @torch.no_grad()
    def _seen(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit vectors of pictures, (images, projection)."""
        model, _, processor = self._parts
        values = processor([image.convert("RGB") for image in images], return_tensors="pt").pixel_values
        return F.normalize(model.visual_projection(model.vision_model(pixel_values=values).pooler_output), dim=-1)

    @torch.no_grad()
    def _read(self, captions: Sequence[str]) -> Tensor:
        """Unit vectors of captions, (captions, projection)."""
        model, tokenizer, _ = self._parts
        ids = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
        return F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output), dim=-1)


def place(own: Tensor, others: Tensor) -> int:
    """The place of a prompt's cosine, (), among those of other captions, (captions,): ties and NaN count against it."""
    return 1 + int((others < own).logical_not().sum())


def _said(caption: str) -> list[str]:
    """The words that tell captions apart."""
    return [word for word in re.findall(r"\w+", caption.lower()) if word not in ("a", "an", "the")]


_judge = Judge()


def judge_for(source: str) -> Judge | None:
    """Who reads the pictures of a model, by the model's source; None for models that nobody here can judge.

    Nobody can where there is no prompt that a picture could fit.
    """
    return _judge if prompted(source) else None


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
