"""A client for the proof of exactness: it reads bytes, assembles views, and trusts nobody.

It knows the wire (docs/wire.md) and the record of what the document was after every change.
So it
can hold each frame that carries a position against the promise that a position makes: all up to
here has arrived, and what was assembled is what the filter selects.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from tests.app.lanes import FakeLane, inflated
from tests.store.oracle import View, find, same_places, selected
from triode.app.wire.frame import CLOSE
from triode.store.change import parse_position
from triode.store.filter import Filter, parse_filter
from triode.store.path import Path, parse_path
from triode.store.value import MISSING, Json, decode, equal


class Record(Protocol):
    """What has been, as the test knows it."""

    epoch: str
    # By sequence number the document after each step of that change; the last is the result.
    versions: list[list[Json]]
    # The sequence number of the change that happened then: in this world no two have one time.
    seq_at: dict[int, int]
    # By room and number the position of each message that the room has counted.
    said: dict[tuple[str, int], str]


class ByteLane(FakeLane):
    """Takes exactly as many bytes as it was allowed, also when waited for."""

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while data:
            if self.lost:
                raise trio.BrokenResourceError
            if self.appetite == 0:
                await self._hungry.wait()
                continue
            size = len(data) if self.appetite is None else min(self.appetite, len(data))
            self.taken += data[:size]
            if self.appetite is not None:
                self.appetite -= size
            data = data[size:]

    def abort(self) -> None:
        super().abort()
        self.lose()

    def lose(self) -> None:
        """The connection is gone."""
        self.lost = True
        self._hungry.set()


def unchunked(data: bytes | bytearray) -> tuple[bytes, bool]:
    """What chunks hold, also one of which a part is there; and whether a chunk is open."""
    body, at = bytearray(), 0
    while at < len(data):
        line = data.find(b"\r\n", at)
        if line < 0:
            return bytes(body), True
        size = int(data[at:line], 16)
        at = line + 2
        body += data[at : at + size]
        at += size + 2
        if at > len(data):
            return bytes(body), True
        assert data[at - 2 : at] == b"\r\n"
    return bytes(body), False


class Reader:
    """Cuts events out of a lane's bytes. A part of one at the end waits for the rest."""

    def __init__(self, kind: str, lane: ByteLane) -> None:
        self.kind = kind
        self.lane = lane
        self._at = 0
        self._fragments = b""

    @property
    def between_frames(self) -> bool:
        """Nothing is cut off."""
        body, is_open = self._body()
        rest = body[self._at :]
        filling = (rest.startswith(b":") and rest.endswith(b"\n")) or rest == b"\n"
        return not is_open and (not rest or filling) and not self._fragments

    def _body(self) -> tuple[bytes | bytearray, bool]:
        taken = self.lane.taken
        return (taken, False) if self.lane.chunks is None else unchunked(taken)

    def read(self) -> list[dict[str, Any]]:
        """The events that have become whole, `type` and `id` as members."""
        return self._sse() if self.kind == "sse" else self._ws()

    def _sse(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        body, _ = self._body()
        while (end := body.find(b"\n\n", self._at)) >= 0:
            block = body[self._at : end].decode()
            self._at = end + 2
            lines = [line for line in block.split("\n") if not line.startswith(":")]
            fields = [line.partition(": ")[::2] for line in lines]
            values = {name: value for name, value in fields if name}
            assert len(values) == len(fields)
            assert values.keys() <= {"event", "id", "data", "retry"}
            if "data" in values:
                found.append(self._event(values))
        return found

    def _event(self, values: dict[str, str]) -> dict[str, Any]:
        body = decode(values["data"])
        assert isinstance(body, dict)
        assert not body.keys() & {"type", "id"} or values["event"] in ("ok", "error")
        head = {"type": values["event"]} | ({"id": values["id"]} if "id" in values else {})
        return head | body

    def _ws(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while (frame := self._ws_frame()) is not None:
            first, payload = frame
            if first & 0x40:
                assert self.lane.deflate_from, "compressed without being asked"
                first, payload = first & ~0x40, inflated(payload)
            if first == CLOSE:
                found.append({"type": "closing", "code": int.from_bytes(payload[:2], "big")})
            elif first & 0x0F in (0, 1):
                assert (first & 0x0F == 0) == bool(self._fragments), "a fragment out of place"
                self._fragments += payload
                if first & 0x80:
                    body, self._fragments = decode(self._fragments), b""
                    assert isinstance(body, dict)
                    found.append(body)
        return found

    def _ws_frame(self) -> tuple[int, bytes] | None:
        data, at = self.lane.taken, self._at
        if len(data) < at + 2:
            return None
        first, size = data[at], data[at + 1]
        at += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(data) < at + width:
                return None
            size = int.from_bytes(data[at : at + width], "big")
            at += width
        if len(data) < at + size:
            return None
        self._at = at + size
        return first, bytes(data[at : at + size])


@dataclass
class Held:
    """One filter of one connection, from its `ok` (or `connected`) on."""

    filter: Filter
    view: View | None = None  # None: the snapshot has not come
    floor: int = 0  # changes up to here come as a replay, if at all
    owed: Counter[int] = field(default_factory=Counter)  # events by change, as they were matched
    got: Counter[int] = field(default_factory=Counter)
    missed: int = 0
    countable: bool = True  # no snapshot has stood for events
    gapped: bool = False
    policies: set[str] = field(default_factory=set)  # that it has ever had
    parts: list[tuple[Path, Json]] = field(default_factory=list)  # of an unfinished snapshot

    def assume(self, root: Json) -> None:
        """Begin with what is known from elsewhere."""
        self.view = View(selected(self.filter, root).items())

    def agrees(self, root: Json) -> bool:
        return self.view is None or same_places(self.view.places, selected(self.filter, root))

    def check_count(self) -> None:
        if self.countable:
            assert sum(self.got.values()) + self.missed == sum(self.owed.values()), (
                f"{self.filter}: got {self.got} and heard of {self.missed} missed, owed {self.owed}"
            )


@dataclass
class Hall:
    """One room of one connection."""

    owed: list[int] = field(default_factory=list)
    got: list[int] = field(default_factory=list)
    missed: int = 0
    last: str | None = None  # the position that a return would resume from
    resumes: bool | None = None  # whether it must be able to; None: it does not ask to


@dataclass
class Pending:
    """A command without its answer: what its `ok` changes. `fails`: it must be an `error`."""

    begin: Held | None = None
    assumed: int | None = None
    end: str | None = None
    enter: dict[str, Hall] = field(default_factory=dict)
    leave: str | None = None
    items: Filter | None = None
    reached: int | None = None
    fails: bool | None = False


class Inbox:
    """What one connection has been sent, and the views that come of it."""

    def __init__(self, record: Record, kind: str, lane: ByteLane) -> None:
        self.record = record
        self.kind = kind
        self.reader = Reader(kind, lane)
        self.held: dict[str, Held] = {}
        self.halls: dict[str, Hall] = {}
        self.pending: dict[int, Pending] = {}
        self.last: int | None = None  # the position that a reconnect would resume from
        self.highest = 0  # among all ids of the document, answers included
        self.ahead = False  # events without an id have been taken since `last`
        self.redo_until = 0  # so far the events of a resumed stream may be known already
        self.resumed: bool | None = None
        self.closing = False

    def read(self) -> None:
        """Take all that has arrived, and hold it against the promises."""
        for event in self.reader.read():
            assert not self.closing, f"after the goodbye: {event}"
            try:
                getattr(self, f"_{event['type']}")(event)
            except AssertionError as error:
                raise AssertionError(f"{error}\nat {event}") from error

    def result_of(self, seq: int) -> Json:
        return self.record.versions[seq][-1]

    def check_calm(self) -> None:
        """All that was owed has been taken: now the views are the selections."""
        assert self.reader.between_frames, "a part of a frame, and nothing follows"
        assert not self.pending, f"commands without an answer: {self.pending}"
        self.redo_until = 0
        root = self.record.versions[-1][-1]
        for held in self.held.values():
            assert held.view is not None, f"{held.filter}: no snapshot came"
            assert not held.gapped, f"{held.filter}: a gap without its heal"
            assert held.agrees(root), (
                f"{held.filter}: holds {held.view.places}, should be {selected(held.filter, root)}"
            )
            held.check_count()
        for name, hall in self.halls.items():
            assert len(hall.got) + hall.missed == len(hall.owed), f"room {name}: {hall}"

    # ── one method for each type of event ───────────────────────────────────────────────────────

    def _connected(self, event: dict[str, Any]) -> None:
        assert self.resumed is None
        assert event["epoch"] == self.record.epoch
        self.resumed = event["resumed"]
        if self._is_lone:
            self._hall_connected(event)
            return
        for name, position in event.get("positions", {}).items():
            self.halls[name].last = position
        if not self.resumed:
            self.redo_until = 0
            for held in self.held.values():
                held.view = None
        if "id" in event:  # nothing follows: the state is known from elsewhere
            seq = self._seq(event["id"])
            for held in self.held.values():
                held.assume(self.result_of(seq))
            self._reached(seq)

    @property
    def _is_lone(self) -> bool:
        """Whether it is a stream of one room and nothing else."""
        return self.kind == "sse" and len(self.halls) == 1 and not self.held

    def _hall_connected(self, event: dict[str, Any]) -> None:
        [hall] = self.halls.values()
        assert self.resumed is bool(hall.resumes)
        if "id" in event:  # nothing follows
            hall.last = event["id"]
        else:
            assert hall.owed, "no position, and nothing follows that has one"

    def _snapshot(self, event: dict[str, Any]) -> None:
        held = self._held(event)
        held.parts += [(parse_path(item["path"]), item["value"]) for item in event["items"]]
        if event["more"]:
            assert "id" not in event
            return
        if held.view is not None and not held.gapped:  # in place of the events of one change
            is_past = self.resumed or held.floor
            if is_past and ("id" not in event or self._seq(event["id"]) <= held.floor):
                held.countable = False  # perhaps one of a replay
            held.got[0] += 1
        held.view, held.parts, held.gapped = View(held.parts), [], False
        self._arrived(event)

    def _update(self, event: dict[str, Any]) -> None:
        self._event(event)

    def _delete(self, event: dict[str, Any]) -> None:
        self._event(event)

    def _event(self, event: dict[str, Any]) -> None:
        held = self._held(event)
        view = held.view
        assert view is not None, "an event before the snapshot"
        assert not held.parts, "an event within a snapshot"
        assert not held.gapped or "drop-oldest" in held.policies, "between a gap and its heal"
        seq, path = self.record.seq_at[event["time"]], parse_path(event["path"])
        if seq > held.floor:
            assert seq > (self.last or 0), "older than a position that has come before"
            held.got[seq] += 1
            assert not held.countable or held.got[seq] <= held.owed[seq], "sent twice"
        held.missed += event.get("missed", 0)
        latest = "latest" in held.policies
        assert latest or "missed" not in event
        if "id" in event:
            assert self._seq(event["id"]) == seq or latest
        self._check_selected(held.filter, seq, path)
        never_told = latest and event["type"] == "delete"  # perhaps came and went meanwhile
        if self.redo_until or held.gapped or never_told:
            _tolerantly(view, path, event.get("value", MISSING))
        elif event["type"] == "update":
            view.update(path, event["value"])
        else:
            view.delete(path)
        self._arrived(event)

    def _gap(self, event: dict[str, Any]) -> None:
        assert event["missed"] > 0
        if "room" in event:
            self.halls[event["room"]].missed += event["missed"]
            return
        held = self._held(event)
        after, to = self._seq(event["after"]), self._seq(event["to"])
        assert after < to < len(self.record.versions)
        held.gapped = True
        if event["reason"] == "resume_too_long":
            assert to <= held.floor
            return
        missed = sum(count for seq, count in held.owed.items() if after < seq <= to)
        assert not held.countable or event["missed"] <= missed, "it says too many"
        held.missed += event["missed"]

    def _message(self, event: dict[str, Any]) -> None:
        hall = self.halls[event["room"]]
        assert event["data"] in hall.owed
        assert event["data"] not in hall.got, "twice"
        assert event["data"] > max(hall.got, default=0), "out of order"
        hall.got.append(event["data"])
        if self.kind == "sse" and not self._is_lone:
            assert "id" not in event, "the browser would forget the document's position"
        else:
            assert event["id"] == self.record.said[event["room"], event["data"]]
            hall.last = event["id"]

    def _ok(self, event: dict[str, Any]) -> None:
        pending = self.pending.pop(event["ref"])
        assert pending.fails is not True
        if "id" in event:
            seq = self._seq(event["id"])
            assert seq >= self.highest, "the position goes back"
            self.highest = seq
        if pending.begin is not None:
            held = self.held[pending.begin.filter.text] = pending.begin
            self.ahead = True  # `last` is about what was held before
            if pending.assumed is not None:
                if event["resumed"]:
                    held.assume(self.result_of(pending.assumed))
                    if len(self.held) == 1:  # nothing else is held: positions are of this alone
                        self.last = self.highest = pending.assumed
                else:
                    held.view = None
            elif "id" in event:
                held.assume(self.result_of(self._seq(event["id"])))
        if pending.end is not None:
            del self.held[pending.end]
        for name, hall in pending.enter.items():
            self.halls[name] = hall
            hall.last = event["positions"][name]
            if hall.resumes is not None:
                assert event["resumed"][name] is hall.resumes
        if pending.leave is not None:
            del self.halls[pending.leave]
        assert event.get("reached") == pending.reached
        if pending.items is not None:
            items = {parse_path(item["path"]): item["value"] for item in event["items"]}
            wanted = selected(pending.items, self.result_of(self._seq(event["id"])))
            assert same_places(items, wanted)

    def _error(self, event: dict[str, Any]) -> None:
        assert self.pending.pop(event["ref"]).fails is not False, "refused"

    def _closing(self, event: dict[str, Any]) -> None:
        self.closing = True

    # ── what they have in common ────────────────────────────────────────────────────────────────

    def _held(self, event: dict[str, Any]) -> Held:
        assert event["filter"] in self.held, "not subscribed to this"
        return self.held[event["filter"]]

    def _seq(self, text: str) -> int:
        position = parse_position(text)
        assert position is not None
        assert position.epoch == self.record.epoch
        return position.seq

    def _arrived(self, event: dict[str, Any]) -> None:
        if "id" in event:
            self._reached(self._seq(event["id"]))
        else:
            self.ahead = True

    def _reached(self, seq: int) -> None:
        """A position has come: everything up to it must have arrived."""
        assert seq >= self.highest, f"the position goes back, from {self.highest}"
        self.last = self.highest = seq
        self.ahead = False
        if seq >= self.redo_until:
            self.redo_until = 0
        if self.redo_until:
            return
        for held in self.held.values():
            if not held.gapped:
                assert held.agrees(self.result_of(seq)), (
                    f"{held.filter} at {seq}: holds {held.view and held.view.places}, "
                    f"should be {selected(held.filter, self.result_of(seq))}"
                )

    def _check_selected(self, filter: Filter, seq: int, path: Path) -> None:
        """Nothing beside the selection is sent: the place is selected or inside one that is."""
        above = {path[:depth] for depth in range(len(path) + 1)}
        roots = [self.record.versions[seq - 1][-1], *self.record.versions[seq]]
        assert any(not above.isdisjoint(selected(filter, root)) for root in roots), (
            f"{filter} never selected this"
        )


def _tolerantly(view: View, path: Path, value: Any) -> None:
    """Take an event that may have been taken before: what does not fit any more does nothing."""
    for place in list(view.places):
        alone = View([(place, view.places[place])])
        inside = place == path[: len(place)]
        if not inside and place[: len(path)] != path:
            continue
        try:
            if value is MISSING:
                alone.delete(path)
            else:
                alone.update(path, value)
        except (AssertionError, LookupError, TypeError):
            continue
        del view.places[place]
        view.places |= alone.places
    inside_one = any(place == path[: len(place)] for place in view.places)
    if value is not MISSING and not inside_one:
        view.places[path] = copy.deepcopy(value)


def held_of(text: str) -> Held:
    """A filter as a client holds it before anything has come."""
    return Held(parse_filter(text))


def untouched(before: Json, after: Json, path: Path) -> bool:
    """Whether a place has the same value in both."""
    old, new = find(before, path), find(after, path)
    return old is new if MISSING in (old, new) else equal(old, new)
