"""Diff-Pruning: whole channels go that the loss misses least, at the timesteps where there is something to lose."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning.calibration.call import blank, levels
from pruning.criteria import METHODS
from pruning.criteria.taylor import effects, grouped, layerwise, relative
from pruning.errors import Refused
from pruning.network.inputs import LAYERS
from pruning.network.subject import Subject
from pruning.observe import timesteps
from pruning.observe.gradients import Gradients, ready
from pruning.progress import Looked
from pruning.registry import knob
from pruning.scores.scores import Curve, SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog
from pruning.units.site import Site

GATES = ("gate", "prefix")
VARIANTS = ("diffusers", "ddpm_exp")


@METHODS.add("diff-pruning")
@dataclass(frozen=True)
class DiffPruning:
    """First-order Taylor estimate of the loss increase without a channel, over the timesteps with a noticeable loss.

    The gradients of all timesteps that count are summed before weights are multiplied with them (equation 7): what one
    timestep asks for and another forbids cancels. Which count is said by their losses on one batch (equation 6).
    """

    paper: ClassVar = "arXiv:2305.10924"
    family: ClassVar = "system"
    units: ClassVar = ("channel", "width", "head", "neuron")
    sees: ClassVar = "gradients"
    usual: ClassVar[Mapping[str, Any]] = {"spread": "layer", "protect": ("conv_out",), "rounding": "paper"}
    threshold: float = knob(0.05, "timesteps count whose loss is above this share of the largest; 0 listens to all",
                            low=0.0, high=0.99, step=0.01)
    gate: str = knob("gate", "each timestep on its own, as the formula says; or, as the authors' code does, none "
                     "from the first on that is below", choices=GATES)
    variant: str = knob("diffusers", "which of the authors' two codes adds up a channel: absolute effects, a mean over "
                        "layers; or squared ones with the norms' own, a sum (ddpm_exp, the paper's numbers)",
                        choices=VARIANTS)
    every: int = knob(20, "one in so many timesteps is listened to; the paper takes all, which is 1", low=1, high=250,
                      step=1)
    buckets: int = knob(4, "timestep buckets that the chart shows; scores do not depend on them", low=1, high=16,
                        step=1)

    def curve(self, subject: Subject, calibration: Calibration, losses: tuple[float, ...]) -> Curve:
        """Which timesteps count.

        Raises:
            Refused: none does.
        """
        gate = "prefix and one" if self.gate == "prefix" and self.variant == "diffusers" else self.gate
        counts = timesteps.counting(losses, self.threshold, gate)
        if not any(counts):
            raise Refused("No timestep has a loss that counts.", "Lower the threshold, or look at other samples.")
        return Curve(timesteps.chosen(subject, calibration, self.every), losses, self.threshold, counts,
                     levels(subject))

    def __call__(self, subject: Subject, catalog: Catalog, calibration: Calibration | None
                 ) -> Iterator[Looked | Curve | SiteScores]:
        """Listen to single timesteps, look at gradients where it counts, then score site by site."""
        settled = ready(subject, calibration)
        losses = yield from timesteps.losses(subject, settled, self.every)
        curve = self.curve(subject, settled, losses)
        yield curve
        taken = yield from timesteps.summed(subject, settled, curve.steps, curve.counts)
        yield from grouped(subject, catalog, taken, diffusers if self.variant == "diffusers" else ddpm_exp,
                           self.buckets)


def diffusers(subject: Subject, site: Site, taken: Gradients) -> Tensor:
    """Absolute effects, summed over a channel's slice of each layer; the mean over layers, relative to the group's."""
    return relative(layerwise(subject, site, taken, lambda effect: effect.abs().sum(1)))


def ddpm_exp(subject: Subject, site: Site, taken: Gradients) -> Tensor:
    """Squared effects of linear layers and convolutions, and the plain size of those of GroupNorm's scales, summed.

    The two only compare at the scale of the authors' loss, which is a sum over the values of a sample, not a mean.
    """
    total, given = torch.zeros(site.units), blank(subject) or {}
    scale = prod(given["sample" if "sample" in given else "hidden_states"].shape[1:])
    for member, part in site.slices(effects(subject, taken)):
        part = part * scale
        layer, _, tensor = member.tensor.rpartition(".")
        owner = subject.net.get_submodule(layer)
        if tensor == "weight" and isinstance(owner, LAYERS):
            total += part.square().sum(1)
        elif tensor == "weight" and isinstance(owner, nn.GroupNorm):
            total += part.abs().sum(1)
    return total
