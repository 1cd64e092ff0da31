"""Snapshots: what a filter selects now, as frames.

A small one is a single frame; those made last are kept, so that all who ask at the same position
share it. A big one is a lazy frame: it pins the document, so that it is one state however long the
client takes, and is encoded piece by piece as the client takes it. So is what one client gets at
once beyond a frame. A value too big for a frame goes out as one event in pieces: SSE is a byte
stream anyhow, and WebSocket has fragments (RFC 6455 section 5.4).

A filter for which the document is too big has no snapshot: in its place stands a `gap` with the
reason `too_costly`. It rests (see `rest`), and is tried again by itself.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

import trio

from triode.app.delivery.lazy_frame import LAZY_BYTES, LazyFrame, SharedLazyFrame
from triode.app.delivery.rest import TOO_COSTLY
from triode.app.delivery.unevaluated import Refused
from triode.app.runtime.turns import SPARE, SPARE_STEPS, allowance, steps
from triode.app.wire.frame import FRAME_BYTES, TEXT, Frame, control, document_frame, ws_frame
from triode.app.wire.max_event import fetch_item, room_of, snapshot_frame
from triode.limits.meter import TURN_STEPS, Meter
from triode.store.change import Position
from triode.store.path import format_path
from triode.store.value import approx_bytes, encode, encode_steps
from triode.store.work import FREE, TooCostly

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from triode.app.config.settings import Settings
    from triode.app.delivery.audience import Audience
    from triode.app.delivery.ports import HubPort
    from triode.app.wire.frame import Kind
    from triode.store.filter import Filter
    from triode.store.path import Path
    from triode.store.store import Store
    from triode.store.value import Json
    from triode.store.work import Work

# A place costs this much besides its value: path, quotes, braces.
ITEM_BYTES: Final = 40
# And so much work, to say where it is and how large.
ITEM_STEPS: Final = 2
# What is written out has been paid for: it only gives way to others.
ANY: Final = 1 << 60


def snapshots(
    hub: HubPort, audiences: Sequence[Audience], kind: Kind, most: int = 0
) -> list[Frame]:
    """The snapshots of several filters for one client, whose `max_event` is `most`; the last has
    the position.
    """
    hub.metrics.snapshots_total += len(audiences)
    room = FRAME_BYTES
    steps_at_once = hub.settings.match_work
    frames: list[Frame] = []
    for audience in audiences:
        id = audience is audiences[-1]
        frame = _kept(hub, audience, (kind, id, False, room > 0, most))
        if frame is None:
            is_evaluated = audience.selection.evaluated is not None
            work = allowance(min(steps_at_once, SPARE_STEPS) if is_evaluated else steps_at_once)
            frame = snapshot(hub, audience, kind, id=id, at_once=room > 0, most=most, work=work)
        frames.append(frame)
        room -= frames[-1].size
    return frames


def snapshot(
    hub: HubPort,
    audience: Audience,
    kind: Kind,
    *,
    id: bool = True,
    droppable: bool = False,
    at_once: bool = True,
    most: int = 0,
    work: Work | None = None,
) -> Frame:
    """The snapshot of an audience's filter at the store's position: a frame, or a lazy frame when
    it is big, takes more than `work` has left, or is not to be encoded `at_once`.

    With `id` its last frame carries the position: say so only for the last snapshot of several that
    belong together. `droppable`: it stands for a change, and may be lost to a full queue as that.
    No event of it is longer than `most`, if that is not 0.
    """
    seq = hub.store.seq
    key = (kind, id, droppable, at_once, most)
    known = _kept(hub, audience, key)
    if known is not None:
        return known
    source = audience if droppable else None
    if audience.rest.is_refused and trio.current_time() < audience.rest.until:
        return LazyFrame(
            iter((refusal(hub.store.position, audience, kind, source),)), source, seq, LAZY_BYTES
        )
    frame = _make(
        hub,
        audience,
        kind,
        id=id,
        source=source,
        at_once=at_once,
        most=most,
        work=Meter(hub.settings.match_work) if work is None else work,
    )
    # A lazy frame holds a pin, and of what it has made: it lives only as long as somebody reads it.
    audience.snapshots[key] = (seq, ref(frame))
    if not isinstance(frame, SharedLazyFrame):
        hub.shelf.snapshots.append(frame)
    return frame


def _kept(
    hub: HubPort, audience: Audience, key: tuple[Kind, bool, bool, bool, int]
) -> Frame | None:
    """One that was made since the last write, if it is still there."""
    kept = audience.snapshots.get(key)
    if kept is None or kept[0] != hub.store.seq:
        return None
    frame = kept[1]()
    return None if isinstance(frame, SharedLazyFrame) and not frame.is_whole else frame


def _make(
    hub: HubPort,
    audience: Audience,
    kind: Kind,
    *,
    id: bool,
    source: Audience | None,
    at_once: bool,
    most: int,
    work: Work,
) -> Frame:
    store = hub.store
    position = str(store.position).encode() if id else None
    items: list[Json] = []
    size = 0 if at_once else FRAME_BYTES
    evaluated, budget = audience.selection.evaluated, work.left
    try:
        if evaluated is not None and evaluated.cost > work.left:
            raise TooCostly(work.left, evaluated.cost)
        for path, value in audience.selection.filter.select(store.document.root, work):
            size += ITEM_BYTES + approx_bytes(value, limit=FRAME_BYTES)
            if size > FRAME_BYTES:
                break
            items.append(_item(path, value))
        if evaluated is not None:
            evaluated.learn(budget - work.left)
            audience.rest.evaluated(budget - work.left, trio.current_time())
    except TooCostly:
        size = FRAME_BYTES + 1
    if size <= FRAME_BYTES:
        data = _frame(audience, kind, items, position, more=False)
        if not most or len(data) <= most:
            return Frame(data, source, store.seq)
    pin = _pin(store)
    refused = partial(refusal, store.position, audience, kind, source)
    again = partial(paced_pieces, hub.settings, next(pin), audience, kind, position, refused, most)
    feed = SharedLazyFrame(again, pin, source, store.seq, share=hub.shelf.feed_share)
    hub.shelf.feeds.add(feed)
    return feed


def _pin(store: Store) -> Iterator[Json]:
    """The document as it is now, for as long as this is not thrown away."""
    with store.document.pin() as root:
        yield root


def _item(path: Path, value: Json) -> Json:
    return {"path": format_path(path), "value": value}


def _frame(
    audience: Audience, kind: Kind, items: list[Json], position: bytes | None, *, more: bool
) -> bytes:
    members = b',"items":%b,"more":%b}' % (encode(items), b"true" if more else b"false")
    return document_frame(kind, "snapshot", audience.filter_json, members, position)


def refusal(at: Position, audience: Audience, kind: Kind, source: Audience | None) -> Refused:
    """What stands in place of a snapshot that takes too much. It has no position: until there is a
    snapshot, nothing may have. With a `source` the snapshot stood for a change, which is lost.
    """
    lost = int(source is not None)
    body = {
        "filter": audience.selection.filter.text,
        "missed": lost,
        "after": str(Position(at.epoch, at.seq - lost)),
        "to": str(at),
        "reason": TOO_COSTLY,
    }
    said = Refused(control(kind, "gap", body))
    said.audience = audience
    return said


def paced_pieces(
    settings: Settings,
    root: Json,
    audience: Audience,
    kind: Kind,
    position: bytes | None,
    refused: Callable[[], Refused],
    most: int = 0,
) -> Iterator[bytes]:
    """The snapshot of an audience's filter on `root`, which has to stay as it is meanwhile; an
    empty piece is a pause. What `refused` says when it takes more than `max_work` steps.
    """
    limit = settings.max_work
    is_evaluated = audience.selection.evaluated is not None
    pause, turn = (SPARE, SPARE_STEPS) if is_evaluated else (b"", TURN_STEPS)
    # Before the first piece: a snapshot that breaks off in the middle would be worse than none.
    try:
        yield from steps(limit, partial(_evaluate, root, audience), pause, turn=turn)
    except TooCostly:
        audience.rest.refused(trio.current_time(), settings.filter_wait_max_s)
        yield refused()
        return
    # What is written out costs no more to select than it has just done.
    again = partial(snapshot_pieces, root, audience, kind, position, most=most)
    yield from steps(ANY, again, pause, turn=turn)


def _evaluate(root: Json, audience: Audience, meter: Meter) -> Iterator[bytes]:
    """Only what it costs."""
    try:
        deque(audience.selection.filter.select(root, meter), maxlen=0)
    finally:
        if audience.selection.evaluated is not None:
            audience.selection.evaluated.learn(meter.spent)
    audience.rest.evaluated(meter.spent, trio.current_time())
    return iter(())


def snapshot_pieces(
    root: Json,
    audience: Audience,
    kind: Kind,
    position: bytes | None,
    work: Work = FREE,
    *,
    most: int = 0,
) -> Iterator[bytes]:
    """The snapshot of an audience's filter on `root`, which has to stay as it is meanwhile. No
    event is longer than `most`, if that is not 0.
    """
    room = room_of(kind, audience.filter_json, position, most) if most else FRAME_BYTES
    batch: list[bytes] = []
    size = 0
    for path, value in audience.selection.filter.select(root, work):
        work.charge(ITEM_STEPS)
        is_large = ITEM_BYTES + approx_bytes(value, limit=FRAME_BYTES) > FRAME_BYTES
        if is_large and most:
            is_large = yield from _fits(path, value, room)
            item = b"" if is_large else encode(fetch_item(path))
        elif not is_large:
            item = encode(_item(path, value))
            if most and len(item) > room:
                item = encode(fetch_item(path))
        if batch and (is_large or size + len(item) > min(room, FRAME_BYTES)):
            yield snapshot_frame(kind, batch, audience.filter_json, None, more=True)
            batch, size = [], 0
        if is_large:
            yield from _large(audience, kind, path, value)
        else:
            batch.append(item)
            size += len(item) + 1
    yield snapshot_frame(kind, batch, audience.filter_json, position, more=False)


def _fits(path: Path, value: Json, room: int) -> Generator[bytes, None, bool]:
    """Whether an item is within `room` bytes; an empty piece is a pause."""
    size = len(encode(_item(path, None)))
    for piece in encode_steps(value):
        size += len(piece)
        if size > room:
            return False
        yield b""
    return True


def _large(audience: Audience, kind: Kind, path: Path, value: Json) -> Iterator[bytes]:
    """One event with one big value, in pieces."""
    head = b'{"filter":%b,"items":[{"path":%b,"value":' % (
        audience.filter_json,
        encode(format_path(path)),
    )
    tail = b'}],"more":true}'
    if kind == "sse":
        yield b"event: snapshot\ndata: " + head
        yield from encode_steps(value)
        yield tail + b"\n\n"
        return
    yield _fragment(b'{"type":"snapshot",' + head[1:], first=True)
    for piece in encode_steps(value):
        yield _fragment(piece)
    yield _fragment(tail, last=True)


def _fragment(payload: bytes, *, first: bool = False, last: bool = False) -> bytes:
    # TEXT has the FIN bit set; a fragment begins with it clear, goes on with opcode 0 and ends
    # with FIN alone.
    opcode = TEXT & 0x0F if first else 0
    return ws_frame(opcode | (0x80 if last else 0), payload)


def selection(store: Store, filter: Filter, ref: dict[str, Any], work: Work) -> Frame | None:
    """What a WebSocket client's `get` is answered; None when that is big, or takes more than `work`
    has left.
    """
    items: list[dict[str, Json]] = []
    size = 0
    try:
        for path, value in filter.select(store.document.root, work):
            size += ITEM_BYTES + approx_bytes(value, limit=FRAME_BYTES)
            if size > FRAME_BYTES:
                return None
            items.append({"path": format_path(path), "value": value})
    except TooCostly:
        return None
    return Frame(control("ws", "ok", ref | {"id": str(store.position), "items": items}))


def lazy_selection(store: Store, filter: Filter, ref: dict[str, Any], max_work: int) -> Frame:
    """The same piece by piece. It must be known that `max_work` steps are enough."""
    members = ref | {"id": str(store.position)}
    pin = _pin(store)
    pieces = steps(max_work, partial(_selected, pin, next(pin), filter, members), b"")
    return LazyFrame(_fragments(pieces), size=LAZY_BYTES)


def _selected(
    pin: Iterator[Json], root: Json, filter: Filter, members: dict[str, Any], work: Work
) -> Iterator[bytes]:
    """The same answer on `root`, piece by piece; `pin` goes with it."""
    yield encode({"type": "ok"} | members)[:-1] + b',"items":['
    comma = b""
    for path, value in filter.select(root, work):
        yield b'%b{"path":%b,"value":' % (comma, encode(format_path(path)))
        yield from encode_steps(value)
        yield b"}"
        comma = b","
    yield b"]}"


def _fragments(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """One message in fragments of about `FRAME_BYTES`."""
    batch: list[bytes] = []
    size, first = 0, True
    for piece in pieces:
        if not piece:
            yield b""  # a pause
            continue
        if size + len(piece) > FRAME_BYTES and batch:
            yield _fragment(b"".join(batch), first=first)
            batch, size, first = [], 0, False
        batch.append(piece)
        size += len(piece)
    yield _fragment(b"".join(batch), first=first, last=True)
