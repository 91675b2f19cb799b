"""Folders of diffusers: which of their files are wanted, and whether these can be trusted and are whole.

Only safetensors, and only classes that are installed here. Builds no model, opens no pickle, knows no network.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from torch import nn

from pruning.errors import Refused, in_words, out_of_memory

INDEX, CONFIG, OURS = "model_index.json", "config.json", ("plan.json", "plan.safetensors")  # a plan has the shapes
SETTINGS, PICKLES = (".json", ".txt", ".model", ".jinja"), (".bin", ".ckpt", ".pt", ".pth", ".pkl")
STEM = r"(?:diffusion_pytorch_model|model)"
WEIGHTS = re.compile(rf"{STEM}(?:\.(?P<variant>\w+))?(?:-\d{{5}}-of-(?P<of>\d{{5}}))?\.safetensors"
                     rf"|{STEM}\.safetensors\.index(?:\.(?P<listed>\w+))?\.json")

Parts = Mapping[str, tuple[str, str]]  # component -> (library, class); a bare model is the component ""


class Contents(NamedTuple):
    """A folder that can be read: the class of the whole, those of its components, and the files to read.

    ``variant`` is what ``from_pretrained`` wants: ``None`` unless a component has no plain safetensors. ``absent`` are
    components that the index names as none. A bare model is its own only component, ``""``.
    """

    kind: Any
    components: Mapping[str, Any]
    files: list[str]
    variant: str | None
    absent: list[str]

    def weights(self, component: str) -> list[str]:
        """The safetensors of one component, relative to the folder."""
        return [name for name in self.files if name.endswith(".safetensors")
                and name.rpartition("/")[0] == component and name not in OURS]


def examine(folder: Path) -> Contents:
    """What a local folder holds, before any of it is loaded.

    Raises:
        Refused: no folder of diffusers, only pickles, classes of another origin, or safetensors that are not whole.
    """
    kind, parts, absent = described(folder)
    files, variant = needed(parts, listing(folder), str(folder))
    for file in files:
        if file.endswith(".safetensors"):
            check_safetensors(folder / file)
    return Contents(kind, classes(parts), files, variant, absent)


def described(folder: Path) -> tuple[Any, Parts, list[str]]:
    """What a folder's configs say: the class of the whole, the components, and those that are named but absent.

    Raises:
        Refused: no folder of diffusers, or classes of another origin.
    """
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        parts = check_index(index)
        absent = [name for name, value in index.items() if value == [None, None]]
        return installed("diffusers", index["_class_name"]), parts, absent
    if not (folder / CONFIG).is_file():
        raise Refused(f"{folder} is not a diffusers folder: it has no {INDEX}.",
                      "Give the folder that save_pretrained or pruning.save wrote.")
    config = read_json(folder / CONFIG)
    library, named = ("diffusers", config["_class_name"]) if "_class_name" in config else (
        "transformers", next(iter(config.get("architectures") or ()), ""))
    name = str(named)
    kind = installed(library, name)
    if kind is None or not issubclass(kind, nn.Module):
        raise Refused(f"{folder} holds no model of {library}: its config names {name or 'no class'}.",
                      "Give a pipeline's folder, or one that pruning.save wrote.")
    return kind, {"": (library, name)}, []


def classes(parts: Parts) -> dict[str, Any]:
    """Component to class."""
    return {name: installed(*part) for name, part in parts.items()}


def weighted(folder: Path) -> bool:
    """Whether a folder has weights at all, of whatever kind, and not only configs."""
    return any(name.endswith((".safetensors", *PICKLES)) for name in listing(folder))


def check_index(index: Mapping[str, Any]) -> Parts:
    """The components of a parsed ``model_index.json``, all of classes that are installed here.

    Raises:
        Refused: a pipeline or component of another origin, which would need code from the repository.
    """
    import diffusers

    name, parts = index.get("_class_name"), _parts(index)
    pipeline = installed("diffusers", name) if isinstance(name, str) else None
    unknown = [] if pipeline and issubclass(pipeline, diffusers.DiffusionPipeline) else [f"pipeline {name}"]
    unknown += [f"{component} {part}" for component, part in parts.items() if installed(*part) is None]
    if unknown:
        raise Refused(f"{INDEX} asks for {', '.join(unknown)}, which the diffusers {diffusers.__version__} and "
                      "transformers installed here do not provide, and no remote code is run.",
                      "Give a pipeline whose classes are part of diffusers and transformers.")
    return parts


def needed(parts: Parts, names: Iterable[str], whose: str) -> tuple[list[str], str | None]:
    """The files of some components from a listing, and the ``variant`` to load: fp16 and such only without a plain one.

    Raises:
        Refused: a component without safetensors.
    """
    folders, weights, lacking = defaultdict(list), {}, []
    for name in names:
        folders[name.rpartition("/")[0]].append(name.rpartition("/")[2])
    files = [name for name in (INDEX, *OURS) if name in folders[""]]
    for component, part in parts.items():
        inside = folders[component]
        files += [_join(component, file) for file in inside if file.endswith(SETTINGS) and ".index." not in file]
        if whole := _complete_sets(inside):
            weights[component] = whole
        elif issubclass(installed(*part) or object, nn.Module) or any(file.endswith(PICKLES) for file in inside):
            lacking.append(component)
    only = {component: set(whole) for component, whole in weights.items() if "" not in whole}
    shared = sorted(set.intersection(*only.values()), key=lambda v: (v != "fp16", v)) if only else [""]
    if lacking or not shared:  # from_pretrained takes one variant for all
        pickles = [_join(folder, file) for folder in lacking for file in folders[folder] if file.endswith(PICKLES)]
        why = f"no safetensors that fit together for {', '.join(lacking or only) or 'the model'}"
        if pickles and not weights:
            why = f"only pickled weights ({pickles[0]}), which can run code when opened"
        raise Refused(f"{whose} has {why}.", "Ask its author for safetensors, or convert a copy that you trust with "
                      "diffusers' save_pretrained and give that folder.")
    files += [_join(part, file) for part, whole in weights.items() for file in whole.get("") or whole[shared[0]]]
    return list(dict.fromkeys(files)), shared[0] or None


def check_safetensors(path: Path) -> None:
    """Compare a file's length with what its header promises; the tensors are not read.

    Raises:
        Refused: a header that cannot be read, or a file that is too short or too long.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))  # the longest header the library accepts
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        promised = 8 + length + max(ends, default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Refused(f"{path.name} has no safetensors header.", "Download or save it again.") from None
    if promised != size:
        raise Refused(f"{path.name} has {size} bytes, its header promises {promised}.", "Download or save it again.")


@cache
def installed(library: str, name: str) -> Any:
    """The class of a library that is installed here, or None."""
    import diffusers
    import transformers
    from diffusers.utils import _maybe_remap_transformers_class as renamed  # what diffusers does for old names

    try:
        if library == "transformers":
            found = getattr(transformers, renamed(name) or name, None)
        else:
            found = getattr(diffusers if library == "diffusers" else getattr(diffusers.pipelines, library), name, None)
        # a stand-in for a class whose own dependency is not installed raises here
        return found if isinstance(found, type) and hasattr(found, "from_pretrained") else None
    except (AttributeError, ImportError, RuntimeError):
        return None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        Refused: it holds something else, or cannot be parsed.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(f"{path.name} is no JSON object.", "Give a pipeline written by diffusers' save_pretrained.")
    return value


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """What the libraries raise when settings and tensors do not belong together, as a refusal."""
    try:
        yield
    except Refused:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, LookupError, SafetensorError, MemoryError) as error:
        if out_of_memory(error):
            raise in_words(error) from error
        why = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise Refused(f"{folder} does not load: {why.rstrip('.')}.",
                      "Its files do not belong together; save or download it again.") from error


def listing(folder: Path) -> list[str]:
    """The files of a folder and of the folders in it, as the hub lists them."""
    return [path.relative_to(folder).as_posix() for path in (*folder.glob("*/*"), *folder.glob("*"))]


def _parts(index: Mapping[str, Any]) -> Parts:
    """Component to (library, class). Lists of numbers are settings of the pipeline, two nulls an absent component."""
    named = {name: value for name, value in index.items() if not name.startswith("_") and isinstance(value, list)
             and any(isinstance(part, str) for part in value)}
    for name, value in named.items():
        if len(value) != 2 or not all(isinstance(part, str) for part in value) or not name.isidentifier():
            raise Refused(f"{INDEX} describes {name!r} as {value}.", "A component is a list of a library and a class.")
    return {name: (library, kind) for name, (library, kind) in named.items()}


def _complete_sets(names: list[str]) -> dict[str, list[str]]:
    """The complete safetensors of one component by variant; the plain ones are ``""``."""
    found, whole = defaultdict(list), {}
    for match in filter(None, map(WEIGHTS.fullmatch, names)):
        found[match["variant"] or match["listed"] or ""].append(match)
    for variant, matches in found.items():
        single = [m.string for m in matches if not m["of"] and not m.string.endswith(".json")]
        shards = [int(m["of"]) for m in matches if m["of"]]
        if single or (shards and len(shards) == shards[0] < len(matches)):  # one more: the list of what is where
            whole[variant] = single or [m.string for m in matches]
    return whole


def _join(component: str, file: str) -> str:
    return f"{component}/{file}" if component else file
