"""Chunks of an event stream, whatever a socket takes of them."""

from __future__ import annotations

from unittest.mock import patch

import h11
from hypothesis import given
from hypothesis import strategies as st

from triode.app.wire import chunks
from triode.app.wire.chunks import LAST, Chunks, chunked

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

EVENTS = st.lists(st.integers(1, 60), min_size=1, max_size=4).map(
    lambda sizes: b"".join(b"%b\n\n" % (b"x" * size) for size in sizes)
)
CUTS = st.one_of(st.none(), st.integers(0, 400))


def read(data: bytes) -> tuple[list[bytes], bool]:
    """What an independent parser makes of a response: its chunks, and whether it has ended."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    if data:  # none would be the end of the connection
        peer.receive_data(data)
    found: list[bytes] = []
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Data):
            if event.chunk_start:
                found.append(b"")
            found[-1] += event.data
        elif event is h11.NEED_DATA:
            return found, False
        elif isinstance(event, h11.EndOfMessage):
            return found, True


def is_filling(data: bytes) -> bool:
    return data == b"\n" or (data.startswith(b":") and data.strip(b":") == b"\n")


def test_what_is_written_at_once_is_one_chunk() -> None:
    assert chunked(b"data: 1\n\n") == b"9\r\ndata: 1\n\n\r\n"
    assert chunked(b"") == b""
    body = Chunks(HEAD)
    assert read(body.put(b"a\n\n") + body.put(b"b\n\nc\n\n")) == ([b"a\n\n", b"b\n\nc\n\n"], False)
    assert read(HEAD + chunked(b"a\n\n") + body.settle(last=True)) == ([b"a\n\n"], True)
    assert body.settle(last=True) == b""


def test_much_at_once_is_cut_where_events_end() -> None:
    event = b"x" * 5000 + b"\n\n"
    found, _ = read(HEAD + chunked(event * 7))
    assert found == [event * 3, event * 3, event]
    large = b"y" * 40_000 + b"\n\n"
    found, _ = read(HEAD + chunked(large))
    assert b"".join(found) == large
    assert max(map(len, found)) == chunks.CHUNK_BYTES


def test_an_open_chunk_is_filled_by_what_comes_next_or_a_comment() -> None:
    body = Chunks(HEAD)
    first = b"data: a\n\n" * 10
    framed = body.framed(first)
    assert body.took(first, len(framed) - 12) == 80
    out = framed[:-12]
    out += body.put(b"data: b\n\n")  # what was in its place was lost
    out += body.settle(last=False)
    out += body.put(b"data: c\n\n")
    found, _ = read(out)
    assert found == [first[:80] + b"data: b\n\n" + b"\n", b"data: c\n\n"]


@given(
    st.lists(st.tuples(EVENTS, CUTS, st.booleans()), max_size=8),
    st.booleans(),
)
def test_whatever_is_taken(writes: list[tuple[bytes, int | None, bool]], ends: bool) -> None:
    """Each write is cut anywhere. What was not taken comes next, or the client has lost it; what
    is out so far is always a response that a parser takes.
    """
    with patch.object(chunks, "CHUNK_BYTES", 100):
        body, out, meant = Chunks(HEAD), b"", b""
        for data, cut, waits in writes:
            framed = body.framed(data)
            if cut is None or cut >= len(framed):
                assert body.took(data, len(framed)) == len(data)
                out += framed
                meant += data
            else:
                took = body.took(data, cut)
                out += framed[:cut]
                meant += data[:took]
                read(out)
                rest = data[took:]
                whole = not took or data[:took].endswith(b"\n\n")
                if rest and not (whole and waits):
                    out += body.put(rest)
                    meant += rest
            found, _ = read(out)
            assert b"".join(found) == meant
            if waits:
                rest = body.settle(last=False)
                out += rest
                filling = b"".join(read(out)[0])[len(meant) :]
                assert not filling or is_filling(filling)
                meant += filling
        out += body.settle(last=ends)
        found, over = read(out)
        filling = b"".join(found)[len(meant) :]
        assert not filling or is_filling(filling)
        assert over is ends
        assert (LAST in out[-len(LAST) :]) is ends
