"""The pair: dense on the left, pruned on the right, with their clocks; then wipe and difference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ui.plots.markup import counted, percent, tag, text, three


@dataclass(frozen=True)
class Side:
    """What the page knows of one side: its pictures as addresses, its clock, and the model that made them."""

    pictures: tuple[str, ...]
    ms: float  # median over the steps so far, of the denoiser's call
    step: int = 0
    steps: int = 0
    params: int = 0
    zeros: int = 0
    fingerprint: str = ""


def difference(dense: Image.Image, pruned: Image.Image) -> Image.Image:
    """The signed difference of brightness: blue where dense is brighter, orange where pruned is, dark where alike."""
    a, b = (np.asarray(image.convert("L"), dtype=np.float32) / 255 for image in (dense, pruned))
    change = np.clip((b - a) * 2, -1, 1)[..., None]
    neutral, warm, cool = (np.array(c, dtype=np.float32) for c in ((24, 26, 32), (240, 140, 50), (75, 145, 245)))
    mixed = neutral + np.where(change > 0, change * (warm - neutral), -change * (cool - neutral))
    return Image.fromarray(mixed.round().astype(np.uint8))


def grid(pictures: Sequence[str], what: str, live: bool) -> str:
    """Up to four pictures in a square."""
    images = "".join(f'<img src="{src}" alt="{text(what)}, picture {i + 1} of {len(pictures)}" '
                     f'class="{"live" if live else ""}" draggable="false">' for i, src in enumerate(pictures))
    return tag("div", images, class_=f"grid n{len(pictures)}")


def caption(name: str, side: Side, live: bool) -> str:
    """The clock under a picture."""
    state = f"step {side.step} of {side.steps}" if live else f"{counted(side.params)} parameters in all"
    return tag("figcaption", tag("b", text(name)), tag("span", f"{three(side.ms)} ms/step", class_="clock"),
               tag("span", text(state)), class_="caption")


def badge(dense: Side, pruned: Side) -> str:
    """Whether the right-hand picture really came from a pruned model: counted on the model when it drew."""
    fewer, zeros = dense.params - pruned.params, pruned.zeros - dense.zeros
    if pruned.fingerprint == dense.fingerprint:
        return tag("p", "Nothing removed: both pictures come from the same weights. Raise the ratio to prune.",
                   class_="badge none")
    parts = []
    if fewer:
        parts.append(f"{counted(fewer)} of {counted(dense.params)} parameters are gone")
    if zeros > 0:
        parts.append(f"{counted(zeros)} more weights are zero")
    shares = percent(max(fewer, zeros) / dense.params)
    return tag("p", tag("b", "✓ Really pruned"), " ",
               text(f"{' and '.join(parts)} ({shares} of text encoder, U-Net and decoder together), counted on the "
                    f"model that drew this, fingerprint {pruned.fingerprint[:8]}."), class_="badge")


def stage(dense: Side, pruned: Side, *, live: bool = False, differences: Sequence[str] = (), note: str = "",
          described: str = "") -> str:
    """The whole figure. ``live`` shows previews; otherwise side by side, wipe and difference can be chosen."""
    sides = tag("div", tag("figure", grid(dense.pictures, f"dense: {described}", live), caption("Dense", dense, live),
                           class_="side dense"),
                tag("figure", grid(pruned.pictures, f"pruned: {described}", live), caption("Pruned", pruned, live),
                    class_="side pruned"), class_="sides")
    views, buttons = "", ""
    if not live and differences:
        over = tag("div", grid(dense.pictures, f"dense: {described}", False),
                   tag("div", grid(pruned.pictures, f"pruned: {described}", False), class_="over"),
                   '<input type="range" class="wipe" min="0" max="100" value="50" '
                   'aria-label="Wipe between dense on the left and pruned on the right">',
                   tag("span", "dense", class_="tagd"), tag("span", "pruned", class_="tagp"), class_="wiper")
        change = tag("div", grid(differences, f"difference: {described}", False),
                     tag("p", "Brightness, difference doubled: blue where dense is brighter, orange where pruned is.",
                         class_="hint"), class_="change")
        views = over + change
        names = (("sides", "Side by side"), ("wiper", "Wipe"), ("change", "Difference"))
        buttons = tag("div", *(f'<button type="button" data-view="{view}" aria-pressed="{str(i == 0).lower()}">'
                               f"{label}</button>" for i, (view, label) in enumerate(names)),
                      class_="views", role="group", aria_label="How to compare the pictures")
    info = tag("p", text(note), class_="note") if note else ""
    foot = "" if live else badge(dense, pruned)
    return tag("div", info, buttons, sides, views, foot, class_="stage" + (" running" if live else ""),
               data_view="sides")
