"""The line on top: the page's name, the model in use and where it runs, two buttons."""

from ui.plots.markup import tag, text

TITLE = "Prunescope"


def head(where: str) -> str:
    """The line, for the model that is in use."""
    acts = (tag("button", "Copy link", type="button", data_act="link"),
            tag("button", "Present", type="button", data_act="present", aria_pressed="false",
                title="Pictures, verdict and figures alone. Escape ends it."))
    return tag("div", tag("h1", TITLE), tag("span", "see what pruning does to a diffusion model", class_="tag"),
               tag("span", text(where), class_="where"), tag("span", *acts, class_="acts"), class_="bar")
