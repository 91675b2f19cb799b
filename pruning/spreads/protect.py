"""Which sites may be pruned, and which have a ratio of their own."""

from fnmatch import fnmatchcase

from pruning.decisions.pattern import parse_pattern
from pruning.errors import Refused
from pruning.types import Recipe
from pruning.units.catalog import Catalog
from pruning.units.site import Site


def protected(site: Site, recipe: Recipe) -> str | None:
    """Why a site is left alone by request, or None."""
    if any(fnmatchcase(module, glob) for glob in recipe.protect for module in (site.module, *site.along)):
        return "protected"
    if recipe.only and not any(fnmatchcase(site.module, glob) for glob in recipe.only):
        return "outside the layers asked for"
    return None


def left_alone(site: Site, recipe: Recipe) -> str | None:
    """Why nothing of a site goes, or None: by request, or because its inputs do not divide into groups of M."""
    m = parse_pattern(recipe.pattern)[1] if recipe.pattern else 1
    return protected(site, recipe) or (f"{site.inputs} inputs are not a multiple of {m}" if site.inputs % m else None)


def ratio_of(site: Site, recipe: Recipe) -> float | None:
    """The override that applies to a site: the longest glob wins; of equally long ones, the one that removes less."""
    fitting = [(len(glob), -ratio) for glob, ratio in recipe.overrides if fnmatchcase(site.module, glob)]
    return -max(fitting)[1] if fitting else None


def free_sites(catalog: Catalog, recipe: Recipe) -> list[Site]:
    """The sites that may be pruned.

    Raises:
        Refused: there are none.
    """
    free = [site for site in catalog if not protected(site, recipe)]
    if not free:
        raise Refused("Every layer is protected or outside `only`, so nothing can go.",
                      "Release some with protect=() or a wider `only`.")
    return free
