"""The list of layers: the share of each layer's units that goes, in the order in which the network runs them."""

from collections.abc import Sequence

from pruning.units.unit import plural
from ui.plots.markup import counted, percent, tag, text
from ui.values import Layer


def short(name: str) -> str:
    """A module path that fits a list: down_blocks.0.attentions.1… is d0.attn1…"""
    for long, brief in (("down_blocks.", "down "), ("up_blocks.", "up "), ("mid_block", "mid"),
                        ("transformer_blocks.0.", ""), ("attentions.", "attention "), ("resnets.", "resnet "),
                        ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample"),
                        ("text_model.encoder.layers.", "layer "), ("encoder.layers.", "layer ")):
        name = name.replace(long, brief)
    return name.replace(".", " · ").replace("#", " · ")


def layers(rows: Sequence[Layer], picked: str = "") -> str:
    """A filter and one button a layer, with its removed share as a hatched bar."""
    if not rows:
        return tag("p", "No layers to show yet: choose a model and a method.", class_="hint")
    buttons = []
    for row in rows:
        share = row.gone / row.units if row.units else 0
        left = " left" if row.reason and not row.gone else ""
        buttons.append(tag(
            "button", tag("span", text(short(row.name)), class_="name"),
            tag("span", " removed ", class_="unseen"),
            tag("span", percent(share), class_="figure"), tag("span", tag("span", ""), class_="track gone"),
            tag("span", text(f"{counted(row.units)} {plural(row.kind)}"
                             + (f" · {row.reason}" if row.reason else "")), class_="sub"),
            type="button", data_site=row.name, style=f"--gone:{share:.2%}",
            aria_pressed=str(row.name == picked).lower(), class_=f"layer{left}"))
    search = ('<input type="search" class="filter" placeholder="Filter layers, such as attn or up 2" '
              'aria-label="Filter layers">')
    return tag("div", search, tag("div", *buttons, class_="list", role="group", aria_label="Layers"), class_="layers")
