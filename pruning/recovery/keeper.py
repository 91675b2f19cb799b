"""A recovery whose state is in a file while it goes on, so that whatever stops it loses little."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pruning.errors import Refused, in_words
from pruning.network.subject import log
from pruning.recovery.loop import Event, Held, Trained
from pruning.recovery.training import Training

SHARE, LEAST = 0.02, 5.0  # of the time may go into writing; seconds between two writings, at least
RETRY = 60.0  # seconds after a writing that failed


class Keeper:
    """Writes a state that has come further, and knows when that is due again."""

    def __init__(self, state: Training, file: str | Path) -> None:
        self.state, self.file, self.first, self.due = state, file, True, 0.0
        self.written = self.reached

    @property
    def reached(self) -> tuple[int, str]:
        """How far the state has come."""
        return self.state.step, self.state.on

    def write(self) -> None:
        """Write the state, unless it is there.

        Raises:
            Refused: the disk is full.
        """
        if not self.state.step or self.reached == self.written:
            return
        started = time.monotonic()
        self.state.write(self.file)
        self.written, self.first, now = self.reached, False, time.monotonic()
        self.due = now + max(LEAST, (now - started) / SHARE)

    def go_on(self) -> None:
        """Write the state between two steps; after the first time, what hinders that is told and stops nothing.

        Raises:
            Refused: it cannot be written at all.
        """
        try:
            self.write()
        except (Refused, OSError) as error:
            told = error if isinstance(error, Refused) else in_words(error)
            if self.first:
                raise told from error
            log.warning("The state of step %d is not written: %s The training goes on.", self.state.step, told.message)
            self.due = time.monotonic() + RETRY


def keeping(work: Generator[Event, None, Any], state: Training, file: str | Path) -> Generator[Event, None, Any]:
    """The same recovery. Its state is written after the first step, then as often as a fiftieth of the time allows.

    It is written after the last step, too, and with the last error, before there is a pipeline that could be lost; and
    when the stream is closed between two steps. A disk that fills on the way stops nothing: the state before stays.

    Raises:
        Refused: the state cannot be written at all.
    """
    keeper = Keeper(state, file)
    try:
        while True:
            event = next(work)
            if isinstance(event, Held) or (isinstance(event, Trained) and (
                    event.step == event.of or time.monotonic() >= keeper.due)):
                keeper.go_on()
            yield event
    except StopIteration as done:
        return done.value
    except GeneratorExit:
        work.close()
        keeper.write()
        raise
