"""Captions as token ids, written once: tokenizing anew at every step would hold up a GPU.

Knows nothing of networks.
"""

import random

import torch
from transformers import CLIPTokenizer

from assets.make import glyphs

WORDS = 32  # the most tokens a caption has
EMPTY = 0.1  # the share of captions that say nothing, for guidance


def tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids, (captions, WORDS)."""
    return tokenizer(captions, padding="max_length", max_length=WORDS, truncation=True, return_tensors="pt").input_ids


class Captions:
    """Several captions of every glyph on every colour, as people might write them."""

    def __init__(self, vocabulary: list[glyphs.Glyph], tokenizer: CLIPTokenizer, *, seed: int, device: str,
                 variants: int = 8) -> None:
        words = random.Random(seed)
        ids = [tokens(tokenizer, [glyphs.free_caption(glyph, colour, words) for colour in glyphs.COLOURS
                                  for _ in range(variants)]) for glyph in vocabulary]
        self.ids = torch.stack(ids).unflatten(1, (-1, variants)).to(device)  # (glyphs, colours, variants, WORDS)
        self.empty = tokens(tokenizer, [""]).to(device)

    def pick(self, which: torch.Tensor, colours: torch.Tensor, generator: torch.Generator, *,
             empty: float = 0.0) -> torch.Tensor:
        """One caption for each glyph and colour, (n, WORDS); ``empty`` is the share of captions that say nothing."""
        variants = torch.randint(self.ids.shape[2], which.shape, generator=generator).to(self.ids.device)
        silent = torch.rand(which.shape, generator=generator).to(self.ids.device) < empty
        return torch.where(silent.unsqueeze(1), self.empty, self.ids[which, colours, variants])
