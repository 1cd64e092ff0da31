"""A cache of what texts of clients stand for, bounded in bytes: the ones used last stay.

Not `functools.lru_cache`: that counts entries, and one entry may be a hundred bytes or a megabyte,
as the client likes.
"""

from __future__ import annotations

from typing import Generic, TypeVar

V = TypeVar("V")


class LruCache(Generic[V]):
    """Values by their text. `bytes` is the sum of the weights they were put in with."""

    __slots__ = ("_kept", "bytes", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: dict[str, tuple[V, int]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, text: str) -> V | None:
        """The value, which is the one used last from now on; None when it is not kept."""
        kept = self._kept.get(text)
        if kept is None:
            return None
        # A dict keeps its order of insertion: the end is what was used last.
        del self._kept[text]
        self._kept[text] = kept
        return kept[0]

    def put(self, text: str, value: V, weight: int) -> None:
        """Keep a value of about `weight` bytes; what was used longest ago gives way to it. One that
        is larger than all there is room for is not kept.
        """
        if weight > self.max_bytes:
            return
        known = self._kept.pop(text, None)
        self.bytes += weight - (known[1] if known else 0)
        self._kept[text] = (value, weight)
        while self.bytes > self.max_bytes:
            oldest = next(iter(self._kept))
            self.bytes -= self._kept.pop(oldest)[1]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.bytes = 0
