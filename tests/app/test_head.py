"""The head parser: what it reads, what it refuses, and that h11 behind it understands the same."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.app.serving import lane
from triode.app.net.body_length import MOST_LINES, Body
from triode.app.net.request_head import (
    BadHead,
    Head,
    answer,
    origin_head,
    parse_head,
    skip_empty_line,
)
from triode.app.net.stream_head import check_websocket, is_upgrade, is_websocket
from triode.app.wire.refusal import Refusal

GET = b"GET /events?filter=.a HTTP/1.1\r\nHost: x\r\n\r\n"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def head(raw: bytes) -> Head:
    parsed = parse_head(raw, peer="127.0.0.1")
    assert parsed is not None
    return parsed[0]


def get(target: str, *fields: str, method: str = "GET", version: str = "1.1") -> Head:
    lines = [f"{method} {target} HTTP/{version}", "Host: x", *fields, "", ""]
    return head("\r\n".join(lines).encode())


def test_reads_a_head_and_says_where_it_ends() -> None:
    parsed = parse_head(GET + b"rest", peer="9.9.9.9", secure=True)
    assert parsed is not None
    found, length = parsed
    assert length == len(GET)
    assert found == Head(
        method="GET",
        target="/events?filter=.a",
        path="/events",
        query="filter=.a",
        headers=[("host", "x")],
        version="1.1",
        peer="9.9.9.9",
        secure=True,
    )
    assert found.get("host") == "x"
    assert found.get("accept") is None


def test_every_beginning_of_a_head_is_incomplete() -> None:
    for end in range(len(GET)):
        assert parse_head(bytearray(GET[:end])) is None


@pytest.mark.parametrize(
    ("query", "params"),
    [
        ("", {}),
        ("a=1&a=2&b=", {"a": ["1", "2"], "b": [""]}),
        ("a&=x&&", {"a": [""], "": ["x"]}),
        ("a=b+c%2B%20d", {"a": ["b c+ d"]}),
        ("filter=.a%5Bx%3D%C3%A9%5D", {"filter": [".a[x=é]"]}),
        ("p=50%&q=%zz", {"p": ["50%"], "q": ["%zz"]}),
    ],
)
def test_params(query: str, params: dict[str, list[str]]) -> None:
    assert get("/x?" + query).params == params


@pytest.mark.parametrize("escape", ["%FF", "%C3", "%ED%A0%80", "a%80b"])
def test_escapes_that_are_not_utf8(escape: str) -> None:
    found = get(f"/?a={escape}")
    with pytest.raises(BadHead) as refusal:
        found.params  # noqa: B018 # the property raises
    assert refusal.value.status == 400
    with pytest.raises(BadHead) as refusal:
        get(f"/{escape}")
    assert refusal.value.status == 400


def test_path_is_decoded_in_the_accessor_only() -> None:
    found = get("/a%2fb%20c?x")
    assert found.path == "/a%2fb%20c"
    assert found.decoded_path == "/a/b c"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://x", "/", ""),
        ("HTTP://x:80/a?b=c", "/a", "b=c"),
        ("http://x?b", "/", "b"),
        ("https://[::1]:8000/a", "/a", ""),
        ("//a?b?c", "//a", "b?c"),
    ],
)
def test_absolute_form(target: str, path: str, query: str) -> None:
    found = get(target)
    assert (found.path, found.query) == (path, query)
    if not target.startswith("/"):
        raw = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        again = head(origin_head(raw, found))
        assert (again.path, again.query, again.target[0]) == (path, query, "/")


def test_asterisk_form_is_for_options() -> None:
    assert get("*", method="OPTIONS").path == "*"
    with pytest.raises(BadHead):
        get("*")


LONG = b"a" * 20_000
BAD: list[tuple[int, bytes]] = [
    (400, b"GET /\r\n\r\n"),
    (400, b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b" GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
    (400, b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / http/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.10\r\nHost: x\r\n\r\n"),
    (400, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /#f HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET http://u@x/a HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    (505, b"GET / HTTP/0.9\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x, y z\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x01\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x7f\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    (400, b"\x00"),
    (400, b"\x80\x01\x00"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000000\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
    (
        400,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
    ),
    (400, b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n"),
    (414, b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    (431, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + LONG + b"\r\n\r\n"),
    (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n"),
]


@pytest.mark.parametrize(("status", "raw"), BAD, ids=lambda value: repr(value)[:60])
def test_refuses(status: int, raw: bytes) -> None:
    expected = 400 if b"\x0b" in raw else status
    with pytest.raises(BadHead) as refusal:
        parse_head(raw)
    assert refusal.value.status == expected
    lines = answer(refusal.value).split(b"\r\n\r\n")[0].split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % expected)
    assert b"Content-Type: application/problem+json" in lines


GOOD = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.2\r\nHost: [::1]:80\r\n\r\n",
    b'!#$ /?a=[1]|{}"<> HTTP/1.1\r\nhOST: \t x \t\r\nA:\r\nB:a\tb\xff\r\n\r\n',
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 007\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a_b.c:1\r\n\r\n",
    b"GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 99 + b"\r\n",
]


def as_h11_sees(raw: bytes) -> h11.Request | None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


def agree(raw: bytes) -> None:
    """Whatever is accepted here is accepted by h11, and means the same."""
    try:
        parsed = parse_head(raw)
    except BadHead:
        return
    if parsed is None:
        return
    ours, length = parsed
    theirs = as_h11_sees(raw[:length])
    assert theirs is not None, raw
    assert as_h11_sees(raw[: length - 1]) is None
    assert theirs.method.decode() == ours.method
    assert theirs.target.decode() == ours.target
    lengths = [value for name, value in theirs.headers if name == b"content-length"]
    assert lengths == ([] if ours.get("content-length") is None else [str_length(ours)])
    assert any(name == b"transfer-encoding" for name, _ in theirs.headers) == ours.chunked
    found = [(name.decode(), value.decode("latin-1")) for name, value in theirs.headers]
    plain = [field for field in ours.headers if field[0] != "transfer-encoding"]
    assert [field for field in found if field[0] != "transfer-encoding"] == plain


def str_length(found: Head) -> bytes:
    return (found.get("content-length") or "").encode()


@pytest.mark.parametrize("raw", GOOD)
def test_accepts_as_h11_does(raw: bytes) -> None:
    assert parse_head(raw) is not None
    agree(raw)


SEED = (
    b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\nUpgrade: h2c\r\n\r\n"
)
PIECES = [
    *(line + b"\r\n" for line in SEED.split(b"\r\n")),
    *(bytes([byte]) for byte in b"\r\n\t :,;0a\0\x0b\x0c\x1c\x85\xa0/*-"),
    b"\r\n",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_pieces_agree_with_h11(raw: bytes) -> None:
    agree(raw)
    agree(b"GET / HTTP/1.1\r\nHost: x\r\n" + raw + b"\r\n")


@given(st.integers(0, len(SEED)), st.integers(0, 8), st.binary(max_size=4), st.sampled_from(GOOD))
def test_damaged_heads_agree_with_h11(at: int, cut: int, put: bytes, raw: bytes) -> None:
    agree(raw[:at] + put + raw[at + cut :])


WEBSOCKET = (
    "Upgrade: foo, WebSocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)


def test_websocket_handshake() -> None:
    assert is_websocket(get("/ws", *WEBSOCKET))
    assert is_upgrade(get("/ws", *WEBSOCKET))
    check_websocket(get("/ws", *WEBSOCKET))
    for left_out in WEBSOCKET[:2]:
        assert not is_websocket(get("/ws", *(field for field in WEBSOCKET if field != left_out)))
    assert not is_websocket(get("/ws", *WEBSOCKET, method="POST"))
    assert not is_websocket(get("/ws", *WEBSOCKET, version="1.0"))
    assert not is_websocket(get("/ws", *WEBSOCKET, "Content-Length: 1"))


@pytest.mark.parametrize("key", [KEY[:-1], KEY + "=", "A" * 24, "*" * 24, "é" * 24, ""])
def test_websocket_key(key: str) -> None:
    fields = (*WEBSOCKET[:3], f"Sec-WebSocket-Key: {key}")
    with pytest.raises(Refusal) as refused:
        check_websocket(get("/ws", *fields))
    assert refused.value.status == 400


def test_websocket_key_twice() -> None:
    with pytest.raises(Refusal) as refused:
        check_websocket(get("/ws", *WEBSOCKET, WEBSOCKET[3]))
    assert refused.value.status == 400


@pytest.mark.parametrize("version", ["8", "14", "13, 13", "", "thirteen"])
def test_websocket_version(version: str) -> None:
    fields = (*WEBSOCKET[:2], f"Sec-WebSocket-Version: {version}", WEBSOCKET[3])
    with pytest.raises(Refusal) as refused:
        check_websocket(get("/ws", *fields))
    assert refused.value.status == 426
    assert refused.value.headers["Sec-WebSocket-Version"] == "13"


def test_lane() -> None:
    wants = lane(streams=frozenset({"/events"}), sockets=frozenset({"/ws", "/ws2"}))
    assert wants(get("/events?x"))
    assert wants(get("/ws2", *WEBSOCKET))
    assert not wants(get("/ws"))
    assert not wants(get("/events", method="POST"))
    assert not wants(get("/events", "Content-Length: 3"))
    assert not wants(get("/events", *WEBSOCKET))
    assert not wants(get("/eventS"))
    assert wants(get("/events", "Content-Length: 0"))


def test_a_request_line_beyond_ascii_is_told_what_to_do() -> None:
    with pytest.raises(BadHead, match="percent-encode it"):
        head("GET /store?path=.é HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def test_empty_line_before_a_request() -> None:
    buffer = bytearray(b"\r\n\r\nG")
    skip_empty_line(buffer)
    assert buffer == b"\r\nG"


def body(framing: bytes) -> Body:
    return Body(head(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n"))


CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b'3\r\nabc\r\n0a;x="y"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n'


@pytest.mark.parametrize(
    ("framing", "data"),
    [
        (b"A: b", b""),
        (b"Content-Length: 0", b""),
        (b"Content-Length: 5", b"abcde"),
        (CHUNKED, CHUNKS),
        (CHUNKED, b"0\r\n\r\n"),
        (CHUNKED, b"1 \r\na\r\n000\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_body_ends_where_it_ends(framing: bytes, data: bytes, step: int) -> None:
    stream = data + b"GET / HTTP/1.1\r\n"
    counted = body(framing)
    seen = 0
    while not counted.done:
        piece = stream[seen : seen + step]
        taken = counted.feed(piece)
        assert taken == len(piece) or counted.done
        seen += taken
    assert seen == len(data)
    assert counted.feed(b"x") == 0


def test_of_many_small_chunks_some_are_looked_at_in_one_go() -> None:
    """11 000 of them, in what a socket gives at once, held everybody up for 20 ms."""
    counted = body(CHUNKED)
    data = b"1\r\nx\r\n" * 100 + b"0\r\n" + b"A: b\r\n" * 100 + b"\r\nGET"
    taken: list[int] = []
    while not counted.done:
        taken.append(counted.feed(data[sum(taken) :]))
    assert sum(taken) == len(data) - len(b"GET")
    assert max(taken[:-1]) == 6 * MOST_LINES // 2
    assert len(taken) == 7


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"1\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1 ;x\r\n",
        b"1;a\x00\r\n",
        b"1;a\rb\r\n",
        b"f" * 16 + b"\r\n",
        b"1;" + b"x" * 2000,
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: \x01\r\n\r\n",
        b"0\r\n" + b"A: bbbbbbbbbbbbbbbbbbbbb\r\n" * 1000,
    ],
)
def test_malformed_chunks(data: bytes) -> None:
    with pytest.raises(BadHead):
        body(CHUNKED).feed(data)


CHUNK_PIECES = [
    b"0\r\n",
    b"1\r\n",
    b"a",
    b"\r\n",
    b"\n",
    b"\r",
    b";x",
    b" ",
    b"A: b\r\n",
    b"\r\n\r\n",
]


@given(st.lists(st.sampled_from(CHUNK_PIECES), max_size=14).map(b"".join))
def test_chunks_end_where_h11_ends_them(data: bytes) -> None:
    counted = body(CHUNKED)
    try:
        taken = counted.feed(data)
    except BadHead:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"\r\n\r\n" + data)
    assert isinstance(connection.next_event(), h11.Request)
    ended = False
    while not ended:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return  # h11 refuses more, which ends the connection
        if event is h11.NEED_DATA:
            break
        ended = isinstance(event, h11.EndOfMessage)
    assert ended == counted.done
    if ended:
        assert connection.trailing_data[0] == data[taken:]
