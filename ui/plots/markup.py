"""Small pieces of HTML that several figures share. Every value from outside is escaped here."""

import base64
import io
from html import escape
from typing import Any

from PIL import Image


def tag(name: str, *children: str, **attributes: Any) -> str:
    """An element. ``class_`` and ``aria_label`` become class and aria-label; None leaves an attribute out."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
                    for key, value in attributes.items() if value is not None)
    return f"<{name}{given}>{''.join(children)}</{name}>"


def text(value: object) -> str:
    """Text that is only text."""
    return escape(str(value))


def png(image: Image.Image, level: int = 1) -> str:
    """A picture as a data address; a higher ``level`` is smaller and slower."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=level)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(address: str) -> Image.Image:
    """The way back from ``png``."""
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def three(value: float) -> str:
    """Three significant digits, without a power of ten."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{value:e}".split("e")[1]))
    return f"{value:,.{digits}f}"


def counted(value: float) -> str:
    """A count in thousands, millions or billions; small whole ones as they are."""
    if isinstance(value, int) and abs(value) < 1000:
        return str(value)
    for size, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return three(value / size) + suffix
    return three(value)


def bytes_(value: float) -> str:
    """Bytes in megabytes."""
    return f"{three(value / 1e6)} MB"


def percent(share: float) -> str:
    """A share in percent with one decimal."""
    return f"{share * 100:.1f} %"
