"""What a member of a cluster asks for, and what it is told (`app/log/shared/scripts`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from triode.app.log.shared.terms import Term, Terms, parse_terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.log.shared.recent import LogEntry
    from triode.app.log.shared.scripts import Name


class Kept(NamedTuple):
    """A snapshot that the log names: all up to `seq`, in so many pieces."""

    id: str
    seq: int
    term: int
    pieces: int

    def __str__(self) -> str:
        return f"{self.id} {self.seq} {self.term} {self.pieces}"


class Attached(NamedTuple):
    """The reply of `attach`."""

    state: str
    terms: Terms
    seq: int
    now_ms: int
    left_ms: int
    elected: str
    round: int
    follows: bool
    # The newest first.
    snapshots: tuple[Kept, ...]
    nodes: tuple[str, ...]
    log_bytes: int


class UnknownFormat(Exception):
    """The log was written by another version of Triode."""


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def read_attached(reply: Sequence[object]) -> Attached:
    """From the reply as the server sent it. Raises `UnknownFormat`."""
    state = _text(reply[0])
    if state == "format":
        raise UnknownFormat(_text(reply[1]))
    lineage, seq, now, left, elected, round_, follows, snap, nodes, size = map(_text, reply[1:])
    named = (record.split(" ") for record in snap.split(";") if record)
    return Attached(
        state,
        parse_terms(lineage),
        int(seq),
        int(now),
        int(left),
        elected,
        int(round_),
        follows == "1",
        tuple(Kept(name, int(at), int(term), int(pieces)) for name, at, term, pieces in named),
        tuple(nodes.split(",")) if nodes else (),
        int(size),
    )


class Call(NamedTuple):
    """Run a script on the connection for commands, and hand in what it says: `attached`,
    `appended`, `salvaged`. The keys of the pieces of `snapshot` go behind the others.
    """

    script: Name
    args: tuple[str | bytes, ...]
    snapshot: Kept | None = None


def attach_call(
    node: str,
    at: Term,
    seq: int,
    bids: bool,
    roster: str,
    new_epoch: str,
    window_s: float,
    lease_s: float,
) -> Call:
    """Say where a node stands, and ask where the log does."""
    times = str(int(window_s * 1000)), str(int(lease_s * 1000))
    position = str(at.number), at.epoch, str(seq)
    return Call("attach", (node, *position, "1" if bids else "0", roster, new_epoch, *times))


class Read(NamedTuple):
    """Read the stream from behind this id from now on, and hand in what comes: `tailed`. What was
    being read is read no more.
    """

    after: str


class Apply(NamedTuple):
    """The next entry in the one order. `is_own`: it is the batch that was given to `append`, so
    who waits for it can be answered.
    """

    entry: LogEntry
    is_own: bool


class Reload(NamedTuple):
    """Begin anew from one of these snapshots, the newest first; then say `reloaded` or
    `reload_failed`. Until then there is no document.

    `reason` is "boot", "behind" (the log between was trimmed) or "rewound": what this node has
    behind `common` is not in the log; -1: it was quite another log. Of it `lost` is known, and of
    `lost_count` operations.
    """

    reason: str
    snapshots: tuple[Kept, ...]
    common: int
    lost: Sequence[LogEntry] = ()
    lost_count: int = 0


class Seed(NamedTuple):
    """The server has no log that could be gone on with. Make a snapshot of the document as it is,
    put its pieces there, then say `seeded`; or `seed_failed`, and another node will do. When the
    connection is lost it is no longer wanted.
    """

    seq: int


class Unknown(NamedTuple):
    """Whether the batch given to `append` is in the log will not be known: say so to who waits. It
    is not sent again.
    """


class Full(NamedTuple):
    """The log has no room. Nothing of the batch given to `append` was done."""


class Live(NamedTuple):
    """Whether the log is in reach and takes writes: tell the clients. Not live since `since`."""

    is_live: bool
    since: float


class Reconnect(NamedTuple):
    """Drop both connections, find the server anew, then say `connected`; not `lost`."""


Action = Call | Read | Apply | Reload | Seed | Unknown | Full | Live | Reconnect
