"""How far sets of pictures are from each other, by what ``emoji-clip`` sees in them.

A proxy for the figures of papers, which are taken with an Inception network: emoji-clip is small and knows nothing but
emoji. Compare with what real pictures reach, at the same number of pictures: few pictures make the Fréchet distance
larger, the MMD only less certain.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel

from assets.make import emoji_clip
from assets.make.training import in_batches

PROXY = "emoji-clip"
KERNEL = "Gaussian, as wide as the median distance of two real pictures; unbiased"


class Eyes:
    """The image tower of ``emoji-clip`` as it is shipped."""

    def __init__(self, folder: Path = emoji_clip.FOLDER, device: str = "cpu") -> None:
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)
        self.device = device

    @torch.no_grad()
    def __call__(self, pictures: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        """Unit vectors of pictures, each (px, px, 3) uint8 of any size: (n, projection) float64."""
        pixels = self.processor([Image.fromarray(picture) for picture in pictures], return_tensors="pt").pixel_values
        seen = in_batches(lambda part: emoji_clip.image_features(self.model, part.to(self.device)), pixels, 64)
        return seen.cpu().double()


def frechet(one: Tensor, other: Tensor) -> float:
    """The squared Fréchet distance of two normal distributions with the means and covariances of the rows, (n, d).

    The trace of the root of both covariances' product is the nuclear norm of the two centred sets' product, so that no
    root is taken, and it holds with fewer pictures than dimensions, too.
    """
    a, b = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (one, other))
    apart = (one.mean(0) - other.mean(0)).square().sum()
    return float(apart + a.square().sum() + b.square().sum() - 2 * torch.linalg.matrix_norm(a @ b.T, "nuc"))


def width(real: Tensor) -> float:
    """The median distance of two different pictures, rows of (n, d)."""
    return float(torch.pdist(real).median())


def mmd(one: Tensor, other: Tensor, wide: float) -> float:
    """The squared maximum mean discrepancy of the rows, (n, d): about 0, and now and then below, for equal sources."""
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-torch.cdist(a, b).square() / (2 * wide**2)).exp()

    def inside(x: Tensor) -> Tensor:
        return (kernel(x, x).sum() - len(x)) / (len(x) * (len(x) - 1))

    return float(inside(one) + inside(other) - 2 * kernel(one, other).mean())
