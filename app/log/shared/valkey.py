"""A log that several Triodes share, in a Valkey or Redis server.

What may be done, where this node stands, and what comes next is decided by `member`, which does no
I/O. The connections are in `attendance`. Here what it says becomes what `take` gives.

    attendance ── what happens ──► member ── what is to be done ──► do ──► take

Without the server `append` waits, and `is_live` says so.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

import trio

from triode.app.log.log import (
    Alive,
    Anew,
    Batch,
    LogAway,
    LogError,
    LogFull,
    LogRefused,
    LogUnknown,
    Opened,
    SeedWanted,
    Snapshot,
    Standing,
    require_joined,
)
from triode.app.log.shared.attendance import Attendance, now
from triode.app.log.shared.calls import (
    Apply,
    Call,
    Full,
    Live,
    Read,
    Reconnect,
    Reload,
    Seed,
    Unknown,
)
from triode.app.log.shared.link import Keys
from triode.app.log.shared.lost_entries import in_words
from triode.app.log.shared.member import Member
from triode.app.log.shared.pieces import Pieces
from triode.app.log.shared.post import Post
from triode.app.log.shared.state import State
from triode.app.log.shared.terms import last_term, lineage, stream_id
from triode.app.runtime.epoch import new_epoch
from triode.store.change import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.config.log_address import LogAddress
    from triode.app.log.log import News
    from triode.app.log.shared.calls import Action, Attached, Kept
    from triode.app.log.shared.recent import LogEntry

log = logging.getLogger("triode")

PATIENCE_S: Final = 4.0
# At the start: then it is said what is wrong.
OPEN_S: Final = 10.0
# So long the node may still be counted in when it has gone.
LEAVE_S: Final = 1.0
# Batches that were lost, in the server's log.
LOST_LISTED: Final = 20


class ValkeyLog:
    """See `log.SharedLog`. `run` has to run whenever anything is waited for here."""

    def __init__(self, address: LogAddress, *, patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: of a batch that cannot be sent."""
        self.address = address
        self._patience_s = patience_s
        self._keys = Keys(address.name)
        self._member = Member(secrets.token_hex(6), new_epoch, now())
        self._pieces = Pieces(address, self._keys)
        # To the other nodes.
        self.post = Post(address, self._keys, self._member.node)
        self._new: deque[News] = deque()
        self.untaken = 0
        # The batch that was given to the member: what became of it.
        self._outcome: Exception | None = None
        self._is_out = False
        self._changed = trio.lowlevel.ParkingLot()
        self._attendance = Attendance(address, self._keys, self._member, self)
        self.is_live = False
        self.live_since = 0.0
        # Of what was written here.
        self._lost = 0

    def __repr__(self) -> str:
        return f"<{self.address}, {self._member!r}>"

    @property
    def is_shared(self) -> bool:
        """Others write to it."""
        return True

    @property
    def node(self) -> str:
        """The name of this run of this process."""
        return self._member.node

    # ── what comes ──────────────────────────────────────────────────────────────────────────────

    async def open(self) -> Opened:
        """Wait until the log says where it stands. Raises `LogRefused`."""
        with trio.move_on_after(OPEN_S):
            while self._attendance.refused is None:
                member = self._member
                if (opened := self._opened()) is not None:
                    return opened
                if member.state is State.OPEN and not member.is_based and not self._kept():
                    return Opened(lineage(member.terms), 0, 0, [])
                await self._changed.park()
        why = self._attendance.why or f"{self.address} does not answer"
        raise self._attendance.refused or LogRefused(why)

    def _opened(self) -> Opened | None:
        for news in self._new:
            if isinstance(news, Anew):
                self._new.remove(news)
                return Opened(news.lineage, self._floor(), news.last, news.snapshots)
        return None

    async def open_again(self) -> Opened:
        """After the first snapshot was made: it may be that of another one who began, too."""
        while (opened := self._opened()) is None:
            await self._changed.park()
        return opened

    def begin_at(self, snapshot: Snapshot | None) -> None:
        """The document is what this snapshot has: from now on `take` gives what came after it."""
        kept = next((k for k in self._kept() if snapshot and int(k.id) == snapshot.id), None)
        if kept is None:
            self.begin_failed()
        else:
            self.do(self._member.reloaded(kept, now()))

    def begin_failed(self) -> None:
        """The snapshot could not be read; there will be another `Anew`."""
        self.do(self._member.reload_failed(now()))

    def _kept(self) -> Sequence[Kept]:
        return self._member.server.snapshots if self._member.server else ()

    def take(self) -> News | None:
        """What comes next in the order of the log."""
        if not self._new:
            return None
        new = self._new.popleft()
        if isinstance(new, Batch):
            self.untaken -= len(new.data)
            if not self._new:
                self._attendance.changed.unpark_all()  # the tail may have waited for it
        return new

    async def news(self) -> None:
        """Wait until there is something to take."""
        while not self._new:
            await self._changed.park()

    async def run(self) -> None:
        """Keep in touch with the server, until cancelled."""
        await self._attendance.run()

    async def append(self, data: bytes, count: int) -> None:
        """Raises `LogFull`, `LogUnknown` and `LogAway`."""
        with trio.move_on_after(self._patience_s):
            while not self._member.can_append:
                await self._changed.park()
        if not self._member.can_append:
            raise LogAway(self._attendance.why or f"{self.address} takes no writes now")
        self._is_out, self._outcome = True, None
        self.do(self._member.append(data, count, now()))
        while self._is_out:
            await self._changed.park()
        if self._outcome is not None:
            raise self._outcome

    async def end(self) -> Position:
        """The position of the last entry that the log has, asked now. Who asks meanwhile shares the
        next answer. Waits while the log is not in reach.
        """
        member = self._member
        wanted = member.asked + 1
        while member.heard < wanted:
            if actions := member.probe():
                self.do(actions)
            await self._changed.park()
        return Position(*member.end)

    # ── what the member wants ───────────────────────────────────────────────────────────────────

    def do(self, actions: Sequence[Action]) -> None:
        """What the member says is to be done, in this order."""
        for action in actions:
            match action:
                case Call():
                    self._attendance.ask(action)
                case Read():
                    self._attendance.read(action.after)
                    self._new.append(lineage(self._member.terms))
                case Apply():
                    self._apply(action.entry, is_own=action.is_own)
                case Reload():
                    self._reload(action)
                case Seed():
                    self._new.append(SeedWanted(action.seq))
                case Unknown():
                    self._decided(LogUnknown("the log was lost in part, or begun anew"))
                case Full():
                    self._decided(LogFull("the server of the log has no memory left"))
                case Live():
                    self.is_live, self.live_since = action.is_live, action.since
                    self._new.append(Alive(action.is_live))
                case Reconnect():
                    self._attendance.reconnect()
                case _:
                    assert_never(action)
        self.wake()

    def wake(self) -> None:
        """Something may be there that somebody waits for."""
        self._changed.unpark_all()
        self._attendance.changed.unpark_all()

    def attached(self, server: Attached) -> None:
        """The server has said where it stands."""
        self._pieces.seen(server, is_ours=min(server.nodes, default="") == self.node)

    def _decided(self, outcome: Exception | None) -> None:
        self._is_out, self._outcome = False, outcome

    def _apply(self, entry: LogEntry, *, is_own: bool) -> None:
        self._new.append(Batch(entry.since + 1, entry.seq, entry.body, is_own))
        self.untaken += len(entry.body)
        self._pieces.grew(entry.seq, len(entry.body))
        if is_own:
            self._decided(None)

    def _reload(self, reload: Reload) -> None:
        server = self._member.server
        assert server is not None
        snapshots = [Snapshot(int(kept.id), kept.seq, kept.pieces) for kept in reload.snapshots]
        lost = reload.lost_count if reload.reason == "rewound" else 0
        self._new.append(Anew(reload.reason, lineage(server.terms), server.seq, snapshots, lost))
        own = f"{self.node}:"
        self._lost += sum(entry.ops for entry in reload.lost if entry.nonce.startswith(own))
        for entry in reload.lost[:LOST_LISTED]:
            log.error("acknowledged, and lost: %s:%d: %s", entry.epoch, entry.seq, in_words(entry))
        more = len(reload.lost) - LOST_LISTED
        if more > 0:
            log.error("acknowledged, and lost: %d batches more", more)

    # ── for people ──────────────────────────────────────────────────────────────────────────────

    @property
    def standing(self) -> Standing:
        """How this node stands with the server."""
        member, server = self._member, self._member.server
        nodes = server.nodes if server else ()
        terms = server.terms if server else member.terms
        return Standing(
            str(self.address),
            member.state.value,
            self._attendance.why,
            terms[-1].number if terms else 0,
            max(member.seq, server.seq if server else 0),
            nodes,
            min(nodes, default=""),
            member.giving_back.given,
            self._lost,
            self._pieces.rtt_s,
        )

    async def tell(self, text: bytes) -> dict[str, bytes]:
        """What all tell who have a lease. Raises `LogAway`."""
        told = await self._pieces.tell(self.node, text)
        known = {self.node, *(self._member.server.nodes if self._member.server else ())}
        gone = [node for node in told if node not in known]
        if gone and self.is_saver and self.is_live:
            await self._pieces.forget(gone)
        return {node: told[node] for node in told if node in known}

    # ── snapshots and what is read ──────────────────────────────────────────────────────────────

    async def read(self, since: int) -> list[Batch]:
        """Raises `LogAway`, and `LogRefused` when they are not there any more."""
        terms = self._member.terms or (self._member.server.terms if self._member.server else ())
        found = await self._pieces.entries(stream_id(terms, since))
        batches = [Batch(entry.since + 1, entry.seq, entry.body) for entry in found]
        require_joined(since, batches)
        return batches

    async def begin_snapshot(self, seq: int) -> int:
        """A new snapshot; its id. What it is of is noted before anything is waited for."""
        terms = self._member.terms
        made = self._pieces.begin(terms[-1].epoch, seq, last_term(terms, seq).number)
        await trio.lowlevel.checkpoint()
        return made

    async def add_piece(self, snapshot: int, data: bytes) -> None:
        """Raises `LogAway` and `LogFull`."""
        await self._pieces.add(snapshot, data)

    async def finish_snapshot(self, snapshot: int) -> None:
        """It is whole. Raises `LogAway` and `LogFull`."""
        await self._pieces.name(snapshot)

    async def finish_seed(self, snapshot: int) -> None:
        """The snapshot that `SeedWanted` asked for is whole."""
        await trio.lowlevel.checkpoint()
        self.do(self._member.seeded(self._pieces.whole(snapshot), now()))

    def seed_failed(self) -> None:
        """There will be none from this node."""
        self.do(self._member.seed_failed(now()))

    @property
    def is_seeding(self) -> bool:
        """Whether a seed is wanted."""
        return self._member.giving_back.is_seeding

    async def read_piece(self, snapshot: int, number: int) -> bytes:
        """Raises `LogAway` and `LogRefused`."""
        return await self._pieces.read(snapshot, number)

    def _floor(self) -> int:
        return self._kept()[-1].seq if self._kept() else 0

    async def floor(self) -> int:
        """The entries after this one can be read."""
        await trio.lowlevel.checkpoint()
        return self._floor()

    async def backup(self) -> int:
        """There is no such thing."""
        await trio.lowlevel.checkpoint()
        raise LogRefused(
            f"the log is at {self.address}, not in a file: back that server up, or read /store"
        )

    async def has_room(self) -> bool:
        """What it refused, it may take the next time."""
        await trio.lowlevel.checkpoint()
        return True

    async def tidy(self) -> None:
        """There is nothing to do."""
        await trio.lowlevel.checkpoint()

    @property
    def bytes(self) -> int:
        """Of the log behind the newest snapshot."""
        return self._pieces.bytes

    @property
    def is_saver(self) -> bool:
        """Whether it is this node that makes snapshots."""
        return self._pieces.is_ours

    @property
    def needs_snapshot(self) -> bool:
        """Whether there is none to begin with, though there is a log."""
        return self._pieces.are_missing and self._member.state is State.OPEN

    def disk_bytes(self) -> int:
        """Of the stream, in the server's memory."""
        return self._member.server.log_bytes if self._member.server else 0

    async def aclose(self) -> None:
        """Leave the others; takes a second at most."""
        with trio.move_on_after(LEAVE_S, shield=True):
            with contextlib.suppress(LogError):
                await self._pieces.leave(self.node, keep_number=self._member.out.has_repeated)
            await self._pieces.aclose()
        await trio.lowlevel.checkpoint()
