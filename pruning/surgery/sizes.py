"""What modules know of their own sizes, put right after their tensors were cut. One table, by class.

The settings of a model (its config) stay those of the dense one: they build it again, and the plan cuts it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from pruning.units.head import LAYOUTS
from pruning.units.site import Site


def mend(net: nn.Module, cut: Iterable[str], heads: Mapping[str, int]) -> None:
    """Let modules follow their tensors: those that were ``cut``, and those around them. ``heads`` are counted anew."""
    around: dict[str, None] = {}
    for name in cut:
        while name:
            around[name] = None
            name = name.rpartition(".")[0]
    parts = dict(net.named_modules())
    for name, count in heads.items():
        for kind, (_, _, counter) in LAYOUTS.items():
            if _is(parts[name], kind):
                setattr(parts[name], counter, count)
    for name in sorted(around, key=len, reverse=True):  # the inner ones first
        for kind, put_right in SIZES.items():
            if _is(parts[name], kind):
                put_right(parts[name])


def attended(net: nn.Module, site: Site) -> list[str]:
    """The tensors that set how large attention's products are, where a site is its inner width; else none.

    diffusers divides the products by the root of the width that it finds. Masked, that is still the whole width.
    """
    layer = net.get_submodule(site.module)
    if site.kind != "channel" or not _is(layer, "Attention"):
        return []
    return [member.tensor for member in site.members if ".to_q." in member.tensor]


def _is(module: nn.Module, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(module).__mro__)


def _linear(layer: Any) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _convolution(layer: Any) -> None:
    layer.out_channels, layer.in_channels = layer.weight.shape[:2]


def _group_norm(norm: Any) -> None:
    norm.num_channels = norm.weight.shape[0]


def _layer_norm(norm: Any) -> None:
    norm.normalized_shape = tuple(norm.weight.shape)


def _embedding(table: Any) -> None:
    table.embedding_dim = table.weight.shape[1]


def _attention(layer: Any) -> None:
    layer.inner_dim, layer.inner_kv_dim = layer.to_q.out_features, layer.to_k.out_features
    layer.query_dim, layer.cross_attention_dim = layer.to_q.in_features, layer.to_k.in_features
    layer.out_dim = layer.to_out[0].out_features
    if layer.scale_qk:
        layer.scale = (layer.inner_dim // layer.heads) ** -0.5


def _flux(layer: Any) -> None:
    layer.inner_dim = layer.to_q.out_features


def _flux_block(block: Any) -> None:
    block.mlp_hidden_dim = block.proj_mlp.out_features


def _resampler(layer: Any) -> None:
    if isinstance(layer.conv, nn.Conv2d):
        layer.channels, layer.out_channels = layer.conv.in_channels, layer.conv.out_channels


def _resnet(block: Any) -> None:
    block.in_channels, block.out_channels = block.conv1.in_channels, block.conv2.out_channels
    for part in (block.upsample, block.downsample):
        if isinstance(part, nn.Module):  # without a convolution of its own
            part.channels = part.out_channels = block.in_channels  # type: ignore[assignment]


def _transformer(model: Any) -> None:
    if model.is_input_continuous:
        model.in_channels = model.out_channels = model.norm.num_channels
        model.inner_dim = model.proj_in.weight.shape[0]


SIZES: dict[str, Callable[[Any], None]] = {
    "Linear": _linear, "Conv2d": _convolution, "GroupNorm": _group_norm, "LayerNorm": _layer_norm,
    "Embedding": _embedding, "Attention": _attention, "Downsample2D": _resampler, "Upsample2D": _resampler,
    "ResnetBlock2D": _resnet, "Transformer2DModel": _transformer, "FluxAttention": _flux,
    "FluxSingleTransformerBlock": _flux_block,
}
