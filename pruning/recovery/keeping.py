"""A recovery whose state is in a file while it goes on, so that whatever stops it loses little."""

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pruning.errors import Refused, in_words
from pruning.recovery.loop import Event, Held, Trained
from pruning.recovery.training import Training
from pruning.subject import log

SHARE, LEAST = 0.02, 5.0  # of the time may go into writing; seconds between two writings, at least


class Written:
    """When a state was written, and when it is due again."""

    def __init__(self, state: Training, file: str | Path) -> None:
        self.state, self.file, self.reached, self.due = state, file, (state.step, state.on), 0.0

    def __call__(self) -> None:
        """Write the state, unless it is there.

        Raises:
            Refused: the disk is full.
        """
        reached = (self.state.step, self.state.on)
        if not self.state.step or reached == self.reached:
            return
        started = time.monotonic()
        self.state.write(self.file)
        self.reached, now = reached, time.monotonic()
        self.due = now + max(LEAST, (now - started) / SHARE)


def keeping(work: Generator[Event, None, Any], state: Training, file: str | Path) -> Generator[Event, None, Any]:
    """The same recovery. Its state is written after the first step, then as often as a fiftieth of the time allows.

    It is written after the last step, too, and with the last error, before there is a pipeline that could be lost; and
    when the stream is closed between two steps. A disk that fills on the way stops nothing: the state before stays.

    Raises:
        Refused: the state cannot be written at all.
    """
    written, first = Written(state, file), True
    try:
        while True:
            event = next(work)
            if isinstance(event, Held) or (isinstance(event, Trained) and (
                    event.step == event.of or time.monotonic() >= written.due)):
                _write(written, first)
                first = first and not state.step
            yield event
    except StopIteration as done:
        return done.value
    except GeneratorExit:
        work.close()
        written()
        raise


def _write(written: Written, first: bool) -> None:
    """Write a state; after the first time, what hinders that is only told."""
    try:
        written()
    except (Refused, OSError) as error:
        told = error if isinstance(error, Refused) else in_words(error)
        if first:
            raise told from error
        log.warning("The state of step %d is not written: %s The training goes on.", written.state.step, told.message)
        written.due = time.monotonic() + 60
