"""The head of an HTTP/1.x request: what a client sends before any body, and the parser that reads
it.

The parser is sans-I/O and deliberately stricter than h11, which sits behind it on the handed-off
lane. Two parsers that look at the same bytes are how requests are smuggled, so the rule is:
**whatever this one accepts, h11 accepts with the same meaning** (a test holds it). Refused here,
although h11 or RFC 9112 would let a recipient be lenient:

- a bare LF or bare CR anywhere, obs-fold, white space before the colon, control characters in
  values;
- repeated or conflicting Content-Length, Transfer-Encoding beside Content-Length, Transfer-Encoding
  in HTTP/1.0;
- a Host field that is no host, also in HTTP/1.0; CONNECT, userinfo and fragments in the target.

`path` and `query` are kept as they were sent. Percent-decoding happens once, in the accessors, so
that the predicate that chooses the lane and the router behind it cannot disagree about a doubly
decoded byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from email.utils import formatdate
from functools import cached_property
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from triode.app.wire.refusal import Refusal

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 100
# Past 18 digits a length is an attack, not a body, and other parsers start to differ (64 bits, 20
# digits).
MAX_LENGTH_DIGITS: Final = 18

# Everything RFC 9110 section 5.5 keeps out of a field value, and every CR or LF that is not part of
# a CRLF.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
# As above, for bytes that may end between the CR and its LF.
_FORBIDDEN_SO_FAR = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?![\n]|\Z)|(?<!\r)\n")
_REQUEST_LINE = re.compile(
    r"(?P<method>[-!#$%&'*+.^_`|~0-9A-Za-z]{1,32}) (?P<target>[\x21-\x7e]+) "
    r"HTTP/(?P<version>[0-9]\.[0-9])"
)
# Fields that hold one value. Of two lines a proxy may believe one and we the other; joined they are
# a value that nobody sent. `Host` and `Content-Length` are below, `Content-Type` where bodies are
# read; the other fields that count here are lists, and mean joined what they mean in one line.
_ONCE: Final = {
    name.lower(): name
    for name in (
        "Authorization",
        "X-API-Key",
        "Origin",
        "Last-Event-ID",
        "Idempotency-Key",
        "If-Position",
    )
}
_FIELD_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_HOST = re.compile(r"(?:[-A-Za-z0-9._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_ABSOLUTE = re.compile(r"(?i:https?)://(?P<authority>[^/?#@]+)(?P<rest>[/?].*|)")


class BadHead(Refusal):
    """The client's fault in a request head: status 400, 414, 431, 501 or 505.

    The connection ends with it.
    """


class Head(Struct, frozen=True, dict=True):
    """One request head. Field names are lower case; `path` and `query` are as sent, not decoded.

    `version` is "1.0" or "1.1", or what an ASGI server says ("2") when a blueprint builds the head.
    `peer` is the address of the other end without its port; `secure` says that it came over TLS.
    """

    method: str
    target: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    version: str
    peer: str
    secure: bool

    @cached_property
    def get(self) -> Callable[[str], str | None]:
        """`get(name)`: the value of the field `name` (lower case), all its lines joined in order;
        None when there is none.

        A list may come in several lines and means the same as in one (RFC 9110 section 5.3). The
        rule is the same for every field, so nobody has to know which of them are lists: one that
        may come once only becomes a value that is none, and is never half believed.
        """
        # The dict's own method: a request asks for some twenty fields, most of which it has not.
        joined: dict[str, str] = {}
        for name, value in self.headers:
            before = joined.get(name)
            if before is None:
                joined[name] = value
            else:
                # Cookies alone have a joint of their own (RFC 9113 section 8.2.3).
                joined[name] = before + ("; " if name == "cookie" else ", ") + value
        return joined.get

    def members(self, name: str) -> list[str]:
        """The members of a comma-separated list field, over all its lines (RFC 9110 section
        5.6.1)."""
        value = self.get(name)
        return [part.strip() for part in value.split(",") if part.strip()] if value else []

    def tokens(self, name: str) -> list[str]:
        """As `members`, in lower case: for lists of words whose case means nothing."""
        return [part.lower() for part in self.members(name)]

    @cached_property
    def params(self) -> dict[str, list[str]]:
        """The query as a form: names in order, blank values kept. Not to be changed.

        Raises BadHead for escapes that are not UTF-8.
        """
        params: dict[str, list[str]] = {}
        for pair in self.query.split("&"):
            if pair:
                name, _, value = pair.replace("+", " ").partition("=")
                params.setdefault(_decoded(name), []).append(_decoded(value))
        return params

    @property
    def decoded_path(self) -> str:
        """The path with its escapes decoded. Raises BadHead for escapes that are not UTF-8."""
        return _decoded(self.path)

    @cached_property
    def content_length(self) -> int | None:
        """The announced length of the body in bytes; None when none was announced."""
        value = self.get("content-length")
        return None if value is None else int(value)

    @cached_property
    def chunked(self) -> bool:
        """Whether a chunked body follows."""
        return self.get("transfer-encoding") is not None

    @cached_property
    def closes(self) -> bool:
        """Whether the client wants the connection to end with the answer."""
        return "close" in self.tokens("connection")

    @property
    def has_body(self) -> bool:
        """Whether at least one body byte or chunk header follows the head."""
        return self.chunked or bool(self.content_length)


def parse_head(
    buffer: bytes | bytearray,
    *,
    max_bytes: int = MAX_HEAD_BYTES,
    peer: str = "",
    secure: bool = False,
) -> tuple[Head, int] | None:
    """Read one head from the start of `buffer`: the head and its length in bytes, or None when it
    is not all there.

    Raises BadHead as soon as the bytes that are there can no longer become a head that would be
    accepted: also when `max_bytes` are there without an end (414 if not even the request line
    ended, else 431).
    """
    end = buffer.find(b"\r\n\r\n", 0, max_bytes)
    if end < 0:
        _check_beginning(buffer, max_bytes)
        return None
    raw = bytes(buffer[:end])
    if _FORBIDDEN.search(raw):
        raise BadHead(
            400, "The request head holds a control character or a line that does not end in CRLF."
        )
    lines = raw.decode("latin-1").split("\r\n")
    method, target, version = _request_line(lines[0])
    headers = _fields(lines)
    path, query = _split_target(method, target)
    _decoded(path)  # whoever asks for the decoded path later must not be the first to refuse it
    head = Head(method, target, path, query, headers, version, peer, secure)
    check_fields(head)
    return head, end + 4


def _check_beginning(buffer: bytes | bytearray, max_bytes: int) -> None:
    """Refuse an unfinished head that is too long or already wrong, rather than wait for its
    deadline."""
    line_end = buffer.find(b"\r\n", 0, max_bytes)
    if len(buffer) >= max_bytes:
        if line_end < 0:
            raise BadHead(
                414,
                f"The request line is longer than {max_bytes} bytes.",
                extra={"limit": max_bytes},
            )
        raise BadHead(
            431, f"The request head is longer than {max_bytes} bytes.", extra={"limit": max_bytes}
        )
    if _FORBIDDEN_SO_FAR.search(buffer):
        raise BadHead(
            400, "The request head holds a control character or a line that does not end in CRLF."
        )
    if line_end >= 0:
        _request_line(buffer[:line_end].decode("latin-1"))


def _request_line(line: str) -> tuple[str, str, str]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if not line.isascii():
            raise BadHead(400, "The request line is not ASCII: percent-encode it (é is %C3%A9).")
        raise BadHead(400, "The request line is malformed.")
    method, target, version = match.groups()
    if version[0] != "1":
        raise BadHead(505, f"HTTP/{version} is not spoken here; use HTTP/1.1.")
    # A later minor version is understood as the highest one we speak (RFC 9110 section 6.2).
    return method, target, "1.0" if version == "1.0" else "1.1"


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    if len(lines) - 1 > MAX_FIELDS:
        detail = f"The request has more than {MAX_FIELDS} header fields."
        raise BadHead(431, detail, extra={"limit": MAX_FIELDS})
    headers: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        # A leading space (obs-fold) or one before the colon fails as a name that is no token.
        if not colon or _FIELD_NAME.fullmatch(name) is None:
            raise BadHead(400, "A header field is malformed.")
        headers.append((name.lower(), value.strip(" \t")))
    return headers


def _split_target(method: str, target: str) -> tuple[str, str]:
    """Path and query of an origin-form or absolute-form target, or of `OPTIONS *` (RFC 9112 section
    3.2)."""
    if method == "CONNECT":
        raise BadHead(501, "This server is no proxy: CONNECT is not implemented.")
    if "#" in target:
        raise BadHead(400, "The request target holds a fragment.")
    if not target.startswith("/"):
        if target == "*" and method == "OPTIONS":
            return "*", ""
        target = _origin_form(target)
    path, _, query = target.partition("?")
    return path, query


def _origin_form(target: str) -> str:
    match = _ABSOLUTE.fullmatch(target)
    if match is None or _HOST.fullmatch(match["authority"]) is None:
        raise BadHead(400, "The request target is neither a path nor an http URL.")
    rest = match["rest"]
    return rest if rest.startswith("/") else "/" + rest


def check_fields(head: Head) -> None:
    """The fields that decide where a request goes and where it ends (RFC 9112 sections 3.2 and
    6). Raises BadHead. For heads that another server has read, too.
    """
    hosts = lengths = codings = 0
    seen: set[str] = set()
    for name, value in head.headers:
        if name == "host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                raise BadHead(400, "The Host field is no host.")
        elif name == "content-length":
            lengths += 1
            if not (value.isascii() and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS):
                raise BadHead(400, "Content-Length is not a number of bytes.")
        elif name == "transfer-encoding":
            codings += 1
            _check_coding(value, head.version)
        elif name in _ONCE:
            if name in seen:
                raise BadHead(
                    400,
                    f"{_ONCE[name]} is there more than once; send it in one line, with one value.",
                )
            seen.add(name)
    if hosts > 1 or (not hosts and head.version == "1.1"):
        raise BadHead(400, "HTTP/1.1 needs exactly one Host field.")
    if lengths + codings > 1:
        raise BadHead(
            400,
            "The length of the body is given more than once (Content-Length, Transfer-Encoding).",
        )


def check_foreign(head: Head) -> None:
    """What is still to be seen of a head that another server's parser has let through. Raises
    BadHead, after which an HTTP/1 connection has to end: the two may not agree where the next
    request begins.
    """
    try:
        if head.version not in ("1.0", "1.1", "2", "3"):
            raise BadHead(505, f"HTTP/{head.version} is not spoken here; use HTTP/1.1.")
        _decoded(_split_target(head.method, head.target)[0])
        for name, value in head.headers:
            if _FORBIDDEN.search(f"{name}:{value}".encode("latin-1")):
                raise BadHead(400, "A header field holds a control character.")
        check_fields(head)
    except BadHead as refusal:
        if head.version not in ("2", "3"):
            refusal.headers["Connection"] = "close"
        raise


def _check_coding(value: str, version: str) -> None:
    if version == "1.0":
        raise BadHead(400, "Transfer-Encoding does not exist in HTTP/1.0.")
    if value.lower() != "chunked":
        raise BadHead(501, "The only Transfer-Encoding understood here is chunked.")


def _decoded(text: str) -> str:
    """Decode the escapes of a path or form part.

    A `%` that starts no escape stays as it is, as browsers have it.
    """
    if "%" not in text:
        return text
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise BadHead(400, "A percent escape in the request target is not UTF-8.") from None


def origin_head(raw: bytes, head: Head) -> bytes:
    """The bytes of `head` with an absolute-form target made a path, for servers that only know
    paths."""
    if head.target.startswith("/") or head.target == "*":
        return raw
    short = head.path + ("?" + head.query if head.query else "")
    return raw.replace(head.target.encode("latin-1"), short.encode("latin-1"), 1)


def skip_empty_line(buffer: bytearray) -> None:
    """Drop one empty line before a request line, as RFC 9112 section 2.2 asks (some clients end a
    body with it)."""
    if buffer[:2] == b"\r\n":
        del buffer[:2]


def answer(refusal: Refusal) -> bytes:
    """A whole HTTP/1.1 answer for a refusal, after which the connection closes."""
    body = json.dumps(refusal.body(), separators=(",", ":")).encode()
    fields = {
        "Date": formatdate(usegmt=True),
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
        **refusal.headers,
    }
    lines = [
        f"HTTP/1.1 {refusal.status} {refusal.title}",
        *(f"{k}: {v}" for k, v in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
