"""The page's scripts, one file a widget: they tell the page what was clicked in our own markup.

A click or change inside an element with ``data-...`` becomes the component's value and an event of it; views and the
wipe are answered in the browser alone. A template is an HTML file whose ``${...}`` the browser fills in.
"""

from pathlib import Path

FOLDER = Path(__file__).parent


def script(*names: str) -> str:
    """The scripts of one widget, one after another."""
    return "\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in names)


def template(name: str) -> str:
    """The template of one widget."""
    return (FOLDER / f"{name}.html").read_text(encoding="utf-8")
