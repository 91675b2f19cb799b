"""The pair: dense on the left, pruned on the right, with their clocks; then wipe, difference, flip, film and blind."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ui.plots.markup import counted, percent, tag, text, three
from ui.values import Moment, Side

VIEWS = (("sides", "Side by side"), ("wiper", "Wipe"), ("change", "Difference"), ("flip", "Flip"), ("film", "Steps"),
         ("blind", "Blind"))
FILM = 10  # moments of a drawing that are kept
THUMB = 96  # px, twice of what is shown


def kept_steps(steps: int, most: int = FILM) -> set[int]:
    """Which steps a film shows, counted from 1: evenly spaced, the last among them."""
    count = min(steps, most)
    return {round((i + 1) * steps / count) for i in range(count)}


def difference(dense: Image.Image, pruned: Image.Image) -> Image.Image:
    """The signed difference of brightness: blue where dense is brighter, orange where pruned is, dark where alike."""
    a, b = (np.asarray(image.convert("L"), dtype=np.float32) / 255 for image in (dense, pruned))
    change = np.clip((b - a) * 2, -1, 1)[..., None]
    neutral, warm, cool = (np.array(c, dtype=np.float32) for c in ((24, 26, 32), (240, 140, 50), (75, 145, 245)))
    mixed = neutral + np.where(change > 0, change * (warm - neutral), -change * (cool - neutral))
    return Image.fromarray(mixed.round().astype(np.uint8))


def thumb(picture: Image.Image) -> Image.Image:
    """A picture as small as the strip of earlier pairs shows it."""
    small = picture.convert("RGB")
    small.thumbnail((THUMB, THUMB))
    return small


def grid(pictures: Sequence[str], what: str, live: bool = False) -> str:
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
               text(f"{' and '.join(parts)} ({shares} of everything that draws), counted on the "
                    f"model that drew this, fingerprint {pruned.fingerprint[:8]}."), class_="badge")


def sides(dense: Side, pruned: Side, described: str, live: bool = False) -> str:
    """Both pictures, each with its clock. Wipe, flip and blind show these same two in another arrangement."""
    return tag("div", tag("figure", grid(dense.pictures, f"dense: {described}", live), caption("Dense", dense, live),
                          class_="side dense"),
               tag("figure", grid(pruned.pictures, f"pruned: {described}", live), caption("Pruned", pruned, live),
                   class_="side pruned"), "" if live else OVER, class_="sides")


OVER = ('<input type="range" class="wipe" min="0" max="100" value="50" '
        'aria-label="Wipe between dense on the left and pruned on the right">'
        + tag("span", "dense", class_="tagd") + tag("span", "pruned", class_="tagp"))


def running(dense: Side, pruned: Side, note: str, described: str) -> str:
    """The figure while it is drawn: previews, and how far it is."""
    return tag("div", tag("p", text(note), class_="note"), sides(dense, pruned, described, live=True),
               class_="stage running", data_view="sides")


def stage(dense: Side, pruned: Side, differences: Sequence[str], film: Sequence[Moment], steps: Sequence[float | None],
          *, note: str = "", described: str = "", prefers: str = "") -> str:
    """The finished pair and the ways to compare it.

    ``steps`` is the distance of the latents after each step; ``prefers`` the side that a metric likes better.
    """
    buttons = tag("div", *(f'<button type="button" data-view="{view}" aria-pressed="{str(i == 0).lower()}">'
                           f"{label}</button>" for i, (view, label) in enumerate(VIEWS)),
                  class_="views", role="group", aria_label="How to compare the pictures")
    info = tag("p", text(note), class_="note") if note else ""
    return tag("div", info, buttons, sides(dense, pruned, described), FLIP, change(differences, described),
               filmstrip(film, steps), BLIND, badge(dense, pruned), class_="stage", data_view="sides",
               data_prefers=prefers)


def change(differences: Sequence[str], described: str) -> str:
    """Where the pictures differ."""
    return tag("div", grid(differences, f"difference: {described}"),
               tag("p", "Brightness, difference doubled: blue where dense is brighter, orange where pruned is.",
                   class_="hint"), class_="change")


FLIP = tag("div", '<button type="button" class="hold" aria-pressed="false">Hold to see pruned</button>',
           tag("span", "or hold F. What moves is what pruning changed.", class_="hint"), class_="flip")
VOTES = (("a", "A is better"), ("same", "No difference"), ("b", "B is better"))
BLIND = tag("div", tag("div", *(f'<button type="button" data-vote="{vote}">{words}</button>' for vote, words in VOTES),
                       class_="views", role="group", aria_label="Which side is better"),
            tag("p", "Which side is better? The names come after your vote.", class_="hint says", role="status"),
            tag("p", "", class_="hint tally"), class_="blind")


def filmstrip(film: Sequence[Moment], steps: Sequence[float | None]) -> str:
    """Both drawings step by step, and how far the pruned latents have left the dense ones after each.

    None is a distance that is no number: the pruned model broke.
    """
    known = [away for away in steps if away is not None]
    top = max(known, default=0.0) or 1.0
    cells = []
    for moment in film:
        away = steps[moment.step - 1]
        cells.append(tag(
            "figure", f'<img src="{moment.dense}" alt="dense after step {moment.step}" class="dense">',
            f'<img src="{moment.pruned}" alt="pruned after step {moment.step}" class="pruned">',
            tag("span", tag("span", "", style=f"height:{(away or 0) / top * 100:.1f}%"), class_="away"),
            tag("figcaption", tag("b", f"{moment.step}"), tag("span", "no number" if away is None else percent(away)))))
    words = "" if len(known) < len(steps) or not known else (
        f"After the last step the pruned latents are {percent(known[-1])} away from the dense ones; half of that is "
        f"reached by step {half(known)} of {len(known)}.")
    return tag("div", tag("div", *cells, class_="strip"),
               tag("p", "Previews of the first picture, dense above, pruned below. The bars are ‖pruned − dense‖ ÷ "
                        "‖dense‖ of the latents after each step: they show when the two part. " + words,
                   class_="hint"), class_="film")


def half(steps: Sequence[float]) -> int:
    """The first step, counted from 1, after which half of the final distance or more is there."""
    return next(i + 1 for i, away in enumerate(steps) if away >= steps[-1] / 2)
