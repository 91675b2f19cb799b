"""The command line towards its shell: streams that may be closed or full, signals, and the exit status.

A reader that has seen enough (``| head``) is no error: the status is then 141, as of a program that SIGPIPE ends.
Output that cannot be written (``>/dev/full``, ``>&-``) is one: 1. A stop by a signal is 128 and the signal's number:
130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP. None of them shows a traceback.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from typing import Any, NoReturn, TextIO

from pruning.errors import Refused

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
BROKEN_PIPE = 141


class Stopped(KeyboardInterrupt):
    """A signal asked for an end. ``told`` is what people read of it."""

    def __init__(self, number: int, told: Refused | None = None) -> None:
        super().__init__(number)
        self.number = number
        self.told = told or Refused("Stopped.", "Files that were finished stay.")

    @property
    def status(self) -> int:
        """The exit status, as shells count it."""
        return 128 + self.number


class Usage(Exception):
    """A command that was not understood."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser, self.message = parser, message


class Parser(argparse.ArgumentParser):
    """A parser that raises what it does not understand, and takes ``--`` as a value (``--prompt=--``)."""

    def error(self, message: str) -> NoReturn:
        """Raise it.

        Raises:
            Usage: always.
        """
        raise Usage(self, message)

    def print_help(self, file: Any = None) -> NoReturn:
        """Print it as a result, and end.

        Raises:
            SystemExit: always, with the status.
        """
        raise SystemExit(printed(self.format_help().rstrip("\n"), 0))

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        # argparse takes "--" out of the values of every flag, even where it is the whole value
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            return "--"
        return super()._get_values(action, arg_strings)  # type: ignore[misc]


@contextmanager
def signalled() -> Iterator[None]:
    """Signals that ask for an end raise ``Stopped``, so that whatever is under way cleans up.

    Those that are ignored (``nohup``, a background job) stay so, and a thread gets none.
    """
    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    with handled(stop):
        yield


@contextmanager
def handled(handler: Any) -> Iterator[None]:
    """A handler for the signals that ask for an end, but for those that are ignored."""
    if threading.current_thread() is not threading.main_thread():  # signals are not for it
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    taken = {number: old or signal.SIG_DFL for number, old in before.items() if old is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)


class Forgiving:
    """Standard error that may be closed or full: what cannot be said there is left unsaid."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or not."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            _nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            _nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def attached() -> Iterator[None]:
    """Standard streams that can be written to without care; a closed output is told by ``printed``."""
    with ExitStack() as stack:
        _filled()
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                stream = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stream.closed_from_the_start = True  # type: ignore[attr-defined]
                setattr(sys, name, stream)
                stack.callback(setattr, sys, name, None)
        if hasattr(sys.stdout, "reconfigure"):  # a name of a file need not be text of this terminal's
            sys.stdout.reconfigure(errors="backslashreplace")
        stack.enter_context(redirect_stderr(Forgiving(sys.stderr)))
        try:
            yield
        finally:
            sys.stderr.flush()


def _filled() -> None:
    """Take the numbers of closed standard streams, so that no file of ours gets one and is written to by mistake."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def printed(text: str, status: int) -> int:
    """Print a result; the exit status, which is another one where the result cannot be printed."""
    if hasattr(sys.stdout, "closed_from_the_start"):
        print("Standard output is closed: the result was not printed.", file=sys.stderr)
        return status or 1
    try:
        print(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _nowhere(sys.stdout)
        return status or BROKEN_PIPE
    except OSError as error:
        _nowhere(sys.stdout)
        print(f"The result cannot be printed: {error.strerror}.", file=sys.stderr)
        return status or 1
    return status


def failed(error: Refused, as_json: bool, status: int = 1) -> int:
    """Print what is wrong; the exit status."""
    if as_json:
        return printed(json.dumps({"error": {"message": error.message, "remedy": error.remedy}}), status)
    print(error, file=sys.stderr)
    return status


def _nowhere(stream: TextIO) -> None:
    """Let a stream's rest go nowhere, so that nothing complains of it at the end."""
    with suppress(OSError, ValueError, AttributeError):
        target, number = os.open(os.devnull, os.O_WRONLY), stream.fileno()
        os.dup2(target, number)
        os.close(target)
