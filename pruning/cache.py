"""A cache that is bounded in bytes. Knows nothing of what it keeps."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

GB = 1 << 30


class Kept(OrderedDict[Any, Any]):
    """The values used last, at most ``limit`` bytes of them (the newest always stays).

    ``dropped`` is told each key that had to go to make room.
    """

    def __init__(self, limit: int, dropped: Callable[[Any], None] = lambda key: None) -> None:
        super().__init__()
        self.limit, self.sizes, self.lock, self.dropped = limit, dict[Any, int](), threading.Lock(), dropped

    def look(self, key: Any) -> Any:
        """The value for a key, now the one used last; None when it is not there."""
        with self.lock:
            if key in self:
                self.move_to_end(key)
            return self.get(key)

    def get_or(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value for a key, made if it is not there; ``make`` gives it with its size in bytes."""
        found = self.look(key)
        if found is not None:
            return found
        value, size = make()
        gone = []
        with self.lock:
            self[key], self.sizes[key] = value, size
            while len(self) > 1 and sum(self.sizes.values()) > self.limit:
                gone.append(self.popitem(last=False)[0])
                self.sizes.pop(gone[-1])
        for old in gone:
            self.dropped(old)
        return value

    def drop(self, which: Callable[[Any], bool]) -> None:
        """Forget the keys that ``which`` names."""
        with self.lock:
            for key in [key for key in self if which(key)]:
                del self[key], self.sizes[key]
