"""Which single weights stay: from a decision and the scores it was made on, or from packed bits."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruning.decisions.pattern import kept_pattern
from pruning.errors import Refused
from pruning.scores.scores import SiteScores
from pruning.scores.sketch import keys
from pruning.types import Decision
from pruning.units.site import Site


def resolved(decision: Decision, pieces: Iterable[SiteScores], shape: Any) -> Iterator[tuple[Site, Tensor]]:
    """(site, which of its weights stay, bool in the weight's own shape), from scores that come piece by piece.

    ``shape`` gives a site's weight's shape.
    """
    for site, scored in groupby(pieces, key=lambda piece: piece.site):
        keep = torch.empty(shape(site), dtype=torch.bool)
        entry = decision.sites[site.name]
        if decision.kind == "pattern":
            for piece in scored:
                _place(site, keep, piece)[...] = kept_pattern(piece.values, entry)
        else:
            _above(site, keep, scored, *entry[:2])
        yield site, keep


def _above(site: Site, keep: Tensor, scored: Iterable[SiteScores], key: int, kept: int) -> None:
    """Those above a key stay, and the last ``kept`` exactly at it."""
    level = []
    for piece in scored:
        found = keys(piece.values)
        _place(site, keep, piece)[...] = found > key
        if kept:
            at = (found == key).nonzero()  # (n, axes), in the order of rows
            at[:, 0] += piece.start
            level.append(at)
    if kept:
        site.rows(keep)[tuple(torch.cat(level)[-kept:].cpu().T)] = True


def _place(site: Site, keep: Tensor, piece: SiteScores) -> Tensor:
    return site.rows(keep)[piece.start : piece.start + len(piece.values)]


def packed(keep: Tensor) -> Tensor:
    """A mask, eight weights a byte, in the order of its own axes."""
    return torch.from_numpy(np.packbits(keep.numpy()))


def mark(bits: Tensor) -> str:
    """Sixteen hexadecimal digits that stand for packed bits."""
    return sha256(bits.numpy().data).hexdigest()[:16]


def unpacked(decision: Decision, site: Site, shape: torch.Size) -> Tensor:
    """The mask of one site, bool in the weight's shape.

    Raises:
        Refused: the bits are not there, or not those that the plan was written with.
    """
    bits = decision.tensors.get(site.name)
    packs = bits is not None and bits.dtype == torch.uint8 and bits.ndim == 1
    if bits is None or not packs or mark(bits) != decision.sites[site.name][0]:
        raise Refused(f"The masks of this plan are {'missing' if bits is None else 'not those it was made with'}.",
                      "Keep the .safetensors of a plan beside its .json, as they were written.")
    count = shape.numel()
    if len(bits) != -(-count // 8):
        raise Refused(f"The mask of {site.name} has another size than the model.", "Make the plan again.")
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count).astype(bool)).reshape(shape)
