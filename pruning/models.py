"""Where pipelines come from: bundled folders, local folders, the hub."""

import json
from pathlib import Path
from typing import Any

import psutil
import torch

from pruning.errors import Later, Refused
from pruning.subject import remember

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "models"
BUNDLED = ("emoji-sd",)
NOT_DRAWABLE = {"emoji-clip": "It measures pictures and cannot draw."}
LATER = ("emoji-ddpm", "emoji-flux")
SLUGS = ("ddpm-cifar10", "ldm4-cin256", "sd-1.5", "sd-2.1-base", "sdxl-base", "sd3.5-medium", "pixart-sigma",
         "dit-xl-2", "flux-dev", "flux-schnell")


def load_pipeline(source: str | Path, *, device: str | None = None, dtype: torch.dtype | None = None,
                  weights: str = "trained", seed: int = 0) -> Any:
    """A pipeline by bundled name, hub id or local folder.

    Raises:
        Refused: it cannot be had; the sentence says why and what would work.
    """
    from pruning import hub, store  # they bring diffusers, which takes seconds: the page comes up first

    source = str(source)
    if weights not in ("trained", "random", "meta"):
        raise Refused(f"weights cannot be {weights!r}.", "Choose trained, random or meta.")
    if source in NOT_DRAWABLE:
        raise Refused(f"{source} is not a pipeline. {NOT_DRAWABLE[source]}", f"Load {BUNDLED[0]} instead.")
    if source in LATER:
        raise Later(f"The bundled model {source}")
    if source in SLUGS:
        raise Later(f"The architecture folder {source}")
    if weights != "trained":
        raise Later(f"weights={weights!r} for {source}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if source in BUNDLED:
        folder = ASSETS / source
    elif (folder := Path(source).expanduser()).is_dir():
        pass
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise Refused(f"There is no model {source!r}: no bundled name, no folder and no hub id.",
                      f"Bundled: {', '.join(BUNDLED)}. A hub id reads owner/name.")
    else:
        # In float32, half-precision files take twice their size, and a pruned copy of the denoiser comes on top.
        folder = hub.fetch(source, limit_bytes=psutil.virtual_memory().available * 2 // 5 if device == "cpu" else None)
    if dtype is None and device == "cpu":
        dtype = torch.float32
    pipe = store.read(folder, dtype)
    pipe.to(device)
    return remember(pipe, source)


def vocabulary(source: str) -> list[dict[str, Any]]:
    """What a bundled model can draw: name, emoji, tags. Empty for other models."""
    file = ASSETS / source / "vocabulary.json"
    return json.loads(file.read_text(encoding="utf-8")) if source in BUNDLED and file.exists() else []


def bars(source: str) -> dict[str, Any]:
    """A bundled model's measured quality, with the sampler, steps and guidance that it was taken at."""
    file = ASSETS / source / "bars.json"
    return json.loads(file.read_text(encoding="utf-8")) if source in BUNDLED and file.exists() else {}
