"""How alike two pictures are: PSNR and SSIM."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

WINDOW = 11  # px, of SSIM


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
