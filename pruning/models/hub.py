"""Diffusion pipelines from the Hugging Face hub: the files that a pipeline needs, and nothing that could run.

No pickle and no Python file is ever asked for. Knows nothing of pruning, and builds no model.
"""

import errno
import glob
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_cached_repo_tree, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub import errors as hub
from huggingface_hub.utils import validate_repo_id

from pruning.errors import Refused
from pruning.models.folders import ELSEWHERE, INDEX, check_index, check_safetensors, listing, needed, read_json
from pruning.network import memory

SINGLE = (None, "diffusers", "diffusion-single-file")  # libraries that the hub names for a model without an index


class _Unreachable(Refused):
    """The hub does not answer; a cached copy would do."""


def fetch(repo_id: str, *, revision: str | None = None, token: str | None = None,
          limit_bytes: int | None = None) -> Path:
    """A local folder with a pipeline of the hub, or its complete cached copy when the hub does not answer.

    ``token`` is by default ``HF_TOKEN`` or this machine's login, ``limit_bytes`` 80 % of the free memory.

    Raises:
        Refused: there is no such model, or it cannot be reached, trusted, held in memory or read.
    """
    limit = int(0.8 * memory.available()) if limit_bytes is None else limit_bytes
    try:
        validate_repo_id(repo_id)
    except hub.HFValidationError as error:
        raise Refused(f"{repo_id!r} is not a hub model id.", "Names look like owner/name.") from error
    if ".." in (revision or ""):  # it becomes part of a path in the cache
        raise Refused(f"{revision!r} is no revision.", "Give a branch, a tag or a commit.")
    try:
        folder, files = _download(repo_id, revision, token, limit)
    except _Unreachable:
        if (cached := _cached(repo_id, revision)) is None:
            raise
        folder, files = cached
        _check_size(repo_id, [(folder / name).stat().st_size for name in files], limit)
    _verify(repo_id, folder, files)
    return folder


def _download(repo_id: str, revision: str | None, token: str | None, limit: int) -> tuple[Path, list[str]]:
    at: dict[str, Any] = {"endpoint": _endpoint(), "token": token}
    with _in_words(repo_id, revision):
        info = HfApi(**at).model_info(repo_id, revision=revision, timeout=15, files_metadata=True)
    sizes = {file.rfilename: file.size for file in info.siblings or ()}
    if INDEX not in sizes:
        raise _no_pipeline(repo_id, info.library_name, info.tags or [], list(sizes))
    _check_size(repo_id, [sizes[INDEX]], limit)
    with _in_words(repo_id, revision):  # asked for by its branch, so that the cache knows the branch when offline
        path = Path(hf_hub_download(repo_id, INDEX, revision=revision, cache_dir=_cache_dir(), **at))
    files, _ = needed(check_index(read_json(path)), sizes, repo_id)
    _check_size(repo_id, [sizes[name] for name in files], limit)
    exact = [glob.escape(name) for name in files]
    with _in_words(repo_id, revision):
        snapshot_download(repo_id, revision=path.parent.name, allow_patterns=exact, cache_dir=_cache_dir(), **at)
    if missing := [name for name in files if not (path.parent / name).is_file()]:  # the connection broke off in between
        raise Refused(f"The download of {repo_id} was cut short at {missing[0]}.", "What came is kept; ask again.")
    return path.parent, files


def _cached(repo_id: str, revision: str | None) -> tuple[Path, list[str]] | None:
    path = try_to_load_from_cache(repo_id, INDEX, cache_dir=_cache_dir(), revision=revision)
    if not isinstance(path, str):
        return None
    folder, index = Path(path).parent, read_json(Path(path))
    try:
        names = [f.path for f in get_cached_repo_tree(repo_id, revision=folder.name, cache_dir=_cache_dir())]
    except hub.CachedRepoTreeNotFoundError:  # fetched by an older library: what is there must do
        names = listing(folder)
    try:
        files, _ = needed(check_index(index), names, repo_id)
    except Refused:
        return None
    return (folder, files) if all((folder / name).is_file() for name in files) else None


def _verify(repo_id: str, folder: Path, files: list[str]) -> None:
    for path in map(folder.joinpath, files):
        try:
            if path.suffix == ".safetensors":
                check_safetensors(path)
        except Refused as error:
            for broken in (path.resolve(), path):  # a snapshot holds links; a retry must find neither end
                broken.unlink(missing_ok=True)
            raise Refused(f"{repo_id} arrived broken: {error.message}", "The file was deleted, so ask again for a "
                          "new one; if that does not help, the author's copy is broken.") from error


def _no_pipeline(repo_id: str, library: str | None, tags: list[str], names: list[str]) -> Refused:
    endings = {Path(name).suffix for name in names if "/" not in name}
    remedy = "Give a repository that diffusers' save_pretrained has written."
    if "gguf" in (*tags, library) or ".gguf" in endings:
        library, remedy = "gguf", ELSEWHERE["GGUF"]
    elif "lora" in tags or "pytorch_lora_weights.safetensors" in names:
        library, remedy = f"{library}, an adapter (LoRA)", ELSEWHERE["LoRA"]
    elif library in SINGLE and "config.json" in names:
        library, remedy = f"{library}, a lone component", "Give a pipeline that contains it."
    elif library in SINGLE and endings & {".safetensors", ".ckpt"}:
        library, remedy = f"{library}, a single-file checkpoint", ELSEWHERE["single-file checkpoint"]
    return Refused(f"{repo_id} has no {INDEX}, so it is no diffusers pipeline (library: {library}).", remedy)


def _check_size(repo_id: str, sizes: list[int | None], limit: int) -> None:
    if None in sizes:
        raise Refused(f"The hub does not say how large {repo_id} is.", "Download it yourself and give the folder.")
    if (total := sum(size or 0 for size in sizes)) > limit:
        raise Refused(f"{repo_id} takes {total / 1e9:.4g} GB, and the limit here is {limit / 1e9:.4g} GB.",
                      "Choose a smaller model, or a machine with more free memory.")


@contextmanager
def _in_words(repo_id: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except (hub.HTTPError, OSError, RuntimeError, json.JSONDecodeError) as error:  # RuntimeError is hf_xet's
        # "not in the cache" is how the library reports what went wrong on the way there
        cause = error.__cause__ if isinstance(error, hub.LocalEntryNotFoundError) and error.__cause__ else error
        raise _refusal(cause, repo_id, revision) from error


def _refusal(error: BaseException, repo_id: str, revision: str | None) -> Refused:
    page, text = f"{_endpoint() or 'https://huggingface.co'}/{repo_id}", str(error)
    status = error.response.status_code if isinstance(error, hub.HfHubHTTPError) else 0
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text
    for applies, message, remedy in (
        (isinstance(error, hub.GatedRepoError), f"{repo_id} is gated.",
         f"Accept its conditions at {page} and set HF_TOKEN to a token of your account."),
        (isinstance(error, hub.RevisionNotFoundError), f"{repo_id} has no revision {revision!r}.",
         f"Its branches and tags are at {page}."),
        (status in (401, 403), f"{repo_id} does not exist, or is private and not open to you.",
         f"Check the spelling at {page}, or set HF_TOKEN to a token that may read it."),
        (status == 404, f"There is no model {repo_id} on the hub.", f"Check the spelling at {page}."),
        (400 <= status < 500 and status not in (408, 429), f"The hub refuses {repo_id} (HTTP {status}).",
         f"The page {page} may say why."),
        (full, f"The disk is full, so {repo_id} could not be stored.",
         "Free some space, or set HF_HUB_CACHE to a folder on another disk."),
        ("Consistency check failed" in text, f"The download of {repo_id} was cut short.",
         "What came whole is kept; ask again."),
    ):
        if applies:
            return Refused(message, remedy)
    why = f"HTTP {status}" if status else type(error).__name__
    away = (hub.HTTPError, hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, hub.FileMetadataError, ValueError)
    if isinstance(error, away):
        return _Unreachable(f"The hub cannot be reached ({why}), and no complete copy of {repo_id} is cached.",
                            "Check the network and HF_HUB_OFFLINE, or use a bundled model or a local folder.")
    return Refused(f"{repo_id} could not be stored: {text}.", "Set HF_HUB_CACHE to a folder that can be written.")


def _endpoint() -> str | None:  # read when asked, since the library reads both only once, at its import
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _cache_dir() -> str | None:
    return os.environ.get("HF_HUB_CACHE") or None
