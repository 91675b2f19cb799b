"""The one error of ours that people read: a sentence, and what would have worked."""

from collections.abc import Iterator
from contextlib import contextmanager


class Refused(ValueError):
    """Something was asked that cannot be done. ``str()`` is the whole sentence with its remedy.

    ``message`` says what is wrong, ``remedy`` what would have worked.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message, self.remedy = message, remedy


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. On a CPU torch raises a plain RuntimeError that says so."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error).lower())


def in_words(error: BaseException) -> Refused:
    """What the system reports (no memory, a path that cannot be read), as a sentence."""
    if not isinstance(error, OSError):
        return Refused("There is not enough memory for this.", "Choose a smaller model, or fewer images at once.")
    why = error.strerror or str(error).splitlines()[0]
    where = f"{error.filename}: " if error.filename else ""
    return Refused(f"{where}{why.rstrip('.')}.", "Check the path, its permissions and the space on the disk.")


@contextmanager
def put_in_words() -> Iterator[None]:
    """What the system reports of files meanwhile becomes a sentence.

    Raises:
        Refused: a path cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise in_words(error) from error


class Later(Refused, NotImplementedError):
    """A part of the public face that is not built yet."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not part of this version yet.", "The README lists what is.")
