"""Short messages are read without the protocol: however the bytes come, both ways read the same."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from triode.app.wire.end_reasons import End
from triode.app.wire.frame import BINARY, CLOSE, PING, TEXT, ws_frame
from triode.app.wire.message_reader import MessageReader, Pongs
from triode.limits.ledger import Ledger

MAX_BYTES = 100
KEY = bytes((1, 2, 3, 4))


def masked(first: int, payload: bytes, key: bytes = KEY) -> bytes:
    head = ws_frame(first, payload)
    at = len(head) - len(payload)
    hidden = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return head[:1] + bytes((head[1] | 0x80,)) + head[2:at] + key + hidden


payloads = st.one_of(
    st.binary(max_size=4),
    st.sampled_from([b"", b"{}", "schön".encode(), b"\xff", b"x" * 125, b"x" * 126, b"x" * 101]),
)
first_bytes = st.sampled_from([TEXT] * 6 + [BINARY, PING, 0x01, 0x00, 0x80, CLOSE, 0xC1])
frames = st.builds(masked, first_bytes, payloads) | st.just(ws_frame(TEXT, b"unmasked"))


class Thorough(MessageReader):
    """Leaves all to the protocol."""

    __slots__ = ()

    def _take_short(self, data: bytes, found: list[Any]) -> int:
        return 0


def read(reader: MessageReader, pieces: list[bytes]) -> tuple[list[bytes], End | None, bytes]:
    found: list[bytes] = []
    for piece in pieces:
        for message in reader.feed(piece):
            if found and type(message) is type(found[-1]) is Pongs:
                found[-1] = Pongs(found[-1] + message)
            else:
                found.append(message if type(message) is Pongs else bytes(message))
        if reader.end is not None:
            break
    return found, reader.end, reader.answer


def new(kind: type[MessageReader]) -> MessageReader:
    return kind(MAX_BYTES, Ledger(1 << 40).account("messages", 0))


# Each with where it is cut in two, and whether it comes together with the one before.
parts = st.tuples(frames, st.none() | st.integers(0, 8), st.booleans())


def pieces_of(sent: list[tuple[bytes, int | None, bool]]) -> list[bytes]:
    pieces = [b""]
    for frame, cut, together in sent:
        first, rest = (frame, b"") if cut is None else (frame[:cut], frame[cut:])
        pieces[-1:] = [pieces[-1] + first] if together else [pieces[-1], first]
        pieces += [rest]
    return [piece for piece in pieces if piece]


@settings(max_examples=500)
@given(st.lists(parts, max_size=6))
@example([(masked(0x01, b"{"), None, False), (masked(TEXT, b"{}"), None, False)])
def test_short_messages_are_read_as_the_protocol_reads_them(
    sent: list[tuple[bytes, int | None, bool]],
) -> None:
    pieces = pieces_of(sent)
    assert read(new(MessageReader), pieces) == read(new(Thorough), pieces)


def test_a_frame_whose_head_came_alone_is_not_taken_for_the_next() -> None:
    reader = new(MessageReader)
    # The key of its mask is like the head of a message.
    frame = masked(TEXT, b"{}" * 20, bytes((TEXT, 0x80, 0, 0)))
    assert reader.feed(frame[:2]) == []  # the protocol has taken it out of its buffer
    assert reader.feed(frame[2:]) == [b"{}" * 20]


def test_a_closed_reader_is_freed_without_the_collector() -> None:
    """Which may have put it aside for good: that was 2 KB for each client that had ever spoken."""
    reader = MessageReader(MAX_BYTES, Ledger(1 << 40).account("messages", 0), deflates=True)
    assert reader.feed(masked(PING, b"?"))
    protocol = weakref.ref(reader._protocol)
    gc.disable()
    try:
        reader.close()
        del reader
        assert protocol() is None
    finally:
        gc.enable()
