"""The card: both pictures are really on it, and no text leaves its place."""

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageColor, ImageDraw

from ui.plots import card as cards
from ui.plots.card import FIGURES, FRAMES, HEIGHT, MACHINE, MARGIN, RECIPE, TITLE, VERDICT, WIDTH, Box, card

TEXTS = ("W" * 3000, "jgÅ|(,) " * 400, "a " * 2000, "x", "Removing 30 % of the channels " * 9, "日本語 🦄 " * 300,
         "\n\t\x00 j")
GREEN, PINK = (10, 200, 30), (250, 120, 190)


def solid(colour, size=(96, 96)):
    return Image.new("RGB", size, colour)


def colours(image, box):
    """The colours in a part of a picture."""
    return {colour for _, colour in image.crop(box).getcolors(1 << 20)}


def ink(image, blank):
    """Where two pictures differ, or None."""
    return ImageChops.difference(image, blank).getbbox()


def test_both_pictures_fill_their_frames():
    made = card([solid(GREEN)], [solid(PINK, (640, 640))], "", [], "", "")
    assert (made.size, made.mode) == ((1600, 900), "RGB")
    for frame, colour, border in zip(FRAMES, (GREEN, PINK), (cards.DENSE, cards.PRUNED), strict=True):
        square = cards.inside(frame)
        assert (square.width, square.height) == (480, 480)  # five times the pictures of the bundled model
        assert colours(made, square) == {colour}
        assert made.getpixel((frame.left + 1, frame.bottom - 30)) == ImageColor.getrgb(border)
    assert not {GREEN, PINK} & colours(made, (0, 0, WIDTH, FRAMES[0].top))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_more_pictures_share_the_square(count):
    each = [(40 * i, 200, 255 - 40 * i) for i in range(count)]
    made = card([solid(colour) for colour in each], [solid(colour) for colour in each[::-1]], "", [], "", "")
    for frame, expected in zip(FRAMES, (each, each[::-1]), strict=True):
        places = cards.cells(cards.inside(frame), count)
        assert [colours(made, place) for place in places] == [{colour} for colour in expected]
        assert all(place.width == place.height == 238 for place in places)


def test_pictures_of_any_form_stay_whole():
    wide, grey = solid(GREEN, (200, 50)), Image.new("L", (8, 8), 77)
    made = card([wide], [grey], "", [], "", "")
    square = cards.inside(FRAMES[0])
    assert colours(made, (square.left, square.top + 180, square.right, square.top + 300)) == {GREEN}
    assert colours(made, (square.left, square.top, square.right, square.top + 180)) == {(255, 255, 255)}
    assert colours(made, cards.inside(FRAMES[1])) == {(77, 77, 77)}
    assert card([], [], "", [], "", "").size == (1600, 900)
    assert colours(card([solid(GREEN)] * 9, [], "", [], "", ""), cards.inside(FRAMES[0])) == {GREEN, (255, 255, 255)}


def test_the_sides_are_told_by_words_and_not_by_colour_alone():
    bare = Image.new("RGB", (WIDTH, HEIGHT), "#ffffff")
    made = card([], [], "", [("parameters", "2", "1")], "", "")
    for frame in FRAMES:
        assert (255, 255, 255) in colours(made, (frame.left + 16, frame.top + 8, frame.left + 120, frame.top + 34))
    head = Box(FIGURES.left, FIGURES.top, FIGURES.right, FIGURES.top + cards.BAND - 1)
    assert ink(made.crop(head), bare.crop(head))


def test_the_colours_are_the_pages():
    style = Path(cards.__file__).parent.parent.joinpath("style.css").read_text(encoding="utf-8")
    for name, colour in (("dense", cards.DENSE), ("pruned", cards.PRUNED), ("ink", cards.INK), ("soft", cards.SOFT)):
        assert f"--{name}: {colour};" in style


def test_places_do_not_meet():
    boxes = (TITLE, VERDICT, *FRAMES, FIGURES, RECIPE, MACHINE)
    for one, two in combinations(boxes, 2):
        assert one.right <= two.left or two.right <= one.left or one.bottom <= two.top or two.bottom <= one.top
    for box in boxes:
        assert MARGIN <= box.left < box.right <= WIDTH - MARGIN
        assert 36 <= box.top < box.bottom <= HEIGHT - 36
    assert {box.left for box in (TITLE, VERDICT, FRAMES[0], RECIPE, MACHINE)} == {MARGIN}
    assert {box.right for box in (TITLE, VERDICT, FIGURES, RECIPE, MACHINE)} == {WIDTH - MARGIN}


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_leaves_its_place(text):
    empty = card([], [], "", [], "", "")
    said = {VERDICT: card([], [], text, [], "", ""), RECIPE: card([], [], "", [], text, ""),
            MACHINE: card([], [], "", [], "", text),
            FIGURES: card([], [], "", [(text, text, text), (text, "", text)] * 6, "", "")}
    for box, made in said.items():
        left, top, right, bottom = ink(made, empty)
        assert left >= box.left - 2  # a letter may lean over its edge by a hair
        assert top >= box.top
        assert right <= box.right + 2
        assert bottom <= box.bottom


def test_a_dense_value_does_not_run_into_the_pruned_one():
    long = card([], [], "", [("x", "8" * 99, "")], "", "")
    row = Box(FIGURES.left + FIGURES.width // 2, FIGURES.top + cards.BAND + 2, FIGURES.right, FIGURES.bottom)
    assert colours(long, row) == {(255, 255, 255)}


def test_a_lone_value_has_the_colour_of_neither():
    made = colours(card([], [], "", [("SSIM", "", "0.9")], "", ""), FIGURES._replace(top=FIGURES.top + cards.BAND + 2))
    assert ImageColor.getrgb(cards.INK) in made
    assert not {ImageColor.getrgb(cards.DENSE), ImageColor.getrgb(cards.PRUNED)} & made


@given(st.text(max_size=60), st.sampled_from((19, 27, 40)), st.integers(120, 500))
@example("f" * 60, 40, 120)
@example("W.W.W.W.", 40, 120)
def test_a_line_fits(text, size, width):
    bare = Image.new("RGB", (600, 80), "#ffffff")
    drawn = bare.copy()
    cards.line(ImageDraw.Draw(drawn), Box(20, 10, 20 + width, 70), text, size, "#000000", bold=True)
    place = ink(drawn, bare)
    if place:
        assert place[0] >= 18
        assert place[1] >= 10
        assert place[2] <= 20 + width + 2
        assert place[3] <= 70


def test_a_long_verdict_ends_in_an_ellipsis_after_three_lines():
    lines = cards.wrapped("one two three " * 99, 400, 40, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert not lines[0].endswith("…")
    assert all(cards.length(line, 40) <= 400 for line in lines)
    assert cards.wrapped("one two", 400, 40, 3) == ["one two"]
    assert cards.wrapped("", 400, 40, 3) == []
    assert cards.wrapped("W" * 99 + " two", 400, 40, 3)[1] == "two"
    assert cards.cut("22.3 M", 10_000, 20) == "22.3 M"


def test_a_short_verdict_is_larger_than_a_long_one():
    def height(text):
        _, top, _, bottom = ink(card([], [], text, [], "", ""), card([], [], "", [], "", ""))
        return bottom - top

    assert height("H") > 1.2 * (height("H" + " H" * 200) - 2 * 40 * cards.LEAD)  # less the first two of three lines


def test_what_the_font_lacks_is_replaced():
    assert cards.drawable("1.48× − 3 → 2 ≤ 5 ✓") == "1.48x - 3 -> 2 <= 5"
    assert cards.drawable("crème brûlée, Ærø…") == "creme brulee, AEro…"
    assert cards.drawable("red ❤️ and 日本語\n\tπ “quoted”") == "red ? and ? ? “quoted”"
    assert cards.drawable("½ m², ①") == "1⁄2 m2, 1"
    assert all(map(cards.has, "AZaz09%·…±°“”"))
    assert not any(map(cards.has, "×−→✓é日"))


@given(st.text(max_size=80))
def test_only_glyphs_of_the_font_are_drawn(text):
    assert all(map(cards.has, cards.drawable(text)))
