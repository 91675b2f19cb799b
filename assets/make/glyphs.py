"""Emoji as training data: their names (Unicode CLDR), their pictures (Noto Color Emoji), captions and compositions.

Needs the Debian packages ``fonts-noto-color-emoji`` and ``unicode-cldr-core``, and only while a model is being made.
"""

import random
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
CLDR = Path("/usr/share/unicode/cldr/common")
CORE = Path(__file__).with_name("core.txt")
STRIKE = 109  # the only size at which the font's bitmaps exist
CELL = 136  # a glyph is 136 px wide and 128 px high
SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "red": (220, 40, 40),
    "orange": (250, 140, 30),
    "yellow": (250, 215, 50),
    "green": (50, 160, 70),
    "teal": (0, 150, 150),
    "blue": (45, 95, 220),
    "purple": (130, 60, 190),
    "pink": (250, 150, 190),
    "brown": (120, 75, 40),
}


@dataclass(frozen=True)
class Glyph:
    """One emoji: its characters, its CLDR short name and keyword tags."""

    emoji: str
    name: str
    tags: tuple[str, ...]
    core: bool


def core_emoji(often: bool = False) -> list[str]:
    """The emoji of the core vocabulary, in the order of ``core.txt``; or those that are to be seen often."""
    lines = [line.split() for line in CORE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [character for group, characters in lines if (group == "often") is often for character in characters]


def vocabulary() -> list[Glyph]:
    """Every base emoji that the font draws, with the names and tags that CLDR gives it; the core comes first.

    Skin-tone variants are left out: they would be half of all and mostly people.

    Raises:
        FileNotFoundError: a Debian package is missing; the message names it.
    """
    files = [CLDR / folder / "en.xml" for folder in ("annotations", "annotationsDerived")]
    for path, package in ((files[0], "unicode-cldr-core"), (FONT, "fonts-noto-color-emoji")):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing; install it with: apt-get install {package}")
    if not features.check("raqm"):  # sequences would be drawn as their parts, and flags and families be left out
        raise FileNotFoundError("Pillow finds no libfribidi; install it with: apt-get install libfribidi0")
    names: dict[str, str] = {}
    tags: dict[str, tuple[str, ...]] = {}
    for node in (node for file in files for node in ElementTree.parse(file).iter("annotation")):
        text = (node.text or "").strip()
        if node.get("type") == "tts":
            names[node.attrib["cp"]] = text
        else:
            tags[node.attrib["cp"]] = tuple(tag.strip() for tag in text.split("|"))
    core = core_emoji()
    others = [emoji for emoji in names if emoji not in set(core) and not SKIN.search(emoji) and drawn(emoji)]
    return [Glyph(emoji, names[emoji], tags[emoji], core=i < len(core)) for i, emoji in enumerate(core + others)]


def drawn(emoji: str) -> bool:
    """Whether the font has one glyph for it: a missing one is blank, parts of a sequence stand side by side."""
    font = ImageFont.truetype(str(FONT), STRIKE)
    return font.getlength(emoji) <= CELL and font.getmask(emoji, mode="RGBA").getbbox() is not None


def render(emoji: str) -> Image.Image:
    """The glyph as a square RGBA picture of ``CELL`` pixels."""
    font = ImageFont.truetype(str(FONT), STRIKE)
    cell = Image.new("RGBA", (CELL, CELL))
    left, top, right, bottom = font.getbbox(emoji)
    at = ((CELL - (right - left)) // 2 - left, (CELL - (bottom - top)) // 2 - top)
    ImageDraw.Draw(cell).text(at, emoji, font=font, embedded_color=True)
    return cell


def linear(srgb: np.ndarray) -> np.ndarray:
    """Light from sRGB values, both in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """SRGB values from light, both in [0, 1]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.clip(light, 0, 1) ** (1 / 2.4) - 0.055)


def premultiplied(cell: Image.Image, px: int, scale: float, dx: float, dy: float) -> np.ndarray:
    """The glyph at its place on a square of ``px``: linear premultiplied RGBA, (px, px, 4) float32.

    ``scale`` is the glyph's share of the width; ``dx`` and ``dy`` move it, in shares of the width.
    """
    rgba = np.asarray(cell, dtype=np.float32) / 255
    light = np.dstack([linear(rgba[..., :3]) * rgba[..., 3:], rgba[..., 3]]).astype(np.float32)
    side = CELL / scale  # the square of the glyph's own pixels that the picture shows
    left = CELL / 2 - side / 2 - dx * side
    upper = CELL / 2 - side / 2 - dy * side
    supersampled = 4 * px
    box = (supersampled / side, supersampled / side)
    planes = []
    for plane in np.moveaxis(light, -1, 0):
        image = Image.fromarray(plane)
        shape = (supersampled, supersampled)
        inverse = (1 / box[0], 0, left, 0, 1 / box[1], upper)
        big = image.transform(shape, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
        planes.append(np.asarray(big.resize((px, px), Image.Resampling.BOX)))
    return np.dstack(planes)


def on_colour(placed: np.ndarray, colour: str) -> np.ndarray:
    """The placed glyph over a plain background: (px, px, 3) uint8 sRGB."""
    background = linear(np.array(COLOURS[colour], dtype=np.float32) / 255)
    light = placed[..., :3] + (1 - placed[..., 3:]) * background
    return np.round(encoded(light) * 255).clip(0, 255).astype(np.uint8)


def nearest_colour(rgb: np.ndarray) -> str:
    """The name whose colour is nearest to one sRGB value of 0 to 255."""
    return min(COLOURS, key=lambda name: float(np.sum((np.array(COLOURS[name]) - rgb) ** 2)))


def border_colour(picture: np.ndarray) -> str:
    """The name of a picture's background: nearest to the median of its border pixels, (px, px, 3) uint8."""
    border = np.concatenate([picture[:2].reshape(-1, 3), picture[-2:].reshape(-1, 3),
                             picture[:, :2].reshape(-1, 3), picture[:, -2:].reshape(-1, 3)])
    return nearest_colour(np.median(border, axis=0))


def caption(name: str, colour: str) -> str:
    """The plain caption, the one that prompts and measurements use."""
    return f"{name} on a {colour} background"


def free_caption(glyph: Glyph, colour: str, rng: random.Random) -> str:
    """A caption as people might write it: the name, sometimes with tags, sometimes tags only."""
    clean = [tag for tag in glyph.tags if re.fullmatch(r"[\w’' -]+", tag) and tag != glyph.name]
    kind = rng.random()
    if kind < 0.75 or not clean:
        words = glyph.name
    elif kind < 0.92:
        words = f"{glyph.name}, {', '.join(rng.sample(clean, min(len(clean), rng.choice((1, 2)))))}"
    else:
        words = " ".join(rng.sample(clean, min(len(clean), 2)))
    if rng.random() < 1 / 3:
        words = f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    return caption(words, colour)


def placements(rng: random.Random, count: int) -> list[tuple[float, float, float]]:
    """``count`` ways to place a glyph: (share of the width, right, down). The first is centred."""
    ways = [(0.82, 0.0, 0.0)]
    while len(ways) < count:
        ways.append((rng.uniform(0.72, 0.86), rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04)))
    return ways


def pictures(glyphs: list[Glyph], px: int, ways: int, seed: int) -> np.ndarray:
    """Every glyph in ``ways`` places over every colour: (glyphs, ways, colours, px, px, 3) uint8."""
    out = np.empty((len(glyphs), ways, len(COLOURS), px, px, 3), dtype=np.uint8)
    with ProcessPoolExecutor() as pool:
        composed = pool.map(partial(compose, px=px, ways=ways, seed=seed), glyphs, chunksize=8)
        for g, of_glyph in enumerate(composed):
            out[g] = of_glyph
    return out


def compose(glyph: Glyph, px: int, ways: int, seed: int) -> np.ndarray:
    """One glyph in ``ways`` places over every colour: (ways, colours, px, px, 3) uint8."""
    cell = render(glyph.emoji)
    places = placements(random.Random(f"{seed}-{glyph.emoji}"), ways)
    placed = [premultiplied(cell, px, *place) for place in places]
    return np.stack([[on_colour(one, colour) for colour in COLOURS] for one in placed])
