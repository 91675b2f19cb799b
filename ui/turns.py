"""A lock that is taken in the order in which it was asked for."""

import threading
from collections import deque
from types import TracebackType
from typing import Self


class Turns:
    """One at a time, first come, first served; the holder may take it again.

    Python's own locks go to whoever is awake: one who lets go and asks again at once, as long work does after each
    step, mostly gets it again, however long others have waited.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._holder: int | None = None
        self._depth = 0

    def acquire(self, timeout: float | None = None) -> bool:
        """Take it, or wait for it; False when ``timeout`` seconds were not enough."""
        me, called = threading.get_ident(), threading.Event()
        with self._guard:
            if self._holder in (None, me):
                self._holder, self._depth = me, self._depth + 1
                return True
            self._waiting.append(called)
        if not called.wait(timeout):
            with self._guard:
                if not called.is_set():
                    self._waiting.remove(called)
                    return False
        self._holder, self._depth = me, 1
        return True

    def release(self) -> None:
        """Let go: whoever has waited longest is next."""
        with self._guard:
            if self._holder != threading.get_ident():
                raise RuntimeError("only the holder may let go")
            self._depth -= 1
            if not self._depth:
                self._hand_on()

    def _hand_on(self) -> None:
        """Call the next; until it has woken, nobody else gets in."""
        if self._waiting:
            self._holder = -1
            self._waiting.popleft().set()
        else:
            self._holder = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.release()
