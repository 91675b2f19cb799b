"""emoji-clip as a judge: whether pictures show what their prompts say."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pruning.models.sources import ASSETS, BUNDLED, prompted, vocabulary

COLOURS = ("white", "black", "grey", "red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown")
CANDIDATES = 200


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


def judge_for(source: str) -> Judge | None:
    """Who reads the pictures of a model, by the model's source; None for models that nobody here can judge.

    Nobody can where there is no prompt that a picture could fit.
    """
    return _judge if prompted(source) else None

_judge = Judge()
