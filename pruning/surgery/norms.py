"""Norms of masked models. Removed channels are zeros there; counted in, they would shift a norm's statistics as much as
pruning itself does. So statistics are taken over what is kept, in the groups that the smaller norm has.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeptGroupNorm(nn.GroupNorm):
    """A GroupNorm over the kept channels only."""

    def __init__(self, norm: nn.GroupNorm, kept: Tensor) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps, norm.affine)
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("kept", kept, persistent=False)  # (kept channels,) indices

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, ...) to the same shape, zero in removed channels."""
        kept: Tensor = self.kept  # type: ignore[assignment]
        some = F.group_norm(input[:, kept], self.num_groups, self.weight[kept], self.bias[kept], self.eps)
        return torch.zeros_like(input).index_copy(1, kept, some)


class KeptLayerNorm(nn.LayerNorm):
    """A LayerNorm over the kept channels only."""

    def __init__(self, norm: nn.LayerNorm, kept: Tensor) -> None:
        super().__init__(norm.normalized_shape, norm.eps, norm.elementwise_affine)
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("kept", kept, persistent=False)  # (kept channels,) indices

    def forward(self, input: Tensor) -> Tensor:
        """(..., c) to the same shape, zero in removed channels."""
        kept: Tensor = self.kept  # type: ignore[assignment]
        bias = None if self.bias is None else self.bias[kept]
        some = F.layer_norm(input[..., kept], kept.shape, self.weight[kept], bias, self.eps)
        return torch.zeros_like(input).index_copy(input.ndim - 1, kept, some)


def over_kept(norm: Any, kept: Tensor) -> nn.Module | None:
    """A norm that looks at kept channels only; None for a module that is no norm."""
    match norm:
        case nn.GroupNorm():
            return KeptGroupNorm(norm, kept)
        case nn.LayerNorm():
            return KeptLayerNorm(norm, kept)
    return None
