"""What a log is: writes in one order, kept; and from time to time the document as it was.

    memory    for tests and for code that embeds Triode: it ends with the process
    sqlite    a file: what was answered is on the disk

A log knows nothing of documents. It keeps batches (`store.entry`) and snapshots in pieces. The log
numbers the entries, for of a shared one others write, too: what is kept comes out of `take`, in the
one order, own and others' alike. One task at a time may append; snapshots may be made beside it.

    LogError
    ├── LogRefused   it cannot be used: a wrong format, a network drive
    │   └── LogInUse     somebody else has it
    ├── LogFull      no room; nothing was written, and it may go on later
    └── LogBroken    whether the last batch is kept is not known: the process has to end, and the
                     next one reads what there is
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.store.lineage import Lineage


class LogError(Exception):
    """A log does not do what it is for. The text is one line: SQLite's own may have several."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


class LogRefused(LogError):
    """This log cannot be used. The text says what to do."""


class LogInUse(LogRefused):
    """Another process has it."""


class LogFull(LogError):
    """There is no room. Nothing of the batch was written."""


class LogBroken(LogError):
    """What became of the last batch is not known, and the log takes no more."""


class Batch(NamedTuple):
    """What was committed at once: the entries numbered `first` to `last`, as `store.entry` wrote
    them. `is_own` as `take` gives it: this process has appended it, in this run.
    """

    first: int
    last: int
    data: bytes
    is_own: bool = False


def require_joined(since: int, batches: Sequence[Batch]) -> None:
    """Raises `LogRefused` unless the batches go on from the entry `since` without a hole."""
    for batch in batches:
        if batch.first > since + 1:
            raise LogRefused(f"the entries {since + 1} to {batch.first - 1} are not in the log")
        since = batch.last


class Snapshot(NamedTuple):
    """A whole snapshot: all up to the entry `seq`, in so many pieces."""

    id: int
    seq: int
    pieces: int


class Opened(NamedTuple):
    """How a log was found. Its entries after `floor` can be read; `last` is the newest."""

    lineage: Lineage
    floor: int
    last: int
    snapshots: Sequence[Snapshot]


class Log(Protocol):
    """One document's log. All but `open` need it to be open.

    Cancelled, a call has either not been begun or is done whole.
    """

    async def open(self) -> Opened:
        """Take the log for this process alone. Raises `LogRefused`."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes write to it, too."""

    async def append(self, data: bytes, count: int) -> None:
        """Keep a batch of so many entries behind all that is there. On return a crash cannot take
        it back, and `take` gives it, or has given it.

        Raises `LogFull` and `LogBroken`.
        """

    def take(self) -> Batch | None:
        """The next batch in the order of the log, from where it stood when it was opened. Own ones
        come in the order in which they were appended. None: there is none yet.
        """

    async def news(self) -> None:
        """Wait until `take` has something. Of a log that is not shared only `append` makes that
        so. Raises `LogBroken`.
        """

    async def read(self, since: int) -> list[Batch]:
        """The next batches with entries after `since`, a few megabytes at most; empty at the end.
        Raises `LogRefused` when they are damaged or no longer there.
        """

    async def begin_snapshot(self, seq: int) -> int:
        """A new snapshot of all up to the entry `seq`; its id. One that was not finished goes."""

    async def add_piece(self, snapshot: int, data: bytes) -> None:
        """Its next piece. Raises as `append` does."""

    async def finish_snapshot(self, snapshot: int) -> None:
        """It is whole. Of all whole ones the newest two stay, and so does the log behind the older
        of them.
        """

    async def read_piece(self, snapshot: int, number: int) -> bytes:
        """A piece, numbered from 0."""

    async def floor(self) -> int:
        """The entries after this one can be read."""

    async def backup(self) -> int:
        """All of it as a file, as `triode restore` reads it: its descriptor, open at no name, to be
        closed. Others go on meanwhile. Raises `LogFull`, and `LogRefused` where there is no such
        thing.
        """

    async def tidy(self) -> None:
        """What is better done when nobody waits. Called often, and cheap when there is nothing."""

    @property
    def bytes(self) -> int:
        """About what would have to be read to begin from the newest snapshot."""

    def disk_bytes(self) -> int:
        """What it takes now."""

    async def aclose(self) -> None:
        """Let go of it. Also cancelled it takes a few seconds at most."""
