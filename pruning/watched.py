"""Training as the command line watches it: a bar, a state that is written now and then, and a stop that keeps it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pruning.errors import Refused
from pruning.recovery import Trained, Training
from pruning.work import Looked

EVERY = 120.0  # seconds between two writings


class Asked:
    """Whether somebody asked for a stop."""

    stop = False


@contextmanager
def interruptible() -> Iterator[Asked]:
    """Ctrl-C asks for a stop, which comes between two steps; the second one comes at once."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():  # signals are not for it
        yield asked
        return
    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def ask(number: int, frame: Any) -> None:
        asked.stop = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


class Watch:
    """Shows the events of a recovery and writes its state."""

    def __init__(self, bar: tqdm, state: Training, file: Path, asked: Asked) -> None:
        self.bar, self.state, self.file, self.asked, self.written = bar, state, file, asked, time.monotonic()

    def __call__(self, event: Any) -> None:
        """See one event.

        Raises:
            Refused: a stop was asked for; the state is in its file.
            KeyboardInterrupt: likewise, and nothing was trained yet.
        """
        match event:
            case Looked():
                self._show(event.what, event.done, event.of)
            case Trained():
                self._show(f"training, loss {event.loss:.4g}", event.step, event.of)
        due = time.monotonic() - self.written > EVERY
        if self.state.step and (due or self.asked.stop):
            self.state.write(self.file)
            self.written = time.monotonic()
        if self.asked.stop and self.state.step:
            raise Refused(f"Stopped at step {self.state.step}; {self.file} holds what was reached.",
                          "The same command goes on there.")
        if self.asked.stop:
            raise KeyboardInterrupt

    def _show(self, what: str, done: int, of: int) -> None:
        self.bar.set_description(what, refresh=False)
        self.bar.total = of
        self.bar.update(done - self.bar.n)
