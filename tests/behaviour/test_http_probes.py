"""Faults of HTTP/1.1 (RFC 9112), side by side on both lanes: what one refuses, the other does too.

The native lane reads every head by itself and refuses all of these. Under Hypercorn h11 reads them
first; what it mends or hides before the application is asked, is in `H11` with the reason, and in
docs/configuration.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import trio

from .server import Lane, Server
from .websocket import open_socket

pytestmark = pytest.mark.trio

GOOD = "GET /healthz HTTP/1.1"
HOST = "Host: localhost"
CONTROLS = [0, 1, 7, 8, 11, 12, 14, 27, 31, 127]


def head(*lines: str, body: str = "", end: str = "\r\n") -> bytes:
    return (end.join([*lines, "", ""]) + body).encode("latin-1")


def request_lines() -> Iterator[tuple[str, bytes]]:
    for name, line in {
        "no version": "GET /healthz",
        "no target": "GET HTTP/1.1",
        "two spaces": "GET  /healthz HTTP/1.1",
        "two spaces before the version": "GET /healthz  HTTP/1.1",
        "tab": "GET\t/healthz\tHTTP/1.1",
        "space at the end": "GET /healthz HTTP/1.1 ",
        "space at the start": " GET /healthz HTTP/1.1",
        "space in the target": "GET /health z HTTP/1.1",
        "lower case version": "GET /healthz http/1.1",
        "version of one part": "GET /healthz HTTP/1",
        "version of three parts": "GET /healthz HTTP/1.1.1",
        "version with zeros": "GET /healthz HTTP/01.01",
        "version with a letter": "GET /healthz HTTP/1.x",
        "other protocol": "GET /healthz HTTPS/1.1",
        "HTTP/2": "GET /healthz HTTP/2.0",
        "HTTP/9": "GET /healthz HTTP/9.9",
        "method with a colon": "GE:T /healthz HTTP/1.1",
        "method with brackets": "G[E]T /healthz HTTP/1.1",
        "empty method": " /healthz HTTP/1.1",
        "quoted target": 'GET "/healthz" HTTP/1.1 x',
        "no slash": "GET healthz HTTP/1.1",
        "star": "GET * HTTP/1.1",
        "fragment": "GET /healthz#a HTTP/1.1",
        "userinfo": "GET http://a@localhost/healthz HTTP/1.1",
        "other scheme": "GET ftp://localhost/healthz HTTP/1.1",
        "authority alone": "GET localhost:80 HTTP/1.1",
        "CONNECT": "CONNECT localhost:80 HTTP/1.1",
        "letters beyond ASCII": "GET /h\xe9 HTTP/1.1",
    }.items():
        yield f"request line: {name}", head(line, HOST)
    for code in CONTROLS:
        yield f"request line: control {code}", head(f"GET /healthz?{chr(code)} HTTP/1.1", HOST)


def fields() -> Iterator[tuple[str, bytes]]:
    for name, line in {
        "no colon": "Host x",
        "space before the colon": "X : y",
        "tab before the colon": "X\t: y",
        "empty name": ": y",
        "space in the name": "X Y: z",
        "obs-fold": "X: y\r\n z",
        "obs-fold by a tab": "X: y\r\n\tz",
        "name with a slash": "X/Y: z",
        "name with a quote": 'X"Y: z',
        "name with brackets": "X[Y]: z",
        "name beyond ASCII": "X\xe9: z",
    }.items():
        yield f"field: {name}", head(GOOD, HOST, line)
    for code in CONTROLS:
        yield f"field: control {code} in a value", head(GOOD, HOST, f"X: a{chr(code)}b")
        yield f"field: control {code} in a name", head(GOOD, HOST, f"X{chr(code)}: b")
    yield "field: bare CR in a value", head(GOOD, HOST, "X: a\rb")
    yield "field: bare LF in a value", head(GOOD, HOST, "X: a\nY: b")
    yield "field: bare LF everywhere", head(GOOD, HOST, end="\n")
    yield "field: bare LF at the end", (f"{GOOD}\r\n{HOST}\r\n\n").encode()
    yield "field: fold before the first", head(GOOD, " X: y", HOST)
    yield "field: too many", head(GOOD, HOST, *["X: y"] * 40_000)


def hosts() -> Iterator[tuple[str, bytes]]:
    yield "host: none", head(GOOD)
    yield "host: two", head(GOOD, HOST, HOST)
    yield "host: two that differ", head(GOOD, HOST, "Host: other")
    for name, value in {
        "with a path": "localhost/x",
        "with userinfo": "a@localhost",
        "with a space": "local host",
        "with a query": "localhost?x",
        "with a fragment": "localhost#x",
        "with a port of letters": "localhost:http",
        "with two ports": "localhost:1:2",
        "with an open bracket": "[::1",
        "with brackets and letters": "[localhost]",
        "with a comma and a space": "localhost, other",
        "with a quote": '"localhost"',
        "with a backslash": "localhost\\x",
        "with angles": "<localhost>",
    }.items():
        yield f"host: {name}", head(GOOD, f"Host: {value}")


def lengths() -> Iterator[tuple[str, bytes]]:
    post = "POST /store?path=.probe HTTP/1.1"
    json = "Content-Type: application/json"
    for name, values in {
        "negative": ["-1"], "plus": ["+1"], "hexadecimal": ["0x1"], "letters": ["one"],
        "empty": [""], "decimal": ["1.0"], "with a space": ["1 1"], "underscore": ["1_0"],
        "of 30 digits": ["1" * 30], "exponent": ["1e0"], "list that differs": ["1, 2"],
        "two that differ": ["1", "2"], "beyond ASCII": ["\xb2"],
    }.items():  # fmt: skip
        lines = [f"Content-Length: {value}" for value in values]
        yield f"length: {name}", head(post, HOST, json, *lines, body="1")
    chunked = "Transfer-Encoding: chunked"
    whole = "1\r\n1\r\n0\r\n\r\n"
    yield (
        "coding: beside a length",
        head(post, HOST, json, chunked, "Content-Length: 1", body=whole),
    )
    yield (
        "coding: after a length",
        head(post, HOST, json, "Content-Length: 11", chunked, body=whole),
    )
    for name, value in {
        "unknown": "x", "gzip": "gzip", "gzip, chunked": "gzip, chunked", "identity": "identity",
        "chunked twice": "chunked, chunked", "chunked first": "chunked, gzip", "empty": "",
        "quoted": '"chunked"', "with a parameter": "chunked;a=b", "vertical tab": "\x0bchunked",
        "letters behind": "chunkedx",
    }.items():  # fmt: skip
        yield f"coding: {name}", head(post, HOST, json, f"Transfer-Encoding: {value}", body=whole)
    yield "coding: two lines", head(post, HOST, json, chunked, chunked, body=whole)
    old = "POST /store?path=.probe HTTP/1.0"
    yield "coding: in HTTP/1.0", head(old, HOST, json, chunked, body=whole)
    for name, body in {
        "no size": "\r\n1\r\n0\r\n\r\n", "negative": "-1\r\n1\r\n0\r\n\r\n",
        "plus": "+1\r\n1\r\n0\r\n\r\n", "prefix": "0x1\r\n1\r\n0\r\n\r\n",
        "letters": "g\r\n1\r\n0\r\n\r\n", "space before": " 1\r\n1\r\n0\r\n\r\n",
        "too long a size": "0" * 40 + "1\r\n1\r\n0\r\n\r\n", "bare LF": "1\n1\n0\n\n",
        "longer than said": "1\r\n11\r\n0\r\n\r\n", "underscore": "1_0\r\n1\r\n0\r\n\r\n",
    }.items():  # fmt: skip
        yield f"chunk: {name}", head(post, HOST, json, chunked, body=body)


PROBES = [*request_lines(), *fields(), *hosts(), *lengths()]

# What h11 mends or hides before the application is asked, and what is then answered: some targets
# reach no route, and the lines of a head are put right.
NO_ROUTE, MENDED = {404, 405}, {200}
H11 = {
    "request line: star": NO_ROUTE,
    "request line: fragment": NO_ROUTE,
    "request line: authority alone": NO_ROUTE,
    "request line: CONNECT": NO_ROUTE,
    "field: obs-fold": MENDED,
    "field: obs-fold by a tab": MENDED,
    "field: bare LF in a value": MENDED,
    "field: bare LF everywhere": MENDED,
    "field: bare LF at the end": MENDED,
}


async def ask(server: Server, data: bytes) -> int | None:
    """The status of the first answer; None when the server only closes."""
    answer = b""
    async with open_socket(server) as stream:
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(3):
            await stream.send_all(data)
            while b"\r\n" not in answer and (got := await stream.receive_some(65536)):
                answer += got
    return int(answer.split(b" ", 2)[1]) if answer else None


async def test_there_are_many_and_each_has_a_name() -> None:
    assert len(PROBES) >= 100
    names = {name for name, _ in PROBES}
    assert len(names) == len(PROBES)
    assert H11.keys() <= names
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(("name", "data"), PROBES, ids=[name for name, _ in PROBES])
async def test_a_fault_is_refused(server: Server, lane: Lane, name: str, data: bytes) -> None:
    status = await ask(server, data)
    if lane == "hypercorn" and name in H11:
        assert status in H11[name]
        return
    assert status is None or status in (400, 411, 414, 431, 501, 505), status
