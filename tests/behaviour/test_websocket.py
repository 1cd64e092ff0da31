"""WebSocket as the Autobahn suite asks of a server, for what is ours to say. The cases are
numbered as in its public description, https://github.com/crossbario/autobahn-testsuite; messages
are commands here, so an echo is the answer to a `ping` with a `ref`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

import pytest
import trio

from .clients import PATIENCE_S, Api, RawWs, exchange, open_raw_ws, open_socket, upgrade
from .server import Lane, Server

pytestmark = pytest.mark.trio

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
frame = RawWs.frame


def command(ref: int | str) -> bytes:
    return json.dumps({"type": "ping", "ref": ref}, ensure_ascii=False).encode()


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


async def answers(ws: RawWs, count: int) -> list[bytes | int | str]:
    """The payloads of pongs, and the `ref`s of answers, in order."""
    found: list[bytes | int | str] = []
    with trio.fail_after(PATIENCE_S):
        while len(found) < count:
            received = await ws.receive()
            assert received is not None
            opcode, payload = received
            if opcode == PONG:
                found.append(payload)
            elif opcode == TEXT and "ref" in (body := json.loads(payload)):
                found.append(body["ref"])
            else:
                assert opcode in (TEXT, PING), received
    return found


def fragments(payload: bytes, *between: bytes, size: int = 7) -> bytes:
    """A text message in fragments, with control frames after the first."""
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    out = [frame(TEXT, parts[0], fin=False), *between]
    out += [frame(CONT, part, fin=False) for part in parts[1:]]
    return b"".join([*out, frame(CONT, b"")])


async def test_messages_of_any_framing(server: Server) -> None:
    """1.1, 1.2, 5.3 to 5.8, 6.2: lengths of each kind, fragments, empty ones."""
    async with open_raw_ws(server, "/ws") as ws:
        for ref in ("", "x" * 65, "x" * 200, "x" * 70_000, "κόσμε🎉"):
            await ws.send(frame(TEXT, command(ref)))
            assert await answers(ws, 1) == [ref]
            await ws.send(fragments(command(ref), size=max(1, len(ref) // 9)))
            assert await answers(ws, 1) == [ref]


async def test_pings_of_any_size(server: Server) -> None:
    """2.1 to 2.4 and 2.6; a pong that nobody asked for is nothing (2.7 to 2.9)."""
    async with open_raw_ws(server, "/ws") as ws:
        for payload in (b"", b"hello", b"\x00\xff\xfe", bytes(125)):
            await ws.send(frame(PONG, b"unasked") + frame(PING, payload))
            assert await answers(ws, 1) == [payload]


async def test_ten_pings_have_ten_pongs(server: Server) -> None:
    """2.10, 2.11: at once, and byte for byte."""
    pings = b"".join(frame(PING, b"%d" % number) for number in range(10))
    expected = [b"%d" % number for number in range(10)]
    async with open_raw_ws(server, "/ws") as ws:
        await ws.send(pings)
        assert await answers(ws, 10) == expected
        for at in range(len(pings)):
            await ws.send(pings[at : at + 1])
        assert await answers(ws, 10) == expected


@pytest.mark.native(reason="Hypercorn answers pings by itself, before the application is asked")
async def test_a_pong_has_its_place_among_the_answers(server: Server) -> None:
    """5.6, 5.19, 5.20."""
    async with open_raw_ws(server, "/ws") as ws:
        data = frame(TEXT, command(1)) + frame(PING, b"a")
        data += fragments(command(2), frame(PING, b"b"), frame(PING, b"c")) + frame(PING, b"d")
        await ws.send(data)
        assert await answers(ws, 6) == [1, b"a", b"b", b"c", 2, b"d"]


BROKEN = [
    ("2.5", frame(PING, bytes(126)), 1002),
    ("3.1", frame(TEXT, command(1), rsv=2), 1002),
    ("3.6", frame(BINARY, b"x", rsv=6), 1002),
    ("4.1", frame(0x3, b""), 1002),
    ("4.2", frame(0xB, b""), 1002),
    ("5.1", frame(PING, b"x", fin=False), 1002),
    ("5.9", frame(CONT, b"x"), 1002),
    ("5.18", frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    ("6.3", frame(TEXT, b'"\xce\xba\xed\xa0\x80"'), 1007),
    ("6.4", frame(TEXT, b'"\xf4\x90', fin=False) + frame(CONT, b'\x80\x80"'), 1007),
    ("7.3.2", frame(CLOSE, b"x"), 1002),
    ("7.5.1", close(1000, b"\xce\xba\xed\xa0\x80"), 1007),
    ("7.9.1", close(0), 1002),
    ("7.9.5", close(1005), 1002),
    ("7.9.9", close(2999), 1002),
    ("unmasked", frame(TEXT, command(1), mask=False), 1002),
]


@pytest.mark.native(reason="Hypercorn speaks the protocol by itself (wsproto)")
@pytest.mark.parametrize(("data", "code"), [one[1:] for one in BROKEN], ids=[b[0] for b in BROKEN])
async def test_what_breaks_the_protocol(server: Server, data: bytes, code: int) -> None:
    async with open_raw_ws(server, "/ws") as ws:
        await ws.send(data)
        assert await ws.close_code() == code


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
async def test_a_close_is_answered_with_its_code(server: Server, code: int) -> None:
    """7.1.1, 7.7; what comes behind it is not looked at (7.1.2 to 7.1.4)."""
    async with open_raw_ws(server, "/ws") as ws:
        await ws.send(close(code, b"bye") + frame(TEXT, command(1)) + frame(PING, b"x"))
        assert await ws.close_code() == code


@pytest.mark.native(reason="wsproto has it as 1002")
async def test_a_close_within_a_message(server: Server) -> None:
    """7.1.5."""
    async with open_raw_ws(server, "/ws") as ws:
        await ws.send(frame(TEXT, b'{"type"', fin=False) + close(1000) + frame(CONT, b"}"))
        assert await ws.close_code() == 1000


def squeezed(payload: bytes, bits: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


OFFERS = [
    ("13.1", "", 15),
    ("13.2", "; server_no_context_takeover", 15),
    ("13.3", "; server_max_window_bits=9", 15),
    ("13.4", "; server_max_window_bits=15", 15),
    ("13.5", "; server_no_context_takeover; server_max_window_bits=9", 15),
    ("13.7", "; client_max_window_bits=9, permessage-deflate", 9),
]


@pytest.mark.parametrize(("offer", "bits"), [one[1:] for one in OFFERS], ids=[o[0] for o in OFFERS])
async def test_compression(server: Server, api: Api, offer: str, bits: int, lane: Lane) -> None:
    """12 and 13: what is agreed on, and messages both ways. What we send fits the window."""
    await api.reset({"text": "to be or not to be, " * 200})
    extension = f"Sec-WebSocket-Extensions: permessage-deflate{offer}"
    async with open_socket(server) as stream:
        await stream.send_all(upgrade("/ws", extension))
        head = b""
        with trio.fail_after(PATIENCE_S):
            while b"\r\n\r\n" not in head:
                head += await stream.receive_some(1)
        assert b"permessage-deflate" in head
        if lane == "native":
            assert (b"server_max_window_bits=9" in head) == ("server_max_window_bits=9" in offer)
        get = json.dumps({"type": "get", "filter": ".text", "ref": "x" * 100}).encode()
        await stream.send_all(frame(TEXT, squeezed(get, bits), rsv=4))
        window = 9 if "server_max_window_bits=9" in offer else 15
        inflate = zlib.decompressobj(-window)
        seen = b""
        ws = RawWs(stream)
        with trio.fail_after(PATIENCE_S):
            while b'"ref"' not in seen:
                size = await ws._take(2)
                assert size is not None
                length = size[1]
                if length >= 126:
                    more = await ws._take(2 if length == 126 else 8)
                    assert more is not None
                    length = int.from_bytes(more, "big")
                payload = await ws._take(length)
                assert payload is not None
                if size[0] & 0x40:
                    payload = inflate.decompress(payload + b"\x00\x00\xff\xff")
                seen = payload
        assert b"to be or not to be" in seen


TWICE = b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: "
WRONG: list[tuple[str, Callable[[bytes], bytes], int]] = [
    ("version 8", lambda head: head.replace(b"Version: 13", b"Version: 8"), 426),
    ("version 14", lambda head: head.replace(b"Version: 13", b"Version: 14"), 426),
    ("no key", lambda head: b"\r\n".join(x for x in head.split(b"\r\n") if b"-Key" not in x), 400),
    ("a key of 3", lambda head: head.replace(b"-Key: ", b"-Key: abc\r\nX: "), 400),
    ("two keys", lambda head: head.replace(b"\r\nSec-WebSocket-Key: ", TWICE), 400),
]


@pytest.mark.native(reason="Hypercorn refuses handshakes by itself, with 400")
@pytest.mark.parametrize(("change", "status"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
async def test_wrong_handshakes(
    server: Server, change: Callable[[bytes], bytes], status: int
) -> None:
    answer = await exchange(server, change(upgrade()))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (b"\r\nSec-WebSocket-Version: 13\r\n" in answer) == (status == 426)


@pytest.mark.parametrize("path", ["/%ff", "/ws%FF", "/ws/%C3", "/tokens/%ed%a0%80"])
async def test_a_path_that_is_not_utf8_is_refused(server: Server, path: str) -> None:
    plain = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    for head in (upgrade(path), plain):
        answer = await exchange(server, head)
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:80]
        assert b"not UTF-8" in answer


async def test_lines_of_unicode_do_not_cut_an_event(server: Server, api: Api) -> None:
    """U+0085, U+2028 and U+2029 end a line for `str.splitlines`, and with it for the line
    iterators of httpx and requests.
    """
    await api.reset({"a\u0085b\u2028c": "\u2029d"})
    async with open_socket(server) as stream:
        await stream.send_all(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        taken = b""
        with trio.fail_after(PATIENCE_S):
            while b'"more":false}' not in taken:
                taken += await stream.receive_some(65536)
    head, _, body = taken.decode().partition("\r\n\r\n")
    assert "text/event-stream; charset=utf-8" in head
    [items] = [line for line in body.splitlines() if "items" in line]
    found = json.loads(items.removeprefix("data: "))["items"]
    assert found == [{"path": ".", "value": {"a\u0085b\u2028c": "\u2029d"}}]
