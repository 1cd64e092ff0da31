"""HTTP/2 frames as they come over a socket: cut anywhere."""

from __future__ import annotations

import pytest

from triode.app.net.http2_frames import FRAMES_PER_PIECE, PREFACE, Frames, TooManyFrames
from triode.limits.rate import Rate

DATA, HEADERS, PING, WINDOW_UPDATE = 0, 1, 6, 8
END = 1


def frame(kind: int, length: int, flags: int = 0) -> bytes:
    return length.to_bytes(3, "big") + bytes((kind, flags)) + bytes(4) + b"x" * length


@pytest.mark.parametrize("step", [1, 5, 9, 10, 1000])
def test_pieces_are_whole_frames_and_together_what_came(step: int) -> None:
    data = PREFACE + b"".join(frame(DATA, length) for length in range(1, 60))
    frames = Frames(None)
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    assert b"".join(b"".join(frames.pieces(part, 0.0)) for part in parts) == data


def test_a_piece_has_a_bounded_number_of_frames() -> None:
    frames = Frames(None)
    assert list(frames.pieces(PREFACE, 0.0)) == [PREFACE]
    ping = frame(PING, 8)
    pieces = list(frames.pieces(ping * (2 * FRAMES_PER_PIECE + 1), 0.0))
    assert pieces == [ping * FRAMES_PER_PIECE, ping * FRAMES_PER_PIECE, ping]


@pytest.mark.parametrize(
    ("one", "counts"),
    [
        (frame(PING, 8), True),
        (frame(DATA, 0), True),
        (frame(DATA, 1), False),
        (frame(DATA, 0, END), False),
        (frame(HEADERS, 20), False),
        (frame(WINDOW_UPDATE, 4), False),
    ],
)
def test_frames_without_content_have_a_rate(one: bytes, counts: bool) -> None:
    frames = Frames(Rate(1, 10))
    list(frames.pieces(PREFACE + 10 * one, 0.0))
    if not counts:
        list(frames.pieces(10 * one, 0.0))
        return
    with pytest.raises(TooManyFrames):
        list(frames.pieces(one, 0.5))
    frames = Frames(Rate(1, 10))
    list(frames.pieces(PREFACE + 10 * one, 0.0))
    list(frames.pieces(5 * one, 5.0))


def test_a_request_ends_a_piece() -> None:
    frames = Frames(None)
    request = bytes((0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82))
    data = bytes((0, 0, 1, 0, 1, 0, 0, 0, 1, 0))
    given = frames.pieces(PREFACE + request + request + data + data, 0.0)
    assert list(given) == [PREFACE + request, request, data + data]
