"""A cache of what is made of texts that clients send, bounded in bytes of what it keeps.

Not `functools.lru_cache`: that counts entries, and one entry may be a hundred bytes or a megabyte,
as the client likes. Not `LruCache` either: here a hit is a dict's own look-up and costs no Python
code, so what was put in first goes first, however often it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from sys import getsizeof
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

# A dict's place for a pair, with the room that it leaves free: 20 to 60.
_ENTRY_BYTES = 50
# Whatever weighs more than this share of the cache would push out too many others.
_LARGE_SHARE = 64
# So many of the oldest go at once: one by one, each search for the oldest would pass all the gaps.
_GONE_SHARE = 16


def weight_of(parts: Iterable[object]) -> int:
    """The bytes of an entry that is made of these: texts, numbers, tuples of them."""
    return _ENTRY_BYTES + sum(map(getsizeof, parts))


class Cache(dict[K, V]):
    """`cache[key]` is `make(key)`, kept from then on while there is room; what `make` raises is
    raised. `weigh` says the bytes of an entry, the same each time.
    """

    __slots__ = ("_make", "_weigh", "bytes", "max_bytes")

    def __init__(
        self, make: Callable[[K], V], weigh: Callable[[K, V], int], max_bytes: int
    ) -> None:
        super().__init__()
        self._make = make
        self._weigh = weigh
        self.max_bytes = max_bytes
        self.bytes = 0

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self.bytes = 0

    def __missing__(self, key: K) -> V:
        value = self._make(key)
        weight = self._weigh(key, value)
        if weight <= self.max_bytes // _LARGE_SHARE:
            self[key] = value
            self.bytes += weight
            while self.bytes > self.max_bytes:
                for oldest in list(islice(self, 1 + len(self) // _GONE_SHARE)):
                    self.bytes -= self._weigh(oldest, self.pop(oldest))
        return value
