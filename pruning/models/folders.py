"""Folders of diffusers: which of their files are wanted, and whether these can be trusted and are whole.

Only safetensors, and only classes that are installed here. Builds no model, opens no pickle, knows no network.
"""

import json
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from pruning.errors import Refused, in_words, out_of_memory
from pruning.values import told

INDEX, CONFIG, OURS = "model_index.json", "config.json", ("plan.json", "plan.safetensors")  # a plan has the shapes
SETTINGS, PICKLES = (".json", ".txt", ".model", ".jinja"), (".bin", ".ckpt", ".pt", ".pth", ".pkl")
STEM, VARIANT = r"(?:diffusion_pytorch_model|model)", r"[\w-]+?"  # of shards, the variant stands before or after
WEIGHTS = re.compile(rf"{STEM}(?:\.(?P<variant>{VARIANT}))?(?:-\d{{5}}-of-(?P<of>\d{{5}})(?:\.(?P<after>{VARIANT}))?)?"
                     rf"\.safetensors|{STEM}\.safetensors\.index(?:\.(?P<listed>{VARIANT}))?\.json")
SETTING = 64 << 20  # bytes of a file of settings; the largest are tables of tokens
HEADER = 16 << 20  # bytes; a header of 10,000 tensors has 1.5 million
OBJECT = 8 << 20  # bytes of a config or an index
ALONE = (".safetensors", ".gguf", *PICKLES)  # what a whole model in one file is called
ELSEWHERE = {  # what is no folder of diffusers -> what to give instead
    "LoRA": "Give the base model that it belongs to.",
    "GGUF": "Give the diffusers repository that it was converted from.",
    "single-file checkpoint":
        "Open it with diffusers' from_single_file, save it with save_pretrained and give that folder.",
}
COMPONENT = "A component is a list of a library and a class, or of two nulls where there is none."
AGAIN = "Its files do not belong together; save or download it again."

Parts = Mapping[str, tuple[str, str]]  # component -> (library, class); a bare model is the component ""


Header = Mapping[str, Mapping[str, Any]]  # tensor -> "dtype", "shape", "data_offsets"


class Contents(NamedTuple):
    """A folder that can be read: the class of the whole, those of its components, and the files to read.

    ``variant`` is what ``from_pretrained`` wants: ``None`` unless a component has no plain safetensors. ``absent`` are
    components that the index names as none. A bare model is its own only component, ``""``. ``headers`` says what is in
    each file of weights: tensor to its type, shape and place.
    """

    kind: Any
    components: Mapping[str, Any]
    files: list[str]
    variant: str | None
    absent: list[str]
    headers: Mapping[str, Header]

    def weights(self, component: str) -> list[str]:
        """The safetensors of one component, relative to the folder."""
        return [name for name in self.files if name.endswith(".safetensors")
                and name.rpartition("/")[0] == component and name not in OURS]

    def tensors(self, component: str) -> dict[str, Mapping[str, Any]]:
        """What the files of one component hold: tensor to its type, shape and place in its file."""
        return {key: entry for name in self.weights(component) for key, entry in self.headers[name].items()}

    def variant_of(self, component: str) -> str | None:
        """The ``variant`` that ``from_pretrained`` wants for one component."""
        files = (WEIGHTS.fullmatch(name.rpartition("/")[2]) for name in self.weights(component))
        return next((match["variant"] or match["after"] for match in files if match), None)


def examine(folder: Path) -> Contents:
    """What a local folder holds, before any of it is loaded.

    Raises:
        Refused: no folder of diffusers, only pickles, classes of another origin, quantized, or safetensors that are
            not whole.
    """
    kind, parts, absent = described(folder)
    files, variant = needed(parts, listing(folder), str(folder))
    headers = {file: check_safetensors(folder / file) for file in files if file.endswith(".safetensors")}
    return Contents(kind, classes(parts), files, variant, absent, headers)


def described(folder: Path) -> tuple[Any, Parts, list[str]]:
    """What a folder's configs say: the class of the whole, the components, and those that are named but absent.

    Raises:
        Refused: no folder of diffusers, classes of another origin, or quantized; or files that are none.
    """
    names = listing(folder)
    if INDEX in names:
        index = read_json(folder / INDEX)
        parts = check_index(index)
        for name in parts:
            if _join(name, CONFIG) in names:
                _check_config(folder, name, read_json(folder / name / CONFIG))
        absent = [name for name, value in index.items() if value == [None, None]]
        return installed("diffusers", index["_class_name"]), parts, absent
    if CONFIG not in names:
        raise _none(folder, names)
    config = read_json(folder / CONFIG)
    _check_config(folder, "", config)
    library, named = ("diffusers", config["_class_name"]) if "_class_name" in config else (
        "transformers", next(iter(config.get("architectures") or ()), ""))
    name = str(named)
    kind = installed(library, name)
    if kind is None or not issubclass(kind, nn.Module):
        raise Refused(f"{folder} holds no model of {library}: its config names {name or 'no class'}.",
                      "Give a pipeline's folder, or one that pruning.save wrote.")
    return kind, {"": (library, name)}, []


def _none(folder: Path, names: list[str]) -> Refused:
    """That a folder is none of diffusers, and what it is instead."""
    if kind := instead([name for name in names if "/" not in name]):
        return Refused(f"{folder} is not a diffusers folder: what it has is a {kind}.", ELSEWHERE[kind])
    return Refused(f"{folder} is not a diffusers folder: it has no {INDEX}.",
                   "Give the folder that save_pretrained or pruning.save wrote.")


def instead(names: Iterable[str]) -> str:
    """What files that are no folder of diffusers are, as ``ELSEWHERE`` calls it; empty if nothing of that."""
    weights = [name for name in names if name.endswith(ALONE)]
    lora = any("lora" in name.lower() for name in weights)
    gguf = any(name.endswith(".gguf") for name in weights)
    return "LoRA" if lora else "GGUF" if gguf else "single-file checkpoint" if weights else ""


def _check_config(folder: Path, component: str, config: Mapping[str, Any]) -> None:
    """Refuse a component whose weights are quantized: they would be counted, scored and cut as what they are not."""
    how = config.get("quantization_config")
    if how is not None:
        named = how.get("quant_method") if isinstance(how, Mapping) else None
        with_ = f" with {named}" if isinstance(named, str) and named.isprintable() else ""
        raise Refused(f"The {component or 'model'} of {folder} is quantized{with_[:60]}.",
                      "Give the folder of the model before it was quantized.")


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
    odd = [name for name in _asked(pipeline) if name in index and not isinstance(index[name], list)]
    if pipeline and odd:
        raise Refused(f"{INDEX} describes {odd[0]!r} as {told(index[odd[0]])}.", COMPONENT)
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
    folders, weights, lacking = defaultdict(list), dict[str, dict[str, list[str]]](), list[str]()
    for name in names:
        folders[name.rpartition("/")[0]].append(name.rpartition("/")[2])
    files = [name for name in (INDEX, *OURS) if name in folders[""]]
    for component, part in parts.items():
        inside = folders[component]
        _check_beside(component, part, inside, whose)
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


def _check_beside(component: str, part: tuple[str, str], inside: list[str], whose: str) -> None:
    """Refuse a component of which nothing is there, or a tokenizer without its table: it would be an empty one."""
    tables = dict(getattr(installed(*part), "vocab_files_names", None) or {})
    whole = tables.pop("tokenizer_file", None)
    gone = [] if whole in inside else [name for name in tables.values() if name not in inside]
    if not inside or gone:
        raise Refused(f"{whose} has no {gone[0] if inside else 'files'} for {component}.",
                      "Save or download it again, whole.")


def check_safetensors(path: Path) -> Header:
    """Compare a file's length with what its header promises; the tensors are not read.

    Raises:
        Refused: a header that cannot be read, or is larger than any real one; or a file that is too short or too long.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if HEADER < length < size:
                raise Refused(f"{path.name} has a header of {length / 1e6:.4g} MB, and the limit here is "
                              f"{HEADER / 1e6:.4g} MB.", "Save the model again with diffusers' save_pretrained.")
            header = json.loads(file.read(min(length, HEADER)))
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
        promised = 8 + length + max(ends, default=0)
        for tensor in tensors.values():
            _ = (str(tensor["dtype"]), [whole + 0 for whole in tensor["shape"]])
    except Refused:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Refused(f"{path.name} has no safetensors header.", "Download or save it again.") from None
    if promised != size:
        raise Refused(f"{path.name} has {size} bytes, its header promises {promised}.", "Download or save it again.")
    return tensors


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
        Refused: it holds something else, cannot be parsed, or is too large to be one of diffusers.
    """
    check_size(path, OBJECT)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(f"{path.name} is not a JSON object.", "Give a pipeline written by diffusers' save_pretrained.")
    return value


def check_size(path: Path, most: int) -> None:
    """Look at a file before it is read whole.

    Raises:
        Refused: it is larger than any real one, or is a pipe or a device, which may never end.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise Refused(f"{path} is a folder.", "Give the file itself.")
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{path} is a pipe or a device.", "Give a plain file.")
    if found.st_size > most:
        raise Refused(f"{path.name} has {found.st_size / 1e6:.4g} MB, and the limit here is {most / 1e6:.4g} MB.",
                      "Download or save it again.")


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """What the libraries raise when settings and tensors do not belong together, as a refusal.

    A folder can be wrong in as many ways as the libraries have lines, so that any error of theirs is one of its.
    """
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise in_words(error) from error
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), "") or type(error).__name__
        raise Refused(f"{folder} does not load: {why.rstrip('.')}.", AGAIN) from error


def listing(folder: Path) -> list[str]:
    """The files of a folder and of the folders in it, as the hub lists them.

    Raises:
        Refused: one is a pipe or a device, or a file of settings is larger than any real one.
    """
    names = []
    for path in (*folder.glob("*/*"), *folder.glob("*")):
        if path.is_dir() or not path.exists():  # a link to nowhere is no file
            continue
        check_size(path, SETTING if path.suffix in SETTINGS else 1 << 62)
        names.append(path.relative_to(folder).as_posix())
    return names


def _parts(index: Mapping[str, Any]) -> Parts:
    """Component to (library, class). Lists of numbers are settings of the pipeline, two nulls an absent component.

    Raises:
        Refused: a component is described in another way.
    """
    named = {name: value for name, value in index.items() if not name.startswith("_") and isinstance(value, list)
             and any(isinstance(part, str) for part in value)}
    for name, value in named.items():
        if len(value) != 2 or not all(isinstance(part, str) for part in value) or not name.isidentifier():
            raise Refused(f"{INDEX} describes {name!r} as {told(value)}.", COMPONENT)
    return {name: (library, kind) for name, (library, kind) in named.items()}


def _asked(pipeline: Any) -> list[str]:
    """The components that the class of a pipeline has."""
    return pipeline._get_signature_keys(pipeline)[0] if pipeline else []


def _complete_sets(names: list[str]) -> dict[str, list[str]]:
    """The complete safetensors of one component by variant; the plain ones are ``""``."""
    found, whole = defaultdict(list), {}
    for match in filter(None, map(WEIGHTS.fullmatch, names)):
        found[match["variant"] or match["after"] or match["listed"] or ""].append(match)
    for variant, matches in found.items():
        single = [m.string for m in matches if not m["of"] and not m.string.endswith(".json")]
        shards = [int(m["of"]) for m in matches if m["of"]]
        if single or (shards and len(shards) == shards[0] < len(matches)):  # one more: the list of what is where
            whole[variant] = single or [m.string for m in matches]
    return whole


def _join(component: str, file: str) -> str:
    return f"{component}/{file}" if component else file
