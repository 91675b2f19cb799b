"""Attention whose backward pass is quick on a CPU.

The flash kernel's backward took 47 % of a U-Net step at 24x24 latents. Here the forward pass is that kernel, and the
backward pass multiplies plain matrices, a few heads at a time, so that the scores stay in the cache.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

flash = F.scaled_dot_product_attention
AT_ONCE = 2_000_000  # scores held at a time, about 4 MB of bfloat16


class Attention(torch.autograd.Function):
    """softmax(q k' / sqrt(d)) v over (batch, heads, tokens, d), without mask or dropout."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The kernel's own forward pass."""
        out = flash(q, k, v)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores are computed anew, then the chain rule through softmax."""
        shape_q, shape_k = ctx.saved_tensors[0].shape, ctx.saved_tensors[1].shape
        q, k, v, out, grad = (t.reshape(-1, *t.shape[2:]) for t in (*ctx.saved_tensors, grad))
        scale = q.shape[-1] ** -0.5
        parts = max(1, AT_ONCE // (q.shape[1] * k.shape[1]))
        grads: list[tuple[Tensor, Tensor, Tensor]] = []
        for q_, k_, v_, out_, grad_ in zip(*(t.split(parts) for t in (q, k, v, out, grad)), strict=True):
            weights = torch.bmm(q_ * scale, k_.mT).softmax(-1)
            inner = (grad_ * out_).sum(-1, keepdim=True)
            through = torch.bmm(grad_, v_.mT).sub_(inner).mul_(weights)
            grads.append((torch.bmm(through, k_) * scale, torch.bmm(through.mT, q_) * scale,
                          torch.bmm(weights.mT, grad_)))
        dq, dk, dv = (torch.cat(part) for part in zip(*grads, strict=True))
        return dq.view(shape_q), dk.view(shape_k), dv.view(shape_k)


@contextmanager
def quick_backward() -> Iterator[None]:
    """Plain attention goes through ``Attention``; masked or causal attention is left alone."""

    def attend(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
               is_causal: bool = False, **rest) -> Tensor:
        if attn_mask is None and not is_causal and dropout_p == 0 and query.requires_grad:
            return Attention.apply(query, key, value)
        return flash(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, **rest)

    F.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        F.scaled_dot_product_attention = flash
