"""Single weights by a mask that is written down, for what was chosen by looking at data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pruning.decisions import DECISIONS
from pruning.decisions.zeros import Zeros
from pruning.errors import Refused
from pruning.network.subject import Subject
from pruning.types import Adjusted, Decision, PlanStep, Trained
from pruning.units.catalog import find
from pruning.units.site import Site


@DECISIONS.add("bits")
@dataclass(frozen=True)
class Bits(Zeros):
    """``[digest, gone]`` of a mask in ``tensors``, (bytes,) uint8, eight weights a byte, set where they stay."""

    noun: ClassVar = "mask"

    def gone(self, entry: Any, site: Site) -> int:
        """As it was counted."""
        return entry[-1]

    def fits(self, entry: Any, site: Site) -> bool:
        """A digest, and a count of weights that the site has."""
        mark, count = entry
        return isinstance(mark, str) and 0 <= count <= site.units

    def masks(self, looked_at: Subject, step: PlanStep, names: Sequence[str]) -> Iterator[tuple[Site, Tensor]]:
        """Which weights of some sites stay, as written."""
        sites = {site.name: site for site in find(looked_at.net, step.recipe.units)}
        for name in names:
            shape = looked_at.net.get_parameter(sites[name].tensor).shape
            yield sites[name], unpacked(step.decision, sites[name], shape)

    def holds(self, step: PlanStep, site: Site, weight: Tensor) -> bool:
        """Zeros where the mask says so."""
        return not weight[~unpacked(step.decision, site, weight.shape)].any()


def packed(keep: Tensor) -> Tensor:
    """A mask, eight weights a byte, in the order of its own axes."""
    return torch.from_numpy(np.packbits(keep.numpy()))


def mark(bits: Tensor) -> str:
    """Sixteen hexadecimal digits that stand for packed bits."""
    return sha256(bits.numpy().data).hexdigest()[:16]


def unpacked(decision: Decision | Adjusted | Trained, site: Site, shape: torch.Size) -> Tensor:
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
