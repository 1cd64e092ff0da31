"""A node of a model cluster: a `Member`, what it has applied, and its connections.

It does for `Member` what the real engine does, one small thing at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.log.model_valkey import Data, Refused
from triode.app.log.shared.calls import (
    Apply,
    Attached,
    Call,
    Full,
    Kept,
    Live,
    Read,
    Reconnect,
    Reload,
    Seed,
    Unknown,
)
from triode.app.log.shared.member import Member
from triode.app.log.shared.patience import LEASE_S
from triode.app.log.shared.recent import LogEntry
from triode.app.log.shared.state import State
from triode.app.log.shared.terms import format_terms, last_term

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.log.model_valkey import Server
    from tests.log.world import World
    from triode.app.log.shared.calls import Action


# Of small steps, in no time at all.
ROUNDS: Final = 3000


class Document(NamedTuple):
    """What was applied, in order, and as one number."""

    content: int
    applied: dict[str, int]


class Pinned(NamedTuple):
    """A snapshot that is being made."""

    epoch: str
    kept: Kept
    document: Document


class Link:
    """Two connections to one server: commands and their replies, and entries that are read."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.up: deque[Call] = deque()
        self.down: deque[tuple[Call, object, Data]] = deque()
        self.after: str | None = None
        self.entries: deque[LogEntry] = deque()


class Node:
    """`content` and `applied` are the document."""

    member_type = Member

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.member = self.member_type(name, world.name, world.now)
        self.link: Link | None = None
        # What it has been started with: that of one node is what a new log begins with.
        self.content = hash(name)
        # Of the last entry that it applied itself.
        self.epoch = ""
        # Each batch that was applied, and its last number.
        self.applied: dict[str, int] = {}
        self.reload: Reload | None = None
        self.is_seeding = False
        self.pinned: Pinned | None = None
        # The first snapshot of a new log, since it connected.
        self.offered = False
        self.batch = ""
        # Takes the stale primary for the one.
        self.is_aside = False
        self.is_frozen = False
        self._frozen_at = 0.0
        # What the server was when it gave the last reply.
        self._told_by = Data()
        # Attached, of those calls that were made before it froze: they say nothing.
        self._old_asks = -1
        self._batches = 0
        self._is_sent = False

    def __repr__(self) -> str:
        return f"<Node {self.member!r}>"

    def bid_at(self) -> tuple[int, int]:
        """Its term and number."""
        return last_term(self.member.terms, self.member.seq).number, self.member.seq

    # ── connections ─────────────────────────────────────────────────────────────────────────────

    def connect(self, link: Link) -> None:
        """Both connections are there."""
        self.link = link
        self._old_asks = -1
        self.do(self.member.connected(self.world.now))

    def cut(self) -> None:
        """They are not."""
        self._unlink()
        self.do(self.member.lost(self.world.now))

    def _unlink(self) -> None:
        self.link = None
        self.is_seeding = self.offered = False
        self._old_asks = -1

    def freeze(self) -> None:
        """It does not run."""
        self.is_frozen, self._frozen_at = True, self.world.now

    def thaw(self) -> None:
        """It runs again."""
        if self.is_frozen and self.world.now - self._frozen_at >= LEASE_S and self.link:
            self.world.count("long freezes")
            up = sum(call.script == "attach" for call in self.link.up)
            down = sum(call.script == "attach" for call, _, _ in self.link.down)
            self._old_asks = up + down
        self.is_frozen = False

    # ── steps ───────────────────────────────────────────────────────────────────────────────────

    def serve(self) -> bool:
        """The next command reaches the server. Each of these is False if there was none."""
        link = self.link
        if link is None or not link.up:
            return False
        call = link.up.popleft()
        reply = self.world.execute(link.server, call)
        link.down.append((call, reply, link.server.data))
        return True

    def deliver(self) -> bool:
        """The next reply reaches the node."""
        link, now, member = self.link, self.world.now, self.member
        if link is None or not link.down or self.is_frozen:
            return False
        call, reply, self._told_by = link.down.popleft()
        if isinstance(reply, Refused):
            if str(reply) == "OOM":
                self.do(member.refused(now))
            else:
                self.cut()
        elif isinstance(reply, Attached):
            if self._old_asks >= 0:
                self._old_asks -= 1
            self.do(member.attached(reply, now))
        elif call.script == "salvage":
            assert isinstance(reply, list)
            self.do(member.salvaged(reply[0], now))
        else:
            assert isinstance(reply, list)
            self.do(member.appended(reply[0], reply[1], reply[2], now))
        return True

    def read(self, count: int = 3) -> bool:
        """The server sends entries."""
        link = self.link
        if link is None or link.after is None:
            return False
        entries = link.server.read(link.after, count)
        if entries:
            link.after = f"{entries[-1].term}-{entries[-1].seq}"
            link.entries.extend(entries)
        return bool(entries)

    def tail(self, count: int = 3) -> bool:
        """They reach the node."""
        link = self.link
        if link is None or not link.entries or self.is_frozen:
            return False
        some = [link.entries.popleft() for _ in range(min(count, len(link.entries)))]
        self.do(self.member.tailed(some, self.world.now))
        return True

    def tick(self) -> bool:
        """It is time."""
        if self.is_frozen or self.world.now < self.member.next_at:
            return False
        self.do(self.member.tick(self.world.now))
        return True

    def write(self) -> bool:
        """The next batch."""
        if self.is_frozen or not self.member.can_append:
            return False
        self._batches += 1
        self.batch = f"{self.name}:{self._batches}"
        self._is_sent = False
        ops = self.world.random.randint(1, 3)
        self.do(self.member.append(self.batch.encode(), ops, self.world.now))
        return True

    def finish_reload(self) -> bool:
        """The pieces of one of the snapshots were read, or are not there."""
        reload, link = self.reload, self.link
        if reload is None or self.is_frozen:
            return False
        self.reload = None
        for kept in reload.snapshots if link else ():
            assert link is not None
            document = link.server.data.pieces.get(kept.id)
            if isinstance(document, Document):
                self.content, self.applied = document.content, dict(document.applied)
                self.do(self.member.reloaded(kept, self.world.now))
                return True
        self.do(self.member.reload_failed(self.world.now))
        return True

    def _pin(self) -> Pinned:
        member = self.member
        term = last_term(member.terms, member.seq).number
        kept = Kept(self.world.name(), member.seq, term, 1)
        document = Document(self.content, dict(self.applied))
        return Pinned(member.terms[-1].epoch, kept, document)

    def finish_seed(self, *, fails: bool = False) -> bool:
        """The snapshot that was asked for is there, or will not be."""
        if not self.is_seeding or self.is_frozen:
            return False
        self.is_seeding = False
        assert self.link is not None
        if fails or not self.member.is_based:
            self.do(self.member.seed_failed(self.world.now))
            return True
        pinned = self._pin()
        try:
            self.link.server.put_piece(pinned.kept.id, pinned.document)
        except Refused:
            self.cut()
            return True
        self.do(self.member.seeded(pinned.kept, self.world.now))
        return True

    def begin_new(self) -> bool:
        """The log is a new one: name what this node has as what it begins with."""
        member = self.member
        if member.state is not State.OPEN or member.is_based or self.is_frozen:
            return False
        if member.server is None or member.server.snapshots or self.pinned or self.offered:
            return False
        self.offered = True
        self.pinned = self._pin()
        return True

    def pin(self) -> bool:
        """Begin a snapshot."""
        if self.is_frozen or self.member.state is not State.OPEN or not self.member.is_based:
            return False
        self.pinned = self._pin()
        return True

    def name_snapshot(self) -> bool:
        """Its pieces are there: name it. Both may fail, and then it is no more."""
        pinned, link = self.pinned, self.link
        if pinned is None or link is None or self.is_frozen:
            return False
        self.pinned = None
        key = pinned.kept.id
        try:
            link.server.put_piece(key, pinned.document)
            args = (pinned.epoch, str(pinned.kept))
            link.server.run("snapshot", args, self.world.clock_ms, (key,))
        except Refused:
            self.cut()
        return True

    def exhaust(self) -> None:
        """All that can be done without time passing."""
        rounds = 0
        while not self.is_frozen and (
            self.tick() or self.serve() or self.deliver() or self.read() or self.tail()
            or self.finish_reload() or self.finish_seed() or self._offer()
        ):  # fmt: skip
            rounds += 1
            self.world.require(rounds < ROUNDS, "goes round in circles")

    def _offer(self) -> bool:
        return self.begin_new() and self.name_snapshot()

    def is_settled(self) -> bool:
        """It has all that the primary has, and nothing is under way."""
        member, primary = self.member, self.world.primary
        return (
            member.state is State.OPEN
            and member.is_based
            and self.link is not None
            and self.link.server is primary
            and format_terms(member.terms) == primary.data.meta.get("lineage")
            and member.seq == int(primary.data.meta["seq"])
            and not self.batch
            and not self.link.up
        )

    # ── what the member wants ───────────────────────────────────────────────────────────────────

    def do(self, actions: Sequence[Action]) -> None:
        """Carry them out."""
        for action in actions:
            match action:
                case Call():
                    if self.link is not None:
                        self.link.up.append(action)
                        self._check_call(action)
                case Read(after):
                    assert self.link is not None
                    self.link.after = after
                    self.link.entries.clear()
                    if self.member.is_based:
                        self.world.show(self.member.terms[-1].epoch, self.member.seq, self.content)
                case Apply(entry, is_own):
                    self._apply(entry, is_own)
                case Reload():
                    self._begin_reload(action)
                case Seed():
                    self.is_seeding = True
                case Unknown():
                    self.world.require(self._is_sent, "unknown, and never sent")
                    self.batch = ""
                    self.world.count("unknown")
                case Full():
                    self.world.refused.add(self.batch)
                    self.batch = ""
                case Reconnect():
                    self._unlink()
                case Live():
                    pass

    def _check_call(self, call: Call) -> None:
        if call.script == "append":
            self.world.require(self._old_asks < 0, "appended before it attached again")
            self._is_sent = True

    def _apply(self, entry: LogEntry, is_own: bool) -> None:
        world = self.world
        world.require(self._old_asks < 0, "applied before it attached again")
        world.require(entry.nonce not in self.applied, "applied twice")
        world.require(self.reload is None, "applied without a document")
        self.content = hash((self.content, entry.nonce, entry.seq))
        self.applied[entry.nonce] = entry.seq
        self.epoch = entry.epoch
        world.show(entry.epoch, entry.seq, self.content)
        world.show(self.member.terms[-1].epoch, entry.seq, self.content)
        world.holders.setdefault(entry.nonce, set()).add(self.name)
        world.count("applied")
        if is_own:
            world.require(entry.nonce == self.batch, "not the batch that waits")
            world.acknowledged[self.batch] = entry.seq
            self.batch = ""

    def _begin_reload(self, action: Reload) -> None:
        world = self.world
        world.count(f"reload: {action.reason}")
        if action.reason == "rewound":
            world.check_rewound(self, action, self._told_by)
            gone = {name for name, seq in self.applied.items() if seq > action.common}
            world.require({entry.nonce for entry in action.lost} <= gone, "lost, and not applied")
            world.announced |= gone
        self.reload = action
        self.content, self.applied, self.epoch = hash(self.name), {}, ""
