"""The card: a pair, its verdict and its figures as one picture for a slide. Knows pictures and texts, nothing else."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from math import ceil
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

WIDTH, HEIGHT, MARGIN = 1600, 900, 64
DENSE, PRUNED = "#2862c4", "#b5500a"  # as in style.css
PAPER, INK, SOFT, LINE = "#ffffff", "#1c2430", "#5a6472", "#dfe3e8"
SIDE, BAND, BORDER, GAP = 480, 42, 5, 4  # px: a side's pictures, the word above them, the frame, the paper around them
STROKE = 0.6  # px around the letters of bold ones, since the font has one weight
MOST = 600  # characters of a text that are looked at
UNKNOWN = "\ufffd"
ROWS, LINES, LEAD = 7, 3, 1.25  # most figures; most lines of the verdict, and from one to the next in font sizes
INSTEAD = {"−": "-", "–": "-", "—": "-", "‑": "-", "→": "->", "←": "<-", "×": "x", "÷": "/", "≈": "~", "≤": "<=",
           "≥": ">=", "≠": "!=", "✓": "", "‖": "||", "∞": "inf", "ß": "ss", "æ": "ae", "ø": "o", "ł": "l", "Æ": "AE",
           "Ø": "O"}


class Box(NamedTuple):
    """A place on the card, in pixels; right and bottom lie outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """From top to bottom."""
        return self.bottom - self.top


TITLE = Box(MARGIN, 36, WIDTH - MARGIN, 68)
VERDICT = Box(MARGIN, 78, WIDTH - MARGIN, 238)
FRAMES = tuple(Box(left, 258, left + SIDE + 2 * (BORDER + GAP), 258 + BAND + SIDE + 2 * GAP + BORDER)
               for left in (MARGIN, 590))
FIGURES = Box(1136, 258, WIDTH - MARGIN, FRAMES[0].bottom)
RECIPE = Box(MARGIN, 808, WIDTH - MARGIN, 834)
MACHINE = Box(MARGIN, 836, WIDTH - MARGIN, 862)


def card(dense: Sequence[Image.Image], pruned: Sequence[Image.Image], verdict: str,
         figures: Sequence[tuple[str, str, str]], recipe: str, machine: str) -> Image.Image:
    """The whole card, 1600 × 900, with up to four pictures a side.

    A figure is (what, dense, pruned); without a dense value the pruned one stands for both. What is too long gets
    smaller first, and ends in an ellipsis then.
    """
    made = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(made)
    line(pen, TITLE, "Prunescope", 26, SOFT, bold=True)
    headline(pen, VERDICT, verdict)
    for name, colour, frame, pictures in zip(("Dense", "Pruned"), (DENSE, PRUNED), FRAMES, (dense, pruned),
                                             strict=True):
        pen.rounded_rectangle((frame.left, frame.top, frame.right - 1, frame.bottom - 1), 10, fill=colour)
        line(pen, Box(frame.left + 16, frame.top, frame.right, frame.top + BAND), name, 27, PAPER, bold=True)
        left, top, right, bottom = square = inside(frame)
        pen.rectangle((left - GAP, top - GAP, right + GAP - 1, bottom + GAP - 1), fill=PAPER)
        for picture, cell in zip(pictures, cells(square, len(pictures)), strict=False):
            hang(made, picture, cell)
    table(pen, FIGURES, figures)
    line(pen, RECIPE, recipe, 21, SOFT)
    line(pen, MACHINE, machine, 21, SOFT)
    return made


# Pictures.


def inside(frame: Box) -> Box:
    """The square under the band of a frame."""
    edge = BORDER + GAP
    return Box(frame.left + edge, frame.top + BAND + GAP, frame.right - edge, frame.bottom - edge)


def cells(square: Box, count: int) -> list[Box]:
    """Places for up to four pictures: one has all of the square, more have a quarter each."""
    if count <= 1:
        return [square]
    side = (square.width - GAP) // 2
    top = square.top + (0 if count > 2 else (square.height - side) // 2)
    corners = [(square.left + column * (side + GAP), top + row * (side + GAP)) for row in (0, 1) for column in (0, 1)]
    return [Box(left, above, left + side, above + side) for left, above in corners[:count]]


def hang(made: Image.Image, picture: Image.Image, cell: Box) -> None:
    """Put a picture into the middle of its place, as large as fits. Small ones are enlarged smoothly."""
    sized = ImageOps.contain(picture.convert("RGB"), (cell.width, cell.height), Image.Resampling.LANCZOS)
    made.paste(sized, (cell.left + (cell.width - sized.width) // 2, cell.top + (cell.height - sized.height) // 2))


# Texts.


def headline(pen: ImageDraw.ImageDraw, box: Box, text: str) -> None:
    """The verdict, as large as three lines allow, in the middle of its height."""
    for size in (54, 50, 46, 42, 40):
        lines = wrapped(drawable(text), box.width, size, LINES)
        if " ".join(lines) == drawable(text) and len(lines) * size * LEAD <= box.height:
            break
    step = int(size * LEAD)
    top = box.top + (box.height - step * len(lines)) // 2
    for i, words in enumerate(lines):
        line(pen, Box(box.left, top + i * step, box.right, top + (i + 1) * step), words, size, INK)


def table(pen: ImageDraw.ImageDraw, box: Box, figures: Sequence[tuple[str, str, str]]) -> None:
    """What, and under it the dense and the pruned value; as many rows as fit."""
    if not figures:
        return
    half, shown = box.width // 2, figures[:ROWS]
    step = min(84, (box.height - BAND) // len(shown))
    for column, (name, colour) in enumerate((("Dense", DENSE), ("Pruned", PRUNED))):
        line(pen, Box(box.left + column * half, box.top, box.right, box.top + BAND), name, 27, colour, bold=True)
    for i, (what, dense, pruned) in enumerate(shown):
        top = box.top + BAND + i * step
        pen.line((box.left, top, box.right - 1, top), LINE, 2)
        middle = top + step // 2 - 7  # between what and its values
        line(pen, Box(box.left, middle - 24, box.right, middle), what, 20, SOFT)
        values = Box(box.left, middle, box.right, middle + 38)
        if dense:
            line(pen, values._replace(right=box.left + half - 14), dense, 31, DENSE)
            line(pen, values._replace(left=box.left + half), pruned, 31, PRUNED)
        else:
            line(pen, values, pruned, 31, INK)


def line(pen: ImageDraw.ImageDraw, box: Box, text: str, size: int, colour: str, *, bold: bool = False) -> None:
    """One line, in the middle of its place's height; a long one shrinks by a quarter and is cut after that."""
    words, least = drawable(text), round(size * 0.75)
    while size > least and length(words, size) > box.width:
        size -= 1
    pen.text((box.left, (box.top + box.bottom) / 2), cut(words, box.width, size), colour, font(size), "lm",
             stroke_width=STROKE if bold else 0)


def wrapped(text: str, width: int, size: int, most: int) -> list[str]:
    """Lines no wider than ``width``; an ellipsis ends the last when there would be more."""
    words, lines = text.split(), list[str]()
    while words and len(lines) < most:
        count = 1
        while count < len(words) and length(" ".join(words[: count + 1]), size) <= width:
            count += 1
        lines.append(cut(" ".join(words[:count]), width, size))
        words = words[count:]
    if words:
        lines[-1] = cut(f"{lines[-1]} {' '.join(words)}", width, size)
    return lines


def cut(text: str, width: int, size: int) -> str:
    """As much of a text as there is room for, with an ellipsis where it ends early."""
    if length(text, size) <= width:
        return text

    def ended(count: int) -> str:
        return f"{text[:count].rstrip(' .,;…')}…"

    count = bisect_right(range(1, len(text)), width, key=lambda n: ceil(length(ended(n), size)))
    return ended(count) if count else ""


def length(text: str, size: int) -> float:
    """How wide a text is, in pixels."""
    return font(size).getlength(text)


font = cache(ImageFont.load_default)  # it is unpacked anew by every call


# Glyphs. Pillow's own font has the letters of English and little more.


def drawable(text: str) -> str:
    """A text in glyphs that the font has: a look-alike, the letter without its accent, or a question mark."""
    made = []
    for sign in " ".join(text[:MOST].split()):
        plain = INSTEAD.get(sign, sign)
        if not all(map(has, plain)):
            plain = "".join(part for part in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(part))
        plain = "".join(INSTEAD.get(part, part) for part in plain)
        if unicodedata.category(sign) in ("Mn", "Me", "Cf"):  # joins or changes the sign before it
            continue
        made.append(plain if all(map(has, plain)) else UNKNOWN)
    return " ".join(re.sub(rf"{UNKNOWN}+", "?", "".join(made)).split())


@cache
def has(sign: str) -> bool:
    """Whether the font has a glyph for a character: it draws all that it lacks as the same box."""
    return picture_of(sign) != picture_of("\U0010ffff")


def picture_of(sign: str) -> tuple[tuple[int, int], bytes]:
    """A glyph as it is drawn."""
    mask = font(24).getmask(sign)
    return mask.size, bytes(mask)
