"""Make the pictures that calibrated methods show ``emoji-sd``: real glyphs with captions, every colour twice.

    python -m assets.make.calibration

Needs the Debian packages of ``glyphs``. The first twelve pictures have the twelve colours, so few are varied, too.
"""

import argparse
import random
from pathlib import Path

from PIL import Image

from assets.make import glyphs
from assets.make.emoji_sd import FOLDER, NATIVE
from assets.make.training import write_json

SHOWN = {  # emoji, and the colour that it stands on
    "❤": "white", "😀": "blue", "🐼": "green", "🚀": "black", "🍕": "purple", "🌻": "teal", "⚽": "red", "🎂": "yellow",
    "🏠": "orange", "👑": "brown", "🚗": "grey", "🐶": "pink",
    "🐸": "orange", "🍓": "grey", "😎": "purple", "🦋": "yellow", "👻": "teal", "🌵": "pink", "🎃": "blue",
    "☂": "green", "⏰": "white", "🎸": "black", "🦊": "brown", "🎁": "red",
}
CENTRED = glyphs.placements(random.Random(0), 1)[0]


def pictures(px: int) -> dict[str, Image.Image]:
    """Caption to picture."""
    known = {glyph.emoji: glyph.name for glyph in glyphs.vocabulary()}
    return {glyphs.caption(known[emoji], colour): Image.fromarray(
        glyphs.on_colour(glyphs.premultiplied(glyphs.render(emoji), px, *CENTRED), colour))
        for emoji, colour in SHOWN.items()}


def main() -> None:
    """The command."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--out", type=Path, default=FOLDER / "calibration")
    options = parse.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    captions = {}
    for number, (caption, picture) in enumerate(pictures(NATIVE).items()):
        name = f"{number:02}.png"
        picture.save(options.out / name, optimize=True)
        captions[name] = caption
    write_json(options.out / "captions.json", captions)
    print(f"{options.out}: {len(captions)} pictures")


if __name__ == "__main__":
    main()
