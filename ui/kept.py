"""A cache that is bounded in bytes. Knows nothing of what it keeps."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

GB = 1 << 30


class Kept(OrderedDict[Any, Any]):
    """The values used last, at most ``limit`` bytes of them (the newest always stays)."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.sizes, self.lock = limit, dict[Any, int](), threading.Lock()

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
        with self.lock:
            self[key], self.sizes[key] = value, size
            while len(self) > 1 and sum(self.sizes.values()) > self.limit:
                self.sizes.pop(self.popitem(last=False)[0])
        return value
