"""Rooms: named groups for messages that are not state."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from app.source import Source

if TYPE_CHECKING:
    from app.client import Client


class Room(Source):
    """A room lives as long as it has members. Its log is its own: a room that comes back counts
    under a new epoch.
    """

    __slots__ = ("epoch", "members", "name", "seq")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.epoch = secrets.token_hex(3)
        self.members: dict[Client, None] = {}
        self.seq = 0

    def number(self) -> int:
        """Count one more message."""
        self.seq += 1
        return self.seq
