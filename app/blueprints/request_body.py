"""The content of requests (RFC 9110 section 6.4): what type it claims to be, how much is read, what
JSON it holds.

- The limit is exact. A body of just `limit` bytes passes, one more is refused with 413, whether its
  length is declared or not. A declared length is refused before a byte is read; an undeclared one
  as soon as the limit is passed.
- A refused body is still read for a moment, and thrown away (`discard`). A socket that is closed
  with unread bytes in it is reset, and the reset overtakes the answer: the client would see a
  broken connection instead of its 413.
- A body has a deadline, which moves on only as fast as bytes arrive at `MIN_BYTES_PER_S`: 20 MiB
  over a thin line may take its minutes, a client that sends a byte now and then may not hold a
  buffer for hours.
- Decoding a large body is cut into slices with checkpoints between, so nobody else waits for it.

Reading is cancellable at any point; what was read is then dropped. Quart receives for us in a task
of its own and holds nothing back, so what nobody reads is bounded by the application's
`MAX_CONTENT_LENGTH` (`blueprints.errors.install`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import trio
from quart import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header

from triode.app.runtime.decoding import AT_ONCE_BYTES, decode_in_turns
from triode.app.wire.known_names import check_members
from triode.app.wire.refusal import Refusal, bad_request
from triode.limits.ledger import Overdrawn
from triode.store.value import Json, JsonError, decode

if TYPE_CHECKING:
    from triode.app.net.request_head import Head
    from triode.app.runtime.metrics import Metrics
    from triode.limits.ledger import Account, Hold

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"

FIRST_DEADLINE_S: Final = 60.0
MIN_BYTES_PER_S: Final = 64 * 1024
# Up to here a body is decoded in one go.
ONE_GO_BYTES: Final = 1024 * 1024
# How long, and how much, of a refused body is read for the sake of its answer.
# Measured: what Quart and Hypercorn take for a request whose body is awaited.
REQUEST_BYTES: Final = 18_000
DISCARD_S: Final = 5.0
DISCARD_BYTES: Final = 64 * 1024 * 1024


def media_type(head: Head, accepted: Sequence[str]) -> str:
    """The one of `accepted` that the body claims to be. Raises Refusal 415, which lists them, also
    for a body that is compressed: how much is in it would only be known once it is read.

    JSON is UTF-8 (RFC 8259 section 8.1): another charset is refused, not guessed at. This also
    keeps web pages of other origins out: a form cannot claim to be JSON, and a script that does is
    stopped by its preflight.
    """
    said = head.get("content-type")
    coded = head.get("content-encoding")
    if said is not None and said in accepted and coded is None:  # most requests
        return said
    if coded and coded.lower() != "identity":
        raise Refusal(
            415,
            f"Content-Encoding says {coded[:64]}; send the body as it is",
            headers={"Accept-Encoding": "identity"},
        )
    # Two that differ are no type at all; twice the same is only somebody who adds it blindly.
    lines = dict.fromkeys([value for name, value in head.headers if name == "content-type"])
    given, parameters = parse_options_header(", ".join(lines))
    kind = given.lower()
    charset = parameters.get("charset", "utf-8").lower()
    if kind in accepted and charset in ("utf-8", "utf8", "us-ascii"):
        return kind
    said = f"{kind} in {charset}" if kind in accepted else kind or "nothing"
    raise Refusal(
        415,
        f"Content-Type says {said}; send {' or '.join(accepted)}, in UTF-8",
        extra={"accepted": list(accepted)},
        headers={"Accept-Patch" if head.method == "PATCH" else "Accept": ", ".join(accepted)},
    )


async def read_body(body: Request | bytes, limit: int, bodies: Account) -> bytes | bytearray:
    """All of the body of a request, at most `limit` bytes; what came with its head is there already
    (see `Visit`). While it comes it stands in the account `bodies`.

    Raises Refusal 413 above the limit, 408 when it comes too slowly, 503 when all bodies together
    are too much.
    """
    if isinstance(body, bytes):
        if len(body) > limit:
            raise too_large(limit)
        if not bodies.has_room(len(body)):
            raise _too_many()
        return body
    with bodies.hold() as hold:
        return await _receive(body, limit, hold)


def _too_many() -> Refusal:
    return Refusal(
        503,
        "too many bodies are on their way; retry in a second",
        extra={"retry_after": 1},
        headers={"Retry-After": "1"},
    )


async def _receive(request: Request, limit: int, hold: Hold) -> bytearray:
    declared = request.content_length
    if declared is not None and declared > limit:
        raise too_large(limit)
    data = bytearray()
    started = trio.current_time()
    try:
        hold.take(REQUEST_BYTES)
        with trio.fail_at(started + FIRST_DEADLINE_S) as scope:
            async for chunk in request.body:
                hold.take(len(chunk))
                data += chunk
                if len(data) > limit:
                    raise too_large(limit)
                if len(data) != declared:  # more comes
                    scope.deadline = started + FIRST_DEADLINE_S + len(data) / MIN_BYTES_PER_S
    except trio.TooSlowError:
        waited_s = trio.current_time() - started
        raise Refusal(408, f"after {waited_s:.0f} s the body is still not complete") from None
    except Overdrawn:
        raise _too_many() from None
    except RequestEntityTooLarge:
        # The application's own limit came first: an embedding one may have a smaller limit than
        # ours.
        own = request.max_content_length
        raise too_large(limit if own is None else min(own, limit)) from None
    return data


@contextmanager
def in_hand(metrics: Metrics, head: Head) -> Iterator[None]:
    """While a large body is read, decoded and written, `metrics.large_bodies` counts it.

    The garbage collector puts nothing aside meanwhile (`app.service.gc_policy`).
    """
    large = (head.content_length or 0) > ONE_GO_BYTES or head.chunked
    metrics.large_bodies += large
    try:
        yield
    finally:
        metrics.large_bodies -= large


def too_large(limit: int) -> Refusal:
    """413 that names the limit, in bytes."""
    return Refusal(
        413, f"a body may hold {limit} bytes, this one is larger", extra={"limit": limit}
    )


async def read_json(
    body: Request | bytes, limit: int, bodies: Account, *, max_depth: int = 256
) -> Json:
    """The body as JSON. Raises Refusal 413, 408, or 400 with `offset`, the byte of the fault."""
    return await decode_json(await read_body(body, limit, bodies), max_depth=max_depth)


async def decode_json(data: bytearray | bytes, *, max_depth: int = 256) -> Json:
    """Decode, with checkpoints when it is much.

    Raises Refusal 400 with `offset` where there is one.
    """
    if not data:
        raise bad_request("the body is empty; JSON is wanted")
    try:
        if len(data) <= AT_ONCE_BYTES:
            return decode(data, max_depth=max_depth)
        return await decode_in_turns(data, max_depth=max_depth)
    except JsonError as error:
        raise malformed(error) from error


def malformed(error: JsonError) -> Refusal:
    """400 for text that is not acceptable JSON."""
    extra = {} if error.offset is None else {"offset": error.offset}
    return bad_request(f"not acceptable JSON: {error.detail}", **extra)


def members(value: Json, known: Sequence[str]) -> dict[str, Any]:
    """`value` as an object with none but `known` members. Raises Refusal 400.

    An unknown member is refused: a misspelt one would be passed over without a word.
    """
    if not isinstance(value, dict):
        raise bad_request(f"send a JSON object with any of: {', '.join(known)}")
    check_members(value, known)
    return value


def has_content(head: Head) -> bool:
    """Whether the request has a body. In HTTP/2 only its type may say so; `curl -d ''` gives a
    type to nothing.
    """
    length = head.content_length
    if length is not None:
        return length > 0
    return head.chunked or head.get("content-type") is not None


def is_unread(request: Request) -> bool:
    """Whether the client may still be sending a body nobody has asked for."""
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    return bool(has_body) and not request.body._complete.is_set()


async def discard(request: Request) -> None:
    """Read on and throw away, within bounds, so that a client that still sends gets its answer."""
    dropped = 0
    with trio.move_on_after(DISCARD_S):
        try:
            async for chunk in request.body:
                dropped += len(chunk)
                if dropped > DISCARD_BYTES:
                    return
        except RequestEntityTooLarge:
            # Quart drops the bytes itself from here on; what is left to wait for is their end.
            await request.body._complete.wait()
