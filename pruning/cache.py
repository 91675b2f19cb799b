"""The one kind of cache: bounded in bytes, and known by name, so that all of them can be looked at and emptied.

Knows nothing of what is kept.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

GB = 1 << 30
_all: dict[str, "Cache"] = {}


class Cache(OrderedDict[Any, Any]):
    """The values used last, at most ``limit`` bytes of them (the newest always stays). It registers itself by name.

    ``dropped`` is told each key that had to go to make room.
    """

    def __init__(self, name: str, limit: int, dropped: Callable[[Any], None] = lambda key: None) -> None:
        super().__init__()
        self.limit, self.sizes, self.lock, self.dropped = limit, dict[Any, int](), threading.Lock(), dropped
        _all[name] = self

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

    def drop(self, which: Callable[[Any], bool] = lambda key: True) -> None:
        """Forget the keys that ``which`` names; without it, all of them."""
        with self.lock:
            for key in [key for key in self if which(key)]:
                del self[key], self.sizes[key]


def forget(names: Iterable[str] = ()) -> None:
    """Empty the caches of these names; without names, all of them."""
    for name in names or _all:
        _all[name].drop()


def sizes() -> dict[str, int]:
    """The bytes that each cache holds now, by its name."""
    return {name: sum(cache.sizes.values()) for name, cache in _all.items()}
