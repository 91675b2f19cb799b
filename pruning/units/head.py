"""Attention heads: rows of the query, key and value projections, columns of the output projection."""

from collections.abc import Iterator

from torch import nn

from pruning.units.site import Member, Site, named

# class: (its projections, its output, the attribute that counts heads)
LAYOUTS = {
    "Attention": (("to_q", "to_k", "to_v"), "to_out.0", "heads"),
    "CLIPAttention": (("q_proj", "k_proj", "v_proj"), "out_proj", "num_heads"),
}


def sites(net: nn.Module) -> Iterator[Site]:
    """Attention layers with at least two heads, all of one size."""
    for kind, (projections, out, counter) in LAYOUTS.items():
        for name, layer in named(net, (kind,)):
            heads, parts = getattr(layer, counter), dict(layer.named_modules())
            plain = all(isinstance(parts.get(part), nn.Linear) for part in (*projections, out))
            extra = getattr(layer, "add_k_proj", None) is not None or getattr(layer, "norm_q", None) is not None
            if heads < 2 or not plain or extra:
                continue
            size = layer.get_submodule(out).in_features // heads  # type: ignore[operator, union-attr]
            members = [Member(f"{name}.{out}.weight", 1, size)]
            for part in projections:
                members.append(Member(f"{name}.{part}.weight", 0, size))
                if layer.get_submodule(part).bias is not None:
                    members.append(Member(f"{name}.{part}.bias", 0, size))
            yield Site(f"{name}#heads", "head", heads, tuple(members))
