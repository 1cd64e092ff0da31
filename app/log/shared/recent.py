"""The last entries as they were in the log, for a server that lost them."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

KEPT_S: Final = 30.0
KEPT_BYTES: Final = 32 * 1024 * 1024


class LogEntry(NamedTuple):
    """A batch in the shared log. `seq` is the number of its last operation."""

    term: int
    seq: int
    nonce: str
    ops: int
    time_ms: int
    epoch: str
    body: bytes

    @property
    def since(self) -> int:
        """The number before its first operation."""
        return self.seq - self.ops

    def fields(self) -> list[str | bytes]:
        """As the script `salvage` takes it."""
        return [
            f"{self.term}-{self.seq}", self.nonce, str(self.ops), str(self.time_ms), self.epoch,
            self.body,
        ]  # fmt: skip


class Recent:
    """Entries without a hole, up to the newest. All behind `floor` are there."""

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self.bytes = 0
        self._entries: deque[tuple[float, LogEntry]] = deque()

    def __repr__(self) -> str:
        return f"<{len(self._entries)} entries behind {self.floor}, {self.bytes} bytes>"

    def add(self, entry: LogEntry, now: float) -> None:
        """The next one. Old ones go, but not because time passes: a server that comes back after
        an hour may still need them.
        """
        self._entries.append((now, entry))
        self.bytes += len(entry.body)
        entries = self._entries
        while len(entries) > 1 and (self.bytes > KEPT_BYTES or entries[0][0] < now - KEPT_S):
            _, gone = entries.popleft()
            self.floor = gone.seq
            self.bytes -= len(gone.body)

    def behind(self, seq: int, max_bytes: float = float("inf")) -> list[LogEntry]:
        """The entries that come after `seq`, the oldest first: at least one if there is any, and no
        more than so many bytes.
        """
        found: list[LogEntry] = []
        for _, entry in self._entries:
            if entry.seq <= seq:
                continue
            max_bytes -= len(entry.body)
            if found and max_bytes < 0:
                break
            found.append(entry)
        return found

    def until(self, seq: int) -> list[LogEntry]:
        """The entries up to `seq`, the oldest first."""
        return [entry for _, entry in self._entries if entry.seq <= seq]

    def newest(self, max_bytes: int) -> list[LogEntry]:
        """The last ones, the oldest first, of no more than so many bytes together."""
        found: list[LogEntry] = []
        for _, entry in reversed(self._entries):
            max_bytes -= len(entry.body)
            if max_bytes < 0:
                break
            found.append(entry)
        return found[::-1]
