"""What a log is: writes in one order, kept; and from time to time the document as it was.

    memory    for tests and for code that embeds Triode: it ends with the process
    sqlite    a file: what was answered is on the disk
    valkey    a server that several Triodes share

A log knows nothing of documents. It keeps batches (`store.entry`) and snapshots in pieces. The log
numbers the entries, for of a shared one others write, too: what is kept comes out of `take`, in the
one order, own and others' alike. One task at a time may append; snapshots may be made beside it.

    LogError
    ├── LogAway      a shared one is not in reach now; nothing was done
    ├── LogUnknown   what became of the batch is not known, and it will not be sent again
    ├── LogRefused   it cannot be used: a wrong format, a network drive
    │   └── LogInUse     somebody else has it
    ├── LogFull      no room; nothing was written, and it may go on later
    ├── NodeGone     another process that shares it was asked something, and is not there
    ├── NodeSilent   or has not answered
    └── LogBroken    whether the last batch is kept is not known: the process has to end, and the
                     next one reads what there is
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from triode.store.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from triode.store.change import Position


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


class LogAway(LogError):
    """The server of a shared log is not in reach. Nothing was done."""


class LogUnknown(LogError):
    """What became of the batch is not known. The log goes on."""


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


class Anew(NamedTuple):
    """The document is to be made anew from one of these snapshots (the newest first), or as new.
    `reason`: `boot`; `behind`, what comes next is no longer in the log; `rewound`, the log has lost
    what this process had carried out. The log stands at `last`. Of what was carried out here `lost`
    entries are not in it.
    """

    reason: str
    lineage: Lineage
    last: int
    snapshots: Sequence[Snapshot]
    lost: int = 0


class SeedWanted(NamedTuple):
    """The server has lost the log: a snapshot of the document as it is now, after the entry `seq`,
    is what it goes on with.
    """

    seq: int


class Alive(NamedTuple):
    """Whether the log is in reach, and takes writes."""

    is_live: bool


class Standing(NamedTuple):
    """How this process stands with a shared log: whether it is `away`, `asking`, `recovering` or
    `open`, and why it is not; in which term, and up to which number the log is known to go.

    `nodes` are those that share it, `saver` makes the snapshots for all. `given_back` entries were
    given to a server that had lost them; `lost` were lost that were written, and answered, here. A
    round trip to the server takes about `rtt_s`.
    """

    address: str
    state: str
    why: str
    term: int
    seq: int
    nodes: Sequence[str]
    saver: str
    given_back: int
    lost: int
    rtt_s: float


class NodeGone(LogError):
    """No process of this name shares the log."""


class NodeSilent(LogError):
    """It did not answer in time. It may have done what it was asked."""


# What comes out of a log. A `Lineage` holds from there on. Of a log that is not shared, batches
# alone.
News = Batch | Lineage | Anew | SeedWanted | Alive


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

        Raises `LogFull`, `LogUnknown`, `LogAway` and `LogBroken`.
        """

    def take(self) -> News | None:
        """What comes next in the order of the log, from where it stood when it was opened. Own
        batches come in the order in which they were appended. None: there is nothing yet.
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

    async def has_room(self) -> bool:
        """Whether it takes writes: false from `LogFull` until there is room again."""

    async def tidy(self) -> None:
        """What is better done when nobody waits. Called often, and cheap when there is nothing."""

    @property
    def bytes(self) -> int:
        """About what would have to be read to begin from the newest snapshot."""

    def disk_bytes(self) -> int:
        """What it takes now."""

    async def aclose(self) -> None:
        """Let go of it. Also cancelled it takes a few seconds at most."""


class Letters(Protocol):
    """Questions between the processes that share a log."""

    @property
    def waiting_bytes(self) -> int:
        """Of questions and answers that wait to be sent."""

    async def ask(self, node: str, question: bytes, within_s: float) -> bytes:
        """The answer of another process, which has at most so long. It gets the question once, or
        not at all. Raises `NodeGone`, `NodeSilent`, and `LogAway` when nothing was sent.
        """

    async def run(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Answer what others ask, until cancelled. Only meanwhile `ask` works here."""


class SharedLog(Log, Protocol):
    """A log that other processes write to, too. `run` has to run from before `open` until after the
    last call of anything that waits.
    """

    @property
    def node(self) -> str:
        """A name of this process, in this run."""

    async def run(self) -> None:
        """Keep in touch with the server, until cancelled."""

    async def open_again(self) -> Opened:
        """Where the log was new, and the first snapshot was made: it may be another's, who began at
        the same time.
        """

    def begin_at(self, snapshot: Snapshot | None) -> None:
        """After `open` and `Anew`: the document is what this one has. What came after it comes out
        of `take`.
        """

    def begin_failed(self) -> None:
        """None of those could be read; there will be another `Anew`."""

    async def finish_seed(self, snapshot: int) -> None:
        """The snapshot that `SeedWanted` asked for is whole."""

    def seed_failed(self) -> None:
        """It could not be made."""

    @property
    def is_seeding(self) -> bool:
        """Whether one is still wanted."""

    @property
    def is_saver(self) -> bool:
        """Whether it is this process that makes snapshots for all."""

    @property
    def needs_snapshot(self) -> bool:
        """Whether there is none."""

    @property
    def is_live(self) -> bool:
        """Whether the log is in reach."""

    async def end(self) -> Position:
        """The position of the last entry, as the server says it after this was called. Waits while
        it is not in reach.
        """

    @property
    def standing(self) -> Standing:
        """How this process stands with it, as far as it knows."""

    async def tell(self, text: bytes) -> dict[str, bytes]:
        """Let the others read this of us; what all who share the log have told, by node. Raises
        `LogAway`.
        """

    @property
    def post(self) -> Letters:
        """Questions to the others, and theirs."""
