"""A Triode with everyone who ever connected, and the steps that a test can take in it.

Between two steps the flusher does not run: several writes are one pass, and newcomers fall between
publishing and flushing. `settle` lets it run, and then every client that is fed must be up to date.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import quote

import trio
import trio.testing
from hypothesis import note
from hypothesis import strategies as st

from tests.app import naive
from tests.app.registries import registered
from tests.app.watcher import ByteLane, Hall, Held, Inbox, Pending, held_of, untouched
from tests.store.oracle import documents, filters, filters_on, find, keys, operations, weighted
from triode.app.blueprints.events import EventStream
from triode.app.config.settings import Settings
from triode.app.delivery.rest import TOO_COSTLY
from triode.app.delivery.resync import due_at
from triode.app.delivery.subscriber import Client
from triode.app.delivery.whole import told_whole
from triode.app.net.request_head import Head
from triode.app.runtime.clock import Clock
from triode.app.service import stream_start
from triode.app.service.execute import execute
from triode.app.service.session import Session
from triode.app.service.stream_start import admit
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal
from triode.store.change import Position
from triode.store.event import Event
from triode.store.filter import parse_filter
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Increment,
    Merge,
    Operation,
    Patch,
    Push,
    Set,
)
from triode.store.store import Committed
from triode.store.trie import Selection
from triode.store.value import Json, encode, equal

POLICIES = ("drop-newest", "drop-newest", "drop-oldest", "latest", "disconnect")
STARVED_POLICIES = ("latest", "latest", "drop-oldest")
ROOMS = ("r1", "r2")
# Nobody answers pings here.
NO_LIMITS: dict[str, Any] = {"http_rate": None, "ws_rate": None, "idle_s": 1e6}
UPGRADE = [("host", "localhost"), ("upgrade", "websocket"), ("connection", "upgrade")]


class Ticks(Clock):
    """Wall-clock time in which every write has a millisecond of its own."""

    ticks = 0

    def unix_ms(self) -> int:
        self.ticks += 1
        return self.ticks


class Peer:
    """One connection from both ends: the server's record of it, and what its client makes of it."""

    def __init__(self, name: str, kind: str, lane: ByteLane, inbox: Inbox) -> None:
        self.name = name
        self.kind = kind
        self.lane = lane
        self.inbox = inbox
        self.client: Client
        self.session: Session
        # As the server has it. The inbox learns of commands only by their answers.
        self.filters: dict[str, Held] = dict(inbox.held)
        self.rooms: dict[str, Hall] = dict(inbox.halls)
        self.may_be_ended = False

    @property
    def alive(self) -> bool:
        return not self.client.has_ended()

    @property
    def is_heard(self) -> bool:
        """Whether its commands are read: not while it is behind with its answers."""
        return self.alive and not (self.client.outbox and self.client.outbox.is_behind)

    def policies(self, text: str) -> set[str]:
        """Those that a filter has had on this connection."""
        held = self.filters.get(text)
        return set() if held is None else held.policies


class World:
    """The system under test, and what has been done to it."""

    def __init__(self, data: st.DataObject, nursery: trio.Nursery, *, starved: bool) -> None:
        self._data = data
        self._nursery = nursery
        self._starved = starved
        root = self.draw(documents.filter(lambda root: root is not None))  # None: no document
        options = {
            "queue_items": self.one_of(5, 3) if starved else self.one_of(100, 3, 1),
            "queue_bytes": self.one_of(64 * 1024, 64 * 1024, 300),
            "history_items": self.one_of(10_000, 10_000, 4),
            "resume_bytes": self.one_of(4 * 1024 * 1024, 200),
            "heal_wait_max_s": self.one_of(0, 0, 4),
            "match_work": self.one_of(2000, 2000, 4),
            "room_history": self.one_of(100, 2),
        }
        note(f"document {json.dumps(root)}, {options}")
        self.triode = Triode(Settings(**options, **NO_LIMITS), copy.deepcopy(root))
        self.triode.clock = Ticks()
        self.hub = self.triode.hub
        self.epoch = self.triode.store.epoch
        self.versions: list[list[Json]] = [[root]]
        self.seq_at: dict[int, int] = {}
        self.said: dict[tuple[str, int], str] = {}
        # By room what was said in it: the number, which rooms were told, who did not hear itself.
        self.log: dict[str, list[tuple[int, list[str], str | None]]] = {name: [] for name in ROOMS}
        self.living: list[Peer] = []
        self.gone: list[Peer] = []
        self._count = 0
        commit = self.triode.store.commit

        def counting(*args: Any, **options: Any) -> Committed:
            committed = commit(*args, **options)
            self._count_owed(committed)
            return committed

        self.triode.store.commit = counting  # type: ignore[method-assign]

    # ── small things ────────────────────────────────────────────────────────────────────────────

    def draw(self, strategy: st.SearchStrategy[Any]) -> Any:
        return self._data.draw(strategy)

    def one_of(self, *choices: Any) -> Any:
        """One of these; the first is the simplest."""
        return choices[self.draw(st.integers(0, len(choices) - 1))]

    def number(self) -> int:
        """A new one each time."""
        self._count += 1
        return self._count

    @property
    def root(self) -> Json:
        return self.versions[-1][-1]

    @property
    def seq(self) -> int:
        return len(self.versions) - 1

    def position(self, seq: int) -> str:
        return str(Position(self.epoch, seq))

    def nonsense(self) -> str:
        """A position that nobody can resume from."""
        future = self.position(self.seq + 5)
        text: str = self.one_of(future, "zzzzzz:1", "garbage", f"{self.epoch}:")
        return text

    def filter(self) -> str:
        text = self.draw(weighted((2, filters_on(self.root)), (1, filters)))
        return parse_filter(text).text

    def _count_owed(self, committed: Committed) -> None:
        """What each client is owed: the matches of the index."""
        seq = committed.change.position.seq
        self.seq_at[committed.change.time_ms] = seq
        whole = told_whole(committed.matched)
        counted: set[Selection] = set()
        for selection, events in committed.matched:
            if selection in counted:
                continue
            if selection in whole:
                counted.add(selection)
            found = [Event("snapshot", (), [])] if selection in whole else events
            for peer in self.living:
                held = peer.filters.get(selection.filter.text) if peer.alive else None
                if held is not None:
                    held.owed[seq] += len(found)

    # ── the steps ───────────────────────────────────────────────────────────────────────────────

    async def settle(self) -> None:
        """Let the flusher and the writers do what they can; whoever is fed must be up to date."""
        note("settle")
        await trio.testing.wait_all_tasks_blocked()
        for peer in list(self.living):
            peer.inbox.read()
            if not peer.alive:
                assert peer.client.end is end_reasons.SLOW
                assert peer.may_be_ended
                self._forget(peer)
            elif peer.lane.appetite is None and _is_calm(peer.client):
                peer.inbox.check_calm()

    async def connect(self) -> None:
        """Somebody new: from now on, or from a position whose state it has from elsewhere."""
        texts = list(dict.fromkeys(self.filter() for _ in range(self.one_of(1, 2, 3))))
        inbox = self._inbox(self.one_of("sse", "ws"), texts)
        how = self.one_of("fresh", "fresh", "no snapshot", "past", "nonsense")
        since = None
        if how == "past":
            inbox.last = inbox.highest = self.draw(st.integers(0, self.seq))
            since = self.position(inbox.last)
            for held in inbox.held.values():
                held.assume(inbox.result_of(inbox.last))
        elif how == "nonsense":
            since = self.nonsense()
        for name in ROOMS:
            if self.one_of(False, False, True):
                inbox.halls[name] = Hall()
        await self._open(inbox, since, snapshot="none" if how == "no snapshot" else "full")

    async def resume(self) -> None:
        """Somebody comes back with the last position it saw and the views it had."""
        if not self.gone:
            return
        old = self.gone.pop(self.draw(st.integers(0, len(self.gone) - 1))).inbox
        # A filter whose first snapshot has not come is not resumed but asked for anew.
        known = [text for text, held in old.held.items() if held.view is not None]
        if old.last is None or not known:
            return
        inbox = self._inbox(old.kind, known)
        for text in known:
            inbox.held[text].view = copy.deepcopy(old.held[text].view)
        inbox.last = inbox.highest = old.last
        inbox.redo_until = old.redo_until
        await self._open(inbox, self.position(old.last))

    async def tune(self) -> None:
        """Somebody hears a room and nothing else; perhaps from where another was cut off."""
        inbox = self._inbox(self.one_of("sse", "sse", "ws"), [])
        name, since = self.one_of(*ROOMS), None
        old = self.one_of(None, *self.gone)
        hall = None if old is None else old.inbox.halls.get(name)
        if hall is not None and hall.last is not None:
            since = hall.last
            inbox.halls[name] = self._returned({name: since}, None)[name]
            _check_return(hall, inbox.halls[name])
        else:
            inbox.halls[name] = Hall()
        await self._open(inbox, since)

    async def rejoin(self) -> None:
        """Somebody who was cut off comes back to its rooms by command."""
        peer, old = self._somebody("ws"), self.one_of(None, *self.gone)
        knows = self.one_of(False, True)
        if peer is None or old is None:
            return
        halls = {n: h for n, h in old.inbox.halls.items() if h.last and n not in peer.rooms}
        if not halls:
            return
        sinces = {name: str(hall.last) for name, hall in halls.items()}
        was = old.client.id if knows else None
        entered = self._returned(sinces, was)
        for name in halls if len(halls) == len(old.inbox.halls) else ():
            _check_return(halls[name], entered[name])
        peer.rooms |= entered
        command = {"type": "join", "room": list(halls), "since": sinces}
        command |= {} if was is None else {"was": was}
        await self._command(peer, command, Pending(enter=entered))

    def _returned(self, sinces: dict[str, str], was: str | None) -> dict[str, Hall]:
        """The halls of one who resumes in rooms, with all that it is owed by that."""
        covered: dict[str, int] = {}
        for name, since in sinces.items():
            room = self.hub.rooms._known(name)
            if room is not None:
                epoch, seq = since.rsplit(":", 1)
                behind = room.seq - int(seq)
                if epoch == self.hub.rooms.position(room).epoch:
                    covered[name] = behind
        history = self.triode.settings.room_history
        covered = {name: behind for name, behind in covered.items() if behind <= history}
        halls = {name: Hall(resumes=name in covered) for name in sinces}
        for name, behind in covered.items():
            for number, told, omitted in self.log[name][len(self.log[name]) - behind :]:
                first = next(room for room in told if room in covered)
                if first == name and (was is None or omitted != was):
                    halls[name].owed.append(number)
        return halls

    async def wait(self) -> None:
        """Time passes: heartbeats, and heals that were put off."""
        await self._jump(self.one_of(1, 2, 8))

    async def _jump(self, seconds: int) -> None:
        note(f"{seconds} s later")
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        for _ in range(seconds):
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(1)
        await self.settle()

    async def leave(self) -> None:
        """Somebody's connection breaks, wherever its bytes have come to."""
        peer = self._somebody()
        if peer is not None:
            note(f"{peer.name} leaves")
            peer.inbox.read()
            self.hub.end(peer.client, end_reasons.CLIENT_CLOSED, "silently")
            self._forget(peer)

    async def ration(self) -> None:
        """Somebody takes only so many bytes more."""
        peer = self._somebody()
        if peer is not None:
            peer.lane.feed(self.draw(st.integers(0, 300)))
            note(f"{peer.name} takes {peer.lane.appetite} bytes more")

    async def feed(self) -> None:
        """Somebody takes all again."""
        peer = self._somebody()
        if peer is not None:
            peer.lane.feed(None)
            note(f"{peer.name} takes all")

    async def subscribe(self) -> None:
        """By command, on a living WebSocket; also what it has already."""
        peer = self._somebody("ws")
        if peer is None:
            return
        text = self.filter()
        if peer.filters and self.one_of(False, False, True):
            text = self.one_of(*peer.filters)
        held = held_of(text)
        held.floor = self.seq
        held.countable = text not in peer.filters
        command: dict[str, Any] = {"type": "subscribe", "filter": text}
        command["policy"] = self._policy(peer)
        held.policies |= {command["policy"]} | peer.policies(text)
        pending = Pending(begin=held)
        how = self.one_of("full", "none", "past", "nonsense")
        if how == "none":
            command["snapshot"] = "none"
        elif how == "past":
            pending.assumed = self.draw(st.integers(0, self.seq))
            command["since"] = self.position(pending.assumed)
        elif how == "nonsense":
            command["since"] = self.nonsense()
        peer.filters[text] = held
        await self._command(peer, command, pending)

    async def unsubscribe(self) -> None:
        """By command; sometimes from what it has not."""
        peer = self._somebody("ws")
        if peer is None:
            return
        text = self.one_of(*peer.filters, ".nowhere")
        known = peer.filters.pop(text, None) is not None
        pending = Pending(end=text) if known else Pending(fails=True)
        await self._command(peer, {"type": "unsubscribe", "filter": text}, pending)

    async def get(self) -> None:
        """A read by command."""
        peer = self._somebody("ws")
        if peer is not None:
            text = self.filter()
            await self._command(
                peer, {"type": "get", "filter": text}, Pending(items=parse_filter(text))
            )

    async def move(self) -> None:
        """Into a room, or out of it."""
        peer = self._somebody("ws")
        if peer is None:
            return
        name = self.one_of(*ROOMS)
        pending = Pending()
        if name in peer.rooms:
            del peer.rooms[name]
            pending.leave = name
            await self._command(peer, {"type": "leave", "room": name}, pending)
        else:
            peer.rooms[name] = Hall()
            pending.enter = {name: peer.rooms[name]}
            await self._command(peer, {"type": "join", "room": name}, pending)

    async def publish(self) -> None:
        """To one room or both, by the embedding program or by a client."""
        rooms = list(self.one_of(("r1",), ("r2",), ("r1", "r2"), ("r2", "r1")))
        sender = self.one_of(None, *self._sockets())
        echo, number, reached = self.one_of(False, True), self.number(), 0
        known = {n: room for n in rooms if (room := self.hub.rooms._known(n)) is not None}
        omitted = None if sender is None or echo else sender.client.id
        for name, room in known.items():
            self.log[name].append((number, list(known), omitted))
            self.said[name, number] = str(self.hub.rooms.position(room, room.seq + 1))
        for peer in self.living:
            if peer.alive and (peer is not sender or echo):
                halls = [peer.rooms[name] for name in rooms if name in peer.rooms]
                for hall in halls[:1]:
                    hall.owed.append(number)
                reached += len(halls[:1])
        if sender is None:
            note(f"publish {number} in {rooms}")
            assert self.triode.publish(rooms=rooms, data=number).reached == reached
            return
        command = {"type": "publish", "room": rooms, "data": number, "echo": echo}
        await self._command(sender, command, Pending(reached=reached))

    async def write(self) -> None:
        """Any write, by the embedding program or by a client. A refused one leaves no trace."""
        op = self.draw(operations(self.root))
        parts = [self._said(part) for part in (op.ops if isinstance(op, Batch) else (op,))]
        command, units = parts[0], parts
        if isinstance(op, Batch):
            command = {"type": "batch", "ops": parts, "atomic": self.one_of(False, True)}
            units = [command] if command["atomic"] else parts
        elif self.one_of(False, False, False, True):
            command["if"] = self.one_of(
                self.position(self.draw(st.integers(0, self.seq))), "zzzzzz:1"
            )
        done = self._by_hand(units)
        refusable = command in units
        accepted = await self._write(command, fails=refusable and not done)
        if "if" in command:
            self._check_condition(command, would=bool(done), accepted=accepted)
        elif refusable:
            assert accepted == bool(done)
        self.versions += done if accepted else []
        assert self.triode.store.seq == len(self.seq_at) == self.seq
        assert equal(self.triode.store.document.root, self.root), (
            f"{self.triode.store.document.root} should be {self.root}"
        )

    # ── writing ─────────────────────────────────────────────────────────────────────────────────

    def _said(self, op: Operation) -> dict[str, Any]:
        """An operation as a command, its path said in one of several ways; some lead nowhere."""
        path: list[Any] = list(op.path)
        how = self.one_of("plain", "plain", "negative", "pointer", "nowhere")
        if how == "nowhere":
            path += [self.draw(keys), self.draw(keys)]
        elif how == "negative":
            for depth, step in enumerate(op.path):
                array = find(self.root, op.path[:depth])
                if isinstance(step, int) and isinstance(array, list) and step < len(array):
                    path[depth] = step - len(array)
        elif how == "pointer":
            path = [str(step) for step in path]
        text = "".join(f"[{json.dumps(step)}]" for step in path) or "."
        if how == "pointer" and path:
            text = "/" + "/".join(path)
        command: dict[str, Any] = {"type": type(op).__name__.lower(), "path": text}
        match op:
            case Set():
                command |= {"value": op.value, "create": op.create}
            case Append() | Push():
                command |= {"value": op.value}
            case Merge() | Patch():
                command |= {"patch": op.patch}
            case Increment():
                command |= {"by": op.by}
            case _:
                assert isinstance(op, Delete)
        return command | {"steps": tuple(path)}

    def _by_hand(self, units: list[dict[str, Any]]) -> list[list[Json]]:
        """The versions that each accepted write makes, one write after the other."""
        done: list[list[Json]] = []
        for unit in units:
            root = done[-1][-1] if done else self.root
            names = naive.pushed_names(self.seq + len(done) + 1, self.epoch)
            for part in unit.get("ops", [unit]):
                if part["type"] == "push":
                    part["name"] = next(names)
            try:
                done.append(naive.versions(root, unit))
            except naive.Refused:
                pass
        return done

    async def _write(self, command: dict[str, Any], *, fails: bool) -> bool:
        """Whether it was accepted."""
        sent = _on_the_wire(command)
        writer = self.one_of(None, None, *self._sockets())
        before = self.triode.store.seq
        if writer is not None:
            await self._command(writer, sent, Pending(fails=None if "if" in sent else fails))
            return self.triode.store.seq > before
        note(f"write {json.dumps(sent)}")
        try:
            await execute(self.triode, copy.deepcopy(sent))
        except Refusal:
            return False
        return sent["type"] != "batch" or self.triode.store.seq > before

    def _check_condition(self, command: dict[str, Any], *, would: bool, accepted: bool) -> None:
        epoch, _, number = command["if"].partition(":")
        if epoch != self.epoch:
            assert not accepted, "a foreign position was believed"
        elif accepted:
            was = self.versions[int(number)][-1]
            assert untouched(was, self.root, _actual(self.root, command["steps"])), "it has changed"
        else:
            assert not would or int(number) < self.seq, "nothing has been written since"

    # ── clients ─────────────────────────────────────────────────────────────────────────────────

    def _somebody(self, kind: str | None = None) -> Peer | None:
        living = [p for p in self.living if p.alive and kind in (None, p.kind)]
        if kind == "ws":
            living = [p for p in living if p.is_heard]
        peer: Peer | None = self.one_of(*living) if living else None
        return peer

    def _sockets(self) -> list[Peer]:
        return [peer for peer in self.living if peer.kind == "ws" and peer.is_heard]

    def _policy(self, peer: Peer) -> str:
        policy: str = self.one_of(*(STARVED_POLICIES if self._starved else POLICIES))
        peer.may_be_ended |= policy == "disconnect"
        return policy

    def _inbox(self, kind: str, texts: list[str]) -> Inbox:
        appetite = self.one_of(150, 0) if self._starved else self.one_of(None, None, None, 0, 150)
        deflate_from = self.one_of(0, 30) if kind == "ws" else 0
        chunked = kind == "sse" and self.one_of(True, False)
        inbox = Inbox(self, kind, ByteLane(appetite, deflate_from, chunked=chunked))
        for text in texts:
            inbox.held[text] = held_of(text)
            inbox.held[text].floor = self.seq
        return inbox

    async def _open(self, inbox: Inbox, since: str | None, *, snapshot: str = "full") -> None:
        lane = inbox.reader.lane
        peer = Peer(f"c{self.number()}", inbox.kind, lane, inbox)
        query = [("filter", text) for text in inbox.held] + [("room", name) for name in inbox.halls]
        policy = self._policy(peer)
        query += [("snapshot", snapshot), ("policy", policy)]
        for held in inbox.held.values():
            held.policies.add(policy)
        fields = list(UPGRADE) if inbox.kind == "ws" else UPGRADE[:1]
        if since is not None and self.one_of(True, False):
            query.append(("since", since))
        elif since is not None:
            fields.append(("last-event-id", since))
        waits = self.one_of(False, False, True)
        note(f"{peer.name} connects, {inbox.kind}, {query} {fields[3:]} {lane.appetite} {waits}")
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query)
        path = "/ws" if inbox.kind == "ws" else "/events"
        head = Head("GET", f"{path}?{text}", path, text, fields, "1.1", "127.0.0.1", False)
        if waits:
            lane.send_now = None
        request, principal, _ = await admit(self.triode, head, socket=inbox.kind == "ws")
        kind: Any = inbox.kind
        peer.client = stream_start.open_stream(self.triode, kind, lane, head, request, principal)
        peer.session = Session(self.triode, peer.client)
        self.living.append(peer)
        if waits:
            self._nursery.start_soon(_pump, self.triode, peer)

    async def _command(self, peer: Peer, command: dict[str, Any], pending: Pending) -> None:
        ref = self.number()
        note(f"{peer.name} says {json.dumps(command)}")
        peer.inbox.pending[ref] = pending
        await peer.session.receive(encode(command | {"ref": ref}))

    def _forget(self, peer: Peer) -> None:
        peer.lane.lose()
        if peer.inbox.ahead:
            peer.inbox.redo_until = self.seq
        self.living.remove(peer)
        self.gone.append(peer)

    async def end(self) -> None:
        """All take all; then all go, and nothing is left of them."""
        for peer in self.living:
            peer.lane.feed(None)
        await self.settle()
        await self._jump(10)
        for peer in self.living:
            if self.one_of(False, True):
                self.hub.end(peer.client, end_reasons.RESTART)
            else:
                self.hub.end(peer.client, end_reasons.CLIENT_CLOSED, "silently")
        await trio.testing.wait_all_tasks_blocked()
        for peer in self.living:
            peer.inbox.read()
            peer.lane.lose()
        self.living.clear()
        self.gone.clear()
        triode = self.triode
        assert not any(registered(self.hub).values()), registered(self.hub)
        assert len(triode.store.index) == 0
        assert triode.store.index._root.is_empty
        assert self.hub.rooms == {}
        assert not any(triode.gate.admission.statistics().values())
        assert triode.store.document._pins == 0, "a snapshot that nobody reads holds the document"

    STEPS: tuple[tuple[int, Callable[[World], Any]], ...] = (
        (8, write),
        (5, settle),
        (3, connect),
        (2, resume),
        (2, leave),
        (2, ration),
        (1, feed),
        (2, subscribe),
        (1, unsubscribe),
        (1, get),
        (1, move),
        (2, publish),
        (2, tune),
        (2, rejoin),
        (1, wait),
    )
    # Few connections that take little, and much for them.
    STARVED_STEPS: tuple[tuple[int, Callable[[World], Any]], ...] = (
        (20, write),
        (4, publish),
        (4, settle),
        (1, connect),
        (1, resume),
        (1, leave),
        (1, ration),
        (1, feed),
        (1, subscribe),
        (1, unsubscribe),
        (1, move),
        (2, tune),
        (2, rejoin),
        (2, wait),
    )


async def _pump(triode: Triode, peer: Peer) -> None:
    """What writes where a lane cannot be written to directly, as over ASGI."""
    async with EventStream(triode.hub, peer.client) as body:
        pieces = cast("AsyncGenerator[bytes]", body)
        async with aclosing(pieces):
            try:
                async for data in pieces:
                    await peer.lane.send_all(data)
            except trio.BrokenResourceError:
                pass


def _is_calm(client: Client) -> bool:
    """Whether nothing that it has lost waits for its time."""
    gaps = client.losses.gaps.values() if client.losses else ()
    rests = any(gap.reason == TOO_COSTLY for gap in gaps)
    return not rests and due_at(client) <= trio.current_time()


def _check_return(old: Hall, new: Hall) -> None:
    """What one connection was owed comes on it, is announced as missed, or comes on the next."""
    if new.resumes:
        lost = [n for n in old.owed if n not in old.got and n not in new.owed]
        assert len(lost) <= old.missed, f"lost {lost}: {old}, then {new}"


# What `naive` has to know of a command, and the server has not.
HIDDEN = frozenset({"steps", "name"})


def _on_the_wire(command: dict[str, Any]) -> dict[str, Any]:
    sent = {name: value for name, value in command.items() if name not in HIDDEN}
    if "ops" in sent:
        sent["ops"] = [_on_the_wire(part) for part in sent["ops"]]
    return sent


def _actual(root: Json, steps: tuple[Any, ...]) -> tuple[Any, ...]:
    """The place that negative indexes and pointer tokens mean."""
    path: tuple[Any, ...] = ()
    for step in steps:
        holder = find(root, path)
        if isinstance(holder, list):
            step = int(step) + (len(holder) if int(step) < 0 else 0)
        path = (*path, step)
    return path
