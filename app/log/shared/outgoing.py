"""The one batch of a node that is on its way into the shared log, until its fate is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from triode.app.log.shared.calls import Call

if TYPE_CHECKING:
    from triode.app.log.shared.recent import LogEntry


class Outgoing(NamedTuple):
    """A batch of so many operations. Its number is used for no other."""

    no: int
    ops: int
    body: bytes


class Outbound:
    """`batch` is None when there is none, or its fate is known."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.batch: Outgoing | None = None
        self._last_no = 0
        self.sends = 0
        # A batch was sent twice: the first may still arrive, on a connection that broke.
        self.has_repeated = False
        # The number of the batch that was sent and not answered on this connection.
        self._in_flight = 0
        # The server has said that it is in the log; what is before it comes first.
        self._is_placed = False

    def put(self, body: bytes, ops: int) -> None:
        """The next one."""
        assert self.batch is None, "one batch at a time"
        self._last_no += 1
        self.sends = 0
        self._is_placed = False
        self.batch = Outgoing(self._last_no, ops, body)

    def nonce(self) -> str:
        """By which its entry is known."""
        return f"{self._node}:{self._last_no}"

    def is_in(self, entry: LogEntry) -> bool:
        """Whether this entry is the batch."""
        return self.batch is not None and entry.nonce == self.nonce()

    def call(self, epoch: str) -> Call | None:
        """To send it, unless it is under way."""
        batch = self.batch
        if batch is None or self._in_flight or self._is_placed:
            return None
        self._in_flight = batch.no
        self.sends += 1
        self.has_repeated = self.has_repeated or self.sends > 1
        args = (self._node, str(batch.no), epoch, str(batch.ops), batch.body)
        return Call("append", args)

    def landed(self) -> Outgoing | None:
        """The reply came. The batch that it is about, if its fate is not known yet: its entry may
        have come before.
        """
        no, self._in_flight = self._in_flight, 0
        return self.batch if self.batch is not None and self.batch.no == no else None

    def place(self) -> None:
        """It is in the log, of this term."""
        self._is_placed = True

    def doubt(self) -> None:
        """Another term, or another connection: whether it is in the log has to be seen."""
        self._is_placed = False

    def cut(self) -> None:
        """No reply will come on the connection."""
        self._in_flight = 0

    def done(self) -> None:
        """Its fate is known."""
        self.batch = None
