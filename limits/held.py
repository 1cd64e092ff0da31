"""Bytes that are held for others until they are whole, over all of them."""

from __future__ import annotations


class Held:
    """One account for all who hold; `most` bytes together, 0 for no bound."""

    __slots__ = ("most", "refused", "total")

    def __init__(self, most: int) -> None:
        self.most = most
        self.total = 0
        self.refused = 0

    def change(self, by: int) -> bool:
        """Somebody holds so much more, or less. False: that is too much for all together; it is
        counted nevertheless, until whoever holds it lets go.
        """
        self.total += by
        if by > 0 and 0 < self.most < self.total:
            self.refused += 1
            return False
        return True
