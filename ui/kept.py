"""A cache that is bounded in bytes. Knows nothing of what it keeps."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

GB = 1 << 30


class Kept(OrderedDict[Any, Any]):
    """The values used last, at most ``limit`` bytes of them (the newest always stays)."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.sizes = limit, dict[Any, int]()

    def get_or(self, key: Any, make: Callable[[], tuple[Any, int]]) -> Any:
        """The value for a key, made if it is not there; ``make`` gives it with its size in bytes."""
        if key not in self:
            self[key], self.sizes[key] = make()
            while len(self) > 1 and sum(self.sizes.values()) > self.limit:
                self.sizes.pop(self.popitem(last=False)[0])
        self.move_to_end(key)
        return self[key]
