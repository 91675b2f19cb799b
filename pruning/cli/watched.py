"""Training as the command line watches it: a bar, and a stop that comes between two steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pruning.cli.shell import Stopped, handled
from pruning.errors import Refused
from pruning.progress import Looked
from pruning.recovery import Trained, Training


class Asked:
    """Which signal asked for a stop, if any."""

    signal = 0


@contextmanager
def interruptible() -> Iterator[Asked]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop, which comes between two steps; the second one comes at once."""
    asked = Asked()

    def ask(number: int, frame: Any) -> None:
        if asked.signal:
            raise Stopped(number)
        asked.signal = number

    with handled(ask):
        yield asked


class Watch:
    """Shows the events of a recovery, and stops it when that was asked for."""

    def __init__(self, bar: tqdm, state: Training, file: Path, asked: Asked) -> None:
        self.bar, self.state, self.file, self.asked = bar, state, file, asked

    def __call__(self, event: Any) -> None:
        """See one event.

        Raises:
            Stopped: that was asked for. Whoever closes the recovery has its state written.
        """
        match event:
            case Looked():
                self._show(event.what, event.done, event.of)
            case Trained():
                self._show(f"training, loss {event.loss:.4g}", event.step, event.of)
        if self.asked.signal:
            told = Refused(f"Stopped at step {self.state.step}; {self.file} holds what was reached.",
                           "The same command goes on there.")
            raise Stopped(self.asked.signal, told if self.state.step else None)

    def _show(self, what: str, done: int, of: int) -> None:
        self.bar.set_description(what, refresh=False)
        self.bar.total = of
        self.bar.update(done - self.bar.n)
