"""Snapshots in a shared log, and what is read of it now and then: on a connection of its own, so
that no write waits behind a piece.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from triode.app.log.log import LogAway, LogFull, LogRefused
from triode.app.log.shared.calls import Kept
from triode.app.log.shared.link import entries_of, run_script
from triode.app.log.shared.resp import Lost, ServerError
from triode.app.log.shared.sentinel import connect_primary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.config.log_address import LogAddress
    from triode.app.log.shared.calls import Attached
    from triode.app.log.shared.link import Keys
    from triode.app.log.shared.recent import LogEntry
    from triode.app.log.shared.resp import Arg, Connection, Reply

# Pieces of a snapshot that comes to nothing are gone after so long.
PIECE_S: Final = 600
# Of one read of entries, about: a server gives them by their number, not by their size.
READ_BYTES: Final = 1024 * 1024
READ_ENTRIES: Final = 16
# With a snapshot or without: ids that no other node makes, and that a float holds.
_IDS: Final = 2**53


class _Begun(NamedTuple):
    epoch: str
    seq: int
    term: int
    pieces: int = 0


class Pieces:
    """What is kept beside the stream. `bytes` are those of the log behind the newest snapshot."""

    def __init__(self, address: LogAddress, keys: Keys) -> None:
        self._address = address
        self._keys = keys
        self._connection: Connection | None = None
        self._is_stale = False
        self._turn = trio.Lock()
        self._begun: dict[int, _Begun] = {}
        self._sizes: deque[tuple[int, int]] = deque()
        self.bytes = 0
        # What the server took to answer the last question.
        self.rtt_s = 0.0
        # This node is to make one, because there is none.
        self.are_missing = False
        # Of all nodes one makes snapshots.
        self.is_ours = False

    # ── how much log there is ───────────────────────────────────────────────────────────────────

    def grew(self, seq: int, size: int) -> None:
        """An entry came, up to this number."""
        self._sizes.append((seq, size))
        self.bytes += size

    def seen(self, server: Attached, *, is_ours: bool) -> None:
        """What the server has by now; and whether it is this node that makes snapshots."""
        self.is_ours = is_ours
        self.are_missing = not server.snapshots
        self._saved(server.snapshots[0].seq if server.snapshots else 0)

    def _saved(self, newest: int) -> None:
        while self._sizes and self._sizes[0][0] <= newest:
            self.bytes -= self._sizes.popleft()[1]

    # ── snapshots ───────────────────────────────────────────────────────────────────────────────

    def begin(self, epoch: str, seq: int, term: int) -> int:
        """A new snapshot; its id."""
        number = secrets.randbelow(_IDS)
        self._begun[number] = _Begun(epoch, seq, term)
        return number

    async def add(self, snapshot: int, data: bytes) -> None:
        """Its next piece. Raises `LogAway` and `LogFull`."""
        begun = self._begun[snapshot]
        key = self._keys.piece(snapshot, begun.pieces)
        await self._call("SET", key, data, "EX", PIECE_S)
        self._begun[snapshot] = begun._replace(pieces=begun.pieces + 1)

    def whole(self, snapshot: int) -> Kept:
        """All its pieces are there."""
        begun = self._begun.pop(snapshot)
        return Kept(str(snapshot), begun.seq, begun.term, begun.pieces)

    async def name(self, snapshot: int) -> None:
        """Let the log name it, unless another one is newer. Raises as `add`."""
        epoch = self._begun[snapshot].epoch
        kept = self.whole(snapshot)
        names = [self._keys.piece(snapshot, number) for number in range(kept.pieces)]
        async with self._turn:
            connection = await self._connected()
            try:
                status, old = await run_script(
                    connection, self._keys, "snapshot", (epoch, str(kept)), names
                )
            except (Lost, ServerError) as error:
                raise self._failed(error) from error
        gone = names
        if status == b"ok":
            self._saved(kept.seq)
            gone = []
            if old:
                name, _, _, pieces = old.decode().split(" ")
                gone = [self._keys.piece(name, number) for number in range(int(pieces))]
        for key in gone:
            await self._call("UNLINK", key)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────

    async def read(self, snapshot: int, number: int) -> bytes:
        """A piece, numbered from 0. Raises `LogAway`, and `LogRefused` if it is not there."""
        piece = await self._call("GET", self._keys.piece(snapshot, number))
        if piece is None:
            raise LogRefused(f"piece {number} of snapshot {snapshot} is not there")
        return bytes(piece)

    async def entries(self, after: str) -> list[LogEntry]:
        """Some of those behind this id, a few megabytes at most. Raises `LogAway`."""
        found: list[LogEntry] = []
        size, count = 0, 1
        while size < READ_BYTES:
            reply = await self._call("XRANGE", self._keys.log, f"({after}", "+", "COUNT", count)
            came = entries_of(reply)
            found += [entry for _, entry in came]
            if len(came) < count:
                break
            size += sum(len(entry.body) for _, entry in came)
            after = came[-1][0]
            count = min(2 * count, READ_ENTRIES)
        return found

    async def tell(self, node: str, text: bytes) -> dict[str, bytes]:
        """Keep this of a node; what is kept of all, by node. Raises `LogAway`."""
        commands = (("HSET", self._keys.reports, node, text), ("HGETALL", self._keys.reports))
        async with self._turn:
            connection = await self._connected()
            since = trio.current_time()
            try:
                # The first may fail where there is no memory left.
                _, told = await connection.calls(commands)
            except Lost as error:
                raise self._failed(error) from error
            self.rtt_s = trio.current_time() - since
        if isinstance(told, ServerError):
            raise LogAway(str(told))
        return {name.decode(): kept for name, kept in zip(told[::2], told[1::2], strict=True)}

    async def forget(self, nodes: Sequence[str]) -> None:
        """What these have told: they are gone."""
        await self._call("HDEL", self._keys.reports, *nodes)

    async def leave(self, node: str, *, keep_number: bool) -> None:
        """The node ends; the others need not wait for it. `keep_number`: of its last batch."""
        await self._call("ZREM", self._keys.nodes, node)
        await self.forget([node])
        if not keep_number:
            await self._call("HDEL", self._keys.own[0], f"p:{node}")

    async def _call(self, *command: Arg) -> Reply:
        """What may be done twice: on a new connection, if the one that there was has ended. Nobody
        notices that before it is used.
        """
        async with self._turn:
            was_there = self._connection is not None
            try:
                return await (await self._connected()).call(*command)
            except (Lost, ServerError) as error:
                failed = self._failed(error)
                if not was_there or not isinstance(error, Lost):
                    raise failed from error
            try:
                return await (await self._connected()).call(*command)
            except (Lost, ServerError) as error:
                raise self._failed(error) from error

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed or self._is_stale:
            await self.aclose()
            self._is_stale = False
            try:
                self._connection = await connect_primary(self._address)
            except (Lost, ServerError) as error:
                raise LogAway(str(error)) from error
        return self._connection

    def _failed(self, error: Lost | ServerError) -> LogAway | LogFull:
        if isinstance(error, ServerError) and error.code == "OOM":
            return LogFull("the server of the log has no memory left")
        # Another server may have taken over.
        self._is_stale = True
        return LogAway(str(error))

    async def aclose(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            await self._connection.aclose()
            self._connection = None
