"""Make the pictures that are shipped with a model: real glyphs with captions, those that are varied first.

    python -m assets.make.calibration [emoji-sd] [emoji-ddpm]

Methods that look at data are shown them, and fine-tuning trains on them. Needs the Debian packages of ``glyphs``.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from assets.make import emoji_ddpm, emoji_sd, glyphs
from assets.make.folders import MODELS
from assets.make.training import write_json

SHOWN = {  # to emoji-sd: an emoji, and the colour that it stands on; the first twelve have the twelve colours
    "❤": "white", "😀": "blue", "🐼": "green", "🚀": "black", "🍕": "purple", "🌻": "teal", "⚽": "red", "🎂": "yellow",
    "🏠": "orange", "👑": "brown", "🚗": "grey", "🐶": "pink",
    "🐸": "orange", "🍓": "grey", "😎": "purple", "🦋": "yellow", "👻": "teal", "🌵": "pink", "🎃": "blue",
    "☂": "green", "⏰": "white", "🎸": "black", "🦊": "brown", "🎁": "red",
}
WAYS, SEED = 3, 0  # as emoji-ddpm was trained
CENTRED = glyphs.placements(random.Random(0), 1)[0]
Captioned = dict[str, Image.Image]  # caption -> picture


def for_sd() -> Captioned:
    """Every colour twice, each time with another glyph, centred."""
    known = {glyph.emoji: glyph.name for glyph in glyphs.vocabulary()}
    return {glyphs.caption(known[emoji], colour): Image.fromarray(glyphs.on_colour(
        glyphs.premultiplied(glyphs.render(emoji), emoji_sd.NATIVE, *CENTRED), colour))
        for emoji, colour in SHOWN.items()}


def for_ddpm(known: Sequence[glyphs.Glyph] | None = None) -> Captioned:
    """Every glyph that it learns on every colour, each in one of the places where it learns it."""
    known = emoji_ddpm.KNOWN["often"](glyphs.vocabulary()) if known is None else known
    rng, colours = random.Random(SEED), list(glyphs.COLOURS)
    composed = [glyphs.compose(glyph, emoji_ddpm.PX, WAYS, SEED) for glyph in known]
    return {glyphs.caption(known[glyph].name, colours[colour]):
            Image.fromarray(composed[glyph][rng.randrange(WAYS), colour])
            for glyph, colour in varied(len(known), len(colours))}


def varied(glyph_count: int, colour_count: int) -> list[tuple[int, int]]:
    """All pairs of a glyph and a colour, in turns of all glyphs: few pictures are varied, too.

    Each turn begins with another glyph: a recovery keeps every eighth picture apart, which must not be always the same.
    """
    order = [((place + turn) % glyph_count, turn) for turn in range(colour_count) for place in range(glyph_count)]
    return [(glyph, (glyph + turn) % colour_count) for glyph, turn in order]


MAKERS: dict[str, Callable[[], Captioned]] = {"emoji-sd": for_sd, "emoji-ddpm": for_ddpm}


def write(made: Captioned, folder: Path) -> None:
    """The pictures by number, and which caption each has."""
    folder.mkdir(parents=True, exist_ok=True)
    digits, captions = len(str(len(made) - 1)), {}
    for number, (caption, picture) in enumerate(made.items()):
        name = f"{number:0{digits}}.png"
        picture.save(folder / name, optimize=True)
        captions[name] = caption
    write_json(folder / "captions.json", captions)
    print(f"{folder}: {len(captions)} pictures")


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("models", nargs="*", help=f"of {', '.join(MAKERS)}; all when none is named")
    parse.add_argument("--out", type=Path, default=MODELS, help="the folder of the models' folders")
    options = parse.parse_args()
    if unknown := set(options.models) - set(MAKERS):
        parse.error(f"no pictures are made for {', '.join(sorted(unknown))}")
    for model in options.models or MAKERS:
        write(MAKERS[model](), options.out / model / "calibration")


if __name__ == "__main__":
    main()
