"""Writing to disk: whole or not at all, and still there when the power goes.

What is written first has a temporary name beside its place, and takes the place when it is complete. A writer holds a
lock on its temporary, so that the next one beside it can tell the leftovers of a killed one from work under way.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from pruning.errors import Refused

try:
    import fcntl
except ImportError:  # not a system with file locks: leftovers stay there until somebody takes them away
    fcntl = None  # type: ignore[assignment]

TEMPORARY = re.compile(r"\.saving-[0-9a-z_]{8}")
FULL = (errno.ENOSPC, errno.EDQUOT)
LAST = ("config.json", "model_index.json")  # what a model's folder is known by: it comes when all else is there
KEPT = ("lost+found",)  # in a fresh file system, which is empty all the same


def target(path: str | Path) -> Path:
    """Where a path leads: absolute, links followed, ``~`` the home.

    Raises:
        Refused: it has no name, or leads nowhere.
    """
    if not str(path):
        raise Refused("The output has no name.", "Say where to write.")
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, OSError) as error:  # links in a circle, an unknown home, a folder that was deleted
        raise Refused(f"{path} leads nowhere: {error}.".replace("..", "."), "Give another path.") from error


@contextmanager
def replacing(file: str | Path) -> Iterator[Path]:
    """A path to write a file to, which then takes the place of ``file``. After an error all is as it was.

    Raises:
        Refused: the disk is full.
    """
    file = target(file)
    with _named(file), _temporary(file.parent, folder=False) as part:
        yield part
        _synced(part)
        if file.is_file():
            shutil.copymode(file, part)
        os.replace(part, file)
        _synced(file.parent)


@contextmanager
def filling(folder: str | Path, check: Callable[[Path], object], over: bool = False) -> Iterator[Path]:
    """A folder to write to, whose content then is in ``folder``. After an error all is as it was.

    A new folder appears whole. In one that is there already, such as a mounted disk, names appear one by one, those
    that a model is known by at the end. ``check`` is asked whether the folder may be filled when that begins, while no
    other writer fills it, and raises where it may not. ``over`` takes out what is there.

    Raises:
        Refused: the disk is full, or what ``check`` raises.
    """
    folder = target(folder)
    there = folder.is_dir()
    with _named(folder), _temporary(folder if there else folder.parent, folder=True) as part:
        yield part
        for path in (*part.rglob("*"), part):
            _synced(path)
        if there or not _renamed(part, folder):
            _fill(folder, part, check, over)
        _synced(folder)
        _synced(folder.parent)


def _renamed(part: Path, folder: Path) -> bool:
    """Give a new folder its name; False where another writer was faster."""
    try:
        os.rename(part, folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        return False
    return True


def _fill(folder: Path, part: Path, check: Callable[[Path], object], over: bool) -> None:
    with _alone(folder):
        check(folder)
        if not over:
            _moved(part, folder)
            return
        with _temporary(folder, folder=True) as old:
            _moved(folder, old, first=LAST)
            try:
                _moved(part, folder)
            except BaseException:
                for path in content(folder):
                    _remove(path)
                _moved(old, folder)
                raise


def _moved(source: Path, goal: Path, first: tuple[str, ...] = ()) -> None:
    """Move what is in one folder to another."""
    for path in sorted(content(source), key=lambda path: (path.name not in first, path.name in LAST, path.name)):
        os.replace(path, goal / path.name)


def content(folder: Path) -> list[Path]:
    """What is in a folder, but for what is being written, and what a file system has for itself."""
    return [path for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name) and path.name not in KEPT]


def rehearsed(path: str | Path) -> Path:
    """A path, when something can be written there; nothing stays of the trial.

    Raises:
        Refused: it cannot, and why.
    """
    goal = target(path)
    try:
        place, missing = _nearest(goal)
        for name in missing:
            with suppress(FileNotFoundError):
                os.lstat(place / name)  # too long a name is told here
        with _temporary(place, folder=True):
            pass
    except OSError as error:
        raise Refused(f"{path} cannot be written: {(error.strerror or str(error)).rstrip('.')}.",
                      "Choose another place; nothing was done yet.") from error
    return Path(path)


def _nearest(goal: Path) -> tuple[Path, list[str]]:
    """The folder in which something has to be made first for a path, and the names from there on."""
    missing: list[str] = []
    while not goal.is_dir():
        if missing and os.path.lexists(goal):
            raise NotADirectoryError(errno.ENOTDIR, f"{goal} is a file", str(goal))
        missing.insert(0, goal.name)
        goal = goal.parent
    return goal, missing


# Temporaries.


@contextmanager
def _temporary(parent: Path, folder: bool) -> Iterator[Path]:
    """A temporary file or folder that is locked while it is written, and gone afterwards.

    Leftovers beside it are cleaned up, and after an error so are parents that were made for it.
    """
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        part, lock = _new(parent, folder)
        try:
            yield part
        finally:
            _remove(part)
            if lock is not None:
                os.close(lock)
    except BaseException:
        for path in made:
            with suppress(OSError):  # somebody else's things are in there by now
                path.rmdir()
        raise


def _new(parent: Path, folder: bool) -> tuple[Path, int | None]:
    """A temporary with its lock. One that a sweeper took first is left to it."""
    while True:
        part = parent / f".saving-{secrets.token_hex(4)}"
        try:
            part.mkdir() if folder else part.touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            return part, _locked(part)
        except (FileNotFoundError, BlockingIOError):
            continue
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL):
                return part, None  # no locks on this file system, so nobody sweeps either
            raise


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock of a temporary; None where there are no locks.

    Raises:
        OSError: somebody else has it (BlockingIOError), or it is not there.
    """
    if fcntl is None:
        return None
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock), os.lstat(path)):
            raise FileNotFoundError(errno.ENOENT, "replaced meanwhile", str(path))
    except OSError:
        os.close(lock)
        raise
    return lock


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other writer of ours fills the folder meanwhile, where the file system has locks."""
    if fcntl is None:
        yield
        return
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _sweep(parent: Path) -> None:
    """Remove temporaries of writers that are gone: their locks are free."""
    with suppress(OSError):
        for path in [path for path in parent.iterdir() if TEMPORARY.fullmatch(path.name)]:
            with suppress(OSError):
                lock = _locked(path)
                if lock is not None:
                    _remove(path)
                    os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _synced(path: Path) -> None:
    """Have the disk take a file, or the names in a folder."""
    if path.is_symlink() or (os.name == "nt" and path.is_dir()):
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EROFS):  # a file system that cannot do it
            raise
    finally:
        os.close(opened)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What the system and safetensors say of temporaries, said of the path that was asked for."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        found = number(error)
        if found in FULL:
            raise Refused(f"The disk is full; nothing was written to {path}.",
                          "Free some space, or choose another place.") from error
        if found == errno.EFBIG:
            raise Refused(f"Files may not become as large as {path}; nothing was written.",
                          "Raise the limit (ulimit -f), or choose another place.") from error
        if isinstance(error, OSError) and not TEMPORARY.search(str(error.filename or "")):
            raise
        if found is None:
            raise Refused(f"{path} cannot be written: {error}.", "Choose another place.") from error
        raise OSError(found, os.strerror(found), str(path)) from error


def number(error: BaseException) -> int | None:
    """The system's number of an error; safetensors has it in the text only."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)\)", str(error))
    return int(found[1]) if found else None
