"""permessage-deflate: agreed on as RFC 7692 says, made once for all, and harmless."""

from __future__ import annotations

import zlib
from unittest.mock import patch

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane, inflated
from tests.app.test_exactness_found import connect, start
from triode.app.delivery.lazy_frame import without_positions
from triode.app.net.request_head import Head
from triode.app.wire import compression, end_reasons
from triode.app.wire.compression import negotiate, on_wire
from triode.app.wire.frame import PONG, TEXT, Frame, unwrap, ws_frame
from triode.app.wire.message_reader import MessageReader, is_lone_pong
from triode.limits.ledger import Ledger
from triode.store.operation import Set
from triode.store.value import Json

settle = trio.testing.wait_all_tasks_blocked
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
LONG = "to be, or not to be, " * 100
MIB = 2**20


def head(*extensions: str) -> Head:
    fields = [("host", "x")]
    if extensions:
        fields.append(("sec-websocket-extensions", ", ".join(extensions)))
    return Head("GET", "/ws", "/ws", "", fields, "1.1", "127.0.0.1", False)


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ((), None),
        (("permessage-deflate",), AGREED),
        # Chromium's, Firefox's and Safari's.
        (("permessage-deflate; client_max_window_bits",), AGREED),
        (("permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",), AGREED),
        (("x-webkit-deflate-frame", "permessage-deflate; server_no_context_takeover"), AGREED),
        (("permessage-deflate; server_max_window_bits=10", "permessage-deflate"), AGREED),
        (("permessage-deflate; no_such_parameter", "permessage-deflate"), AGREED),
        (("permessage-deflate; no_such_parameter",), None),
        (("permessage-deflate; client_max_window_bits=99",), None),
        (("permessage-bzip2",), None),
        (("permessage-deflate; =",), None),
    ],
)
def test_what_is_agreed_on(offers: tuple[str, ...], answer: str | None) -> None:
    agreed = negotiate(head(*offers).get("sec-websocket-extensions"))
    found = None
    if agreed is not None:
        name, *params = agreed.answer.split("; ")
        found = "; ".join([name, *[one for one in params if "window" not in one]])
    assert found == answer
    assert agreed is None or agreed.deflates


def test_a_smaller_window_is_agreed_to_and_not_used() -> None:
    """Autobahn 13.3 and 13.5; and 13.7, where one of several offers is better."""
    small = "permessage-deflate; server_max_window_bits=9"
    agreed = negotiate(small)
    assert agreed is not None
    assert not agreed.deflates
    assert "server_max_window_bits=9" in agreed.answer.split("; ")
    best = negotiate(f"{small}, permessage-deflate; client_max_window_bits")
    assert best is not None
    assert best.deflates
    assert "server_max_window_bits" not in best.answer


def test_only_what_is_worth_it_is_compressed() -> None:
    short, long = b'"short"', LONG.encode()
    random = bytes(range(256)) * 8
    noise = zlib.compress(random, 9) * 30  # does not get smaller
    frames = [ws_frame(TEXT, short), ws_frame(TEXT, long), ws_frame(PONG, b"x" * 125)]
    frames += [ws_frame(0x01, long), ws_frame(0x80, long)]
    data = on_wire(Frame(b"".join(frames)), 100)
    assert [first for first, _ in unwrap(bytearray(data))] == [TEXT, 0xC1, PONG, 0x01, 0x80]
    payloads = [payload for _, payload in unwrap(bytearray(data))]
    assert inflated(payloads[1]) == long
    assert len(payloads[1]) < 100
    for frame in (ws_frame(TEXT, noise[:120]), b"HTTP/1.1 101 Switching Protocols\r\n" * 10):
        assert on_wire(Frame(frame), 100) == frame
    rest = ws_frame(TEXT, long)
    assert on_wire(Frame(rest), 0) == rest
    huge = ws_frame(TEXT, b"1" * (compression.MOST_BYTES + 1))
    assert on_wire(Frame(huge), 100) == huge


def test_what_loses_its_position_is_compressed_anew() -> None:
    payload = b'{"type":"update","id":"abc:1","value":"%b"}' % LONG.encode()
    frame = Frame(ws_frame(TEXT, payload))
    on_wire(frame, 100)
    bare = on_wire(without_positions(frame, "ws"), 100)
    [(first, packed)] = unwrap(bytearray(bare))
    assert first == 0xC1
    assert inflated(packed) == payload.replace(b',"id":"abc:1"', b"")


async def test_one_compression_serves_all_who_agreed(nursery: trio.Nursery) -> None:
    """Of several groups, also those that are slow; the others get it plain."""
    triode = await start(nursery, {"a": 0, "b": 0})
    agreed = [FakeLane(deflate_from=100) for _ in range(6)]
    plain = [FakeLane() for _ in range(2)]
    for lane in (*agreed[:3], *plain):
        connect(triode, lane, ".a")
    for lane in agreed[3:]:
        connect(triode, lane, ".a", ".b")
    await settle()
    before = [len(lane.taken) for lane in agreed]
    agreed[0].feed(0)
    agreed[4].feed(10)
    with patch.object(zlib, "compressobj", wraps=zlib.compressobj) as compressor:
        await triode.write(Set(("a",), LONG))
        await settle()
        for lane in agreed:
            lane.feed(None)
        await settle()
    assert compressor.call_count == 1
    for lane in (*agreed, *plain):
        assert lane.messages()[-1]["value"] == LONG
    sizes = {len(lane.taken) - size for lane, size in zip(agreed, before, strict=True)}
    assert len(sizes) == 1
    assert sizes.pop() < 200 < len(LONG) < len(plain[0].taken)


async def test_a_write_that_is_cut_anywhere_goes_on_there(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0})
    whole = FakeLane(deflate_from=100)
    connect(triode, whole, ".a")
    await settle()
    before = len(whole.taken)
    await triode.write(Set(("a",), LONG))
    await settle()
    size = len(whole.taken) - before
    assert size < 200
    for cut in range(size + 1):
        lane = FakeLane(deflate_from=100)
        client = connect(triode, lane, ".a")
        await settle()
        lane.feed(cut)
        triode.write_nowait(Set(("a",), f"{cut}{LONG}"))
        triode.write_nowait(Set(("a",), f"{cut}{LONG}!"))
        await settle()
        lane.feed(None)
        await settle()
        values = [message.get("value") for message in lane.messages()]
        assert values[-2:] == [f"{cut}{LONG}", f"{cut}{LONG}!"]
        triode.hub.end(client, end_reasons.CLIENT_LOST, "silently")


def masked(first: int, payload: bytes) -> bytes:
    head = ws_frame(first, payload)
    at = len(head) - len(payload)
    return head[:1] + bytes((head[1] | 0x80,)) + head[2:at] + bytes(4) + payload


def squeezed(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def test_messages_are_inflated_each_by_itself() -> None:
    reader = MessageReader(MIB, Ledger(1 << 40).account("messages", 0), deflates=True)
    data = masked(0xC1, squeezed(b'"one"')) + masked(0x81, b'"two"')
    small = squeezed(b'"three"')
    data += masked(0x41, small[:3]) + masked(0x00, b"") + masked(0x80, small[3:])
    data += masked(0xC1, squeezed(b"1" * MIB))
    assert [bytes(one[:9]) for one in reader.feed(data)] == [
        b'"one"',
        b'"two"',
        b'"three"',
        b"1" * 9,
    ]
    assert reader.end is None


@pytest.mark.parametrize("parts", [1, 2, 500])
def test_a_bomb_ends_the_connection_before_it_is_one(parts: int) -> None:
    """1 MB of zeros a thousand times over; not more than a message's bound is ever inflated."""
    bomb = squeezed(b"0" * (200 * MIB))
    size = len(bomb) // parts + 1
    pieces = [bomb[at : at + size] for at in range(0, len(bomb), size)]
    reader = MessageReader(MIB, Ledger(1 << 40).account("messages", 0), deflates=True)
    for index, piece in enumerate(pieces):
        first = (0x41 if index == 0 else 0x00) | (0x80 if index == len(pieces) - 1 else 0)
        assert reader.feed(masked(first, piece)) == []
        if reader.end is not None:
            break
    assert reader.end is end_reasons.TOO_BIG
    assert int.from_bytes(reader.answer[2:4], "big") == 1009


def test_what_was_not_agreed_on_is_refused() -> None:
    reader = MessageReader(MIB, Ledger(1 << 40).account("messages", 0))
    assert reader.feed(masked(0xC1, squeezed(b'"one"'))) == []
    assert reader.end is end_reasons.PROTOCOL


async def test_a_snapshot_in_pieces_is_not_compressed(nursery: trio.Nursery) -> None:
    rows: Json = [{"id": number, "text": LONG} for number in range(100)]
    triode = await start(nursery, {"a": rows})
    lane = FakeLane(deflate_from=100)
    connect(triode, lane, ".a[*]")
    await settle()
    firsts = [first for first, _ in unwrap(bytearray(lane.taken))]
    assert firsts[0] == 0xC1
    assert set(firsts[1:]) == {TEXT}
    items = [item for message in lane.messages()[1:] for item in message["items"]]  # type: ignore[attr-defined] # a list
    assert [item["value"] for item in items] == rows


def test_a_reader_is_idle_after_a_pong_and_nothing_else() -> None:
    """It may be replaced then: between two frames, and in no message of several."""
    pong, ping = masked(PONG, b"beat"), masked(0x89, b"beat")
    assert is_lone_pong(pong)
    assert is_lone_pong(masked(PONG, b""))
    for other in (ping, pong + b"\x8a", pong[:-1], pong[:1], b"", b"\x8a\x04beat", pong + pong):
        assert not is_lone_pong(other)
    reader = MessageReader(MIB, Ledger(1 << 40).account("messages", 0))

    def idle_after(data: bytes) -> bool:
        reader.feed(data)
        return reader.is_idle

    assert idle_after(pong)
    assert not idle_after(masked(0x81, b"1"))
    assert not idle_after(ping)
    assert not idle_after(masked(0x01, b""))  # the first of several
    assert not idle_after(pong)
    assert not idle_after(masked(0x80, b"2"))
    assert idle_after(pong)
    # The beginning of a frame has been read: these bytes are the rest of its head.
    assert not idle_after(bytes((0x81, 0x80 | 126)))
    assert not idle_after(masked(PONG, b""))
