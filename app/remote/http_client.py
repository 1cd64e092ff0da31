"""The command line's side of a server: requests, refusals, and event streams that reconnect.

    ClientError
    ├── Refused          the server answered no, with a problem object (RFC 9457)
    └── CannotConnect    there was no answer

A write that ended in `CannotConnect` may have been applied, or not: nothing is sent twice.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import msgspec
import trio

from triode.app.wire.sse_parser import SseParser, StreamEvent

CONNECT_S: Final = 20.0
CLOSE_S: Final = 2.0
# A body of the largest size has to be taken, applied and answered in this time.
ANSWER_S: Final = 120.0
# An event stream is dead after this many heartbeats without a byte.
SILENT_HEARTBEATS: Final = 3
DEFAULT_HEARTBEAT_S: Final = 15.0
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 30.0
# `closing` for one of these: the same request would end the same way (docs/wire.md, close codes
# 44xx).
FINAL_REASONS: Final = frozenset({"token_ended", "not_allowed", "rate"})

Params = Sequence[tuple[str, str]]


class ClientError(Exception):
    """What a request can end in, other than its answer."""


class CannotConnect(ClientError):
    """Nobody answered at the URL, or the connection broke before the answer was complete.

    `in_doubt`: a write had begun to be sent, and may have been applied.
    """

    def __init__(self, detail: str, *, in_doubt: bool = False) -> None:
        super().__init__(detail)
        self.in_doubt = in_doubt


class Refused(ClientError):
    """The server's no. `problem` has at least `title`, `status` and `detail`.

    `is_triodes` is false for the answer of a proxy, or of whatever else is there.
    """

    def __init__(
        self,
        problem: Mapping[str, Any],
        retry_after_s: float | None = None,
        *,
        is_triodes: bool = True,
    ) -> None:
        super().__init__(f"{problem['title']}: {problem['detail']}")
        self.problem = dict(problem)
        self.status = int(problem["status"])
        self.retry_after_s = retry_after_s
        self.is_triodes = is_triodes

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again, of a server that has answered before:
        a proxy whose server is away says all kinds of things.
        """
        return self.is_triodes and self.status not in (408, 425, 429, 500, 502, 503, 504)


class HttpClient:
    """Talks to one server. Use it as an async context manager; leaving it closes its connections.

    `transport` replaces the network, for tests. The token is sent as a header and never shown.
    """

    def __init__(
        self, url: str, token: str | None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            transport=transport,
        )

    async def __aenter__(self) -> HttpClient:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        with trio.move_on_after(CLOSE_S, shield=True):
            await self._client.__aexit__(*exc)

    async def request(
        self,
        method: str,
        route: str,
        *,
        params: Params = (),
        content: bytes | AsyncIterator[bytes] | None = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Make one request and give its answer, whole. Raises `Refused` or `CannotConnect`.

        `content` may be an iterator over the body's pieces.
        """
        fields = dict(headers or {})
        if content is not None:
            fields["Content-Type"] = content_type
        try:
            response = await self._client.request(
                method, route, params=list(params), content=content, headers=fields
            )
        except httpx.TransportError as exc:
            raise self._broken(exc, written=method != "GET") from exc
        if not response.is_success:
            raise refused(response)
        return response

    @asynccontextmanager
    async def download(self, route: str) -> AsyncGenerator[tuple[int, AsyncIterator[bytes]]]:
        """GET what is long: its size, and an iterator over its bytes. Raises as `request` does,
        also when it ends too early.
        """
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        try:
            async with self._client.stream("GET", route, timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                    raise refused(response)
                yield int(response.headers.get("Content-Length", 0)), response.aiter_bytes()
        except httpx.TransportError as exc:
            raise self._broken(exc, written=False) from exc

    @asynccontextmanager
    async def events(self, params: Params, last_id: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open `GET /events`; yields an iterator over its bytes. Raises as `request` does."""
        headers = {
            # Other types too: who takes streams alone is told of a refusal by a stream.
            "Accept": "text/event-stream, application/problem+json",
            "Cache-Control": "no-store",
        }
        if last_id:
            headers["Last-Event-ID"] = last_id
        timeout = httpx.Timeout(CONNECT_S, read=None)  # silence has a deadline of its own
        try:
            async with self._client.stream(
                "GET", "/events", params=list(params), headers=headers, timeout=timeout
            ) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise refused(response)
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    raise refused(response)  # a proxy's page
                yield response.aiter_bytes()
        except httpx.TransportError as exc:
            raise self._broken(exc, written=False) from exc

    def _broken(self, exc: httpx.TransportError, *, written: bool) -> CannotConnect:
        url = self._client.base_url
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            return CannotConnect(f"cannot connect to {url}: {str(exc) or 'no answer'}")
        doubt = "; the write may or may not have been applied" if written else ""
        why = f"the connection to {url} broke ({str(exc) or type(exc).__name__}){doubt}"
        return CannotConnect(why, in_doubt=written)


class Watch:
    """An event stream that outlives its connections: it resumes after the last event.

    `notice` is told, in a sentence, when the stream broke and when it goes on. The first connection
    is not retried, so that a wrong URL is known at once.
    """

    def __init__(
        self, client: HttpClient, params: Params, *, notice: Callable[[str], None]
    ) -> None:
        self._client = client
        self._params = list(params)
        self._notice = notice
        self._last_id = ""
        self._connected = False
        self._failures = 0
        self._heartbeat_s = DEFAULT_HEARTBEAT_S
        self._retry_s = BACKOFF_FIRST_S
        self._closing: tuple[str, float] | None = None  # reason, delay the server gave to us

    async def run(self, take: Callable[[StreamEvent], None]) -> None:
        """Hand every event to `take`, forever.

        Raises `CannotConnect` if the first connection fails, `Refused` when coming back is no use.
        Cancellation closes the connection.
        """
        while True:
            try:
                await self._once(take)
                reason = "the server ended the stream"
            except ClientError as exc:
                final = isinstance(exc, Refused) and exc.is_final
                if final or not self._connected:
                    raise
                self._note_retry_after(exc)
                reason = str(exc)
            await self._wait(reason)

    async def _once(self, take: Callable[[StreamEvent], None]) -> None:
        """One connection, to its end or its silence."""
        params = self._params
        if self._last_id:
            # The position in the query is the start the user asked for; now there is a later one.
            params = [(name, value) for name, value in params if name != "since"]
        parser = SseParser(self._last_id)
        async with self._client.events(params, self._last_id) as chunks:
            while True:
                with trio.move_on_after(self._heartbeat_s * SILENT_HEARTBEATS) as silence:
                    chunk = await anext(chunks, None)
                if silence.cancelled_caught:
                    raise CannotConnect("the stream fell silent")
                if chunk is None:
                    return
                for event in parser.feed(chunk):
                    self._note(event)
                    take(event)
                self._last_id = parser.last_id
                if parser.retry_ms is not None:
                    self._retry_s = parser.retry_ms / 1000

    def _note(self, event: StreamEvent) -> None:
        if event.type == "connected":
            if self._connected:
                self._notice("connected again")
            self._connected, self._failures = True, 0
            self._heartbeat_s = float(_body(event).get("heartbeat_s") or DEFAULT_HEARTBEAT_S)
        elif event.type == "closing":
            body = _body(event)
            reason, retry_ms = str(body.get("reason")), body.get("retry_ms")
            if reason in FINAL_REASONS:
                detail = f"the server closed the stream: {reason}"
                raise Refused({"title": "Closed", "status": 403, "detail": detail})
            if isinstance(retry_ms, int | float):
                self._closing = (reason, retry_ms / 1000)

    def _note_retry_after(self, exc: ClientError) -> None:
        if isinstance(exc, Refused) and exc.retry_after_s is not None:
            self._closing = (exc.problem["title"], exc.retry_after_s)

    async def _wait(self, reason: str) -> None:
        delay_s = min(BACKOFF_MOST_S, max(self._retry_s, BACKOFF_FIRST_S) * 2.0**self._failures)
        # Spreads a crowd that lost its server at one instant.
        delay_s *= random.uniform(0.5, 1.0)
        if self._closing is not None:
            reason, delay_s = self._closing  # the server has spread the crowd itself
            self._closing = None
        self._failures = min(self._failures + 1, 10)
        self._notice(f"{reason}; connecting again in {delay_s:.1f} s")
        await trio.sleep(delay_s)


def refused(response: httpx.Response) -> Refused:
    """The refusal that an answer states; one without a problem object gets its status' phrase."""
    wanted = "event stream" if response.is_success else "problem object"
    status = response.status_code
    problem: dict[str, Any] = {
        "title": response.reason_phrase or "Refused",
        "detail": f"the answer was {status} and no {wanted}; is this a Triode?",
    }
    if not response.is_success:
        try:
            body = msgspec.json.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = None
        if isinstance(body, dict):
            problem.update(body)
    problem["status"] = status
    return Refused(problem, _retry_after_s(response), is_triodes="Triode" in response.headers)


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _body(event: StreamEvent) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(event.data)
    except msgspec.DecodeError:
        return {}
    return body if isinstance(body, dict) else {}
