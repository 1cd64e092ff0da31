"""A running Triode and requests to its application, straight through ASGI.

Quart's own test client reads an answer only when the application has finished, through a channel of
ten chunks: a long answer would wait for ever. This one reads as it comes, sends bodies in any
chunks, and can hang up at any point.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers

from triode.app.application import create_app
from triode.app.config.settings import Settings
from triode.app.service.triode import Triode

JSON = {"Content-Type": "application/json"}
ADMIN = "admin-secret-of-the-tests"


@dataclass
class Answer:
    """What came back, so far."""

    status: int = 0
    headers: Headers = field(default_factory=Headers)
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class FastPath:
    """One request as ASGI sees it. `body` goes by chunks; then nothing, until `hang_up` is set.

    `take` is awaited with the answer after each piece of it: a client that reads slowly.
    """

    def __init__(
        self,
        scope: dict[str, Any],
        body: Sequence[bytes],
        *,
        complete: bool = True,
        take: Callable[[Answer], Any] | None = None,
    ) -> None:
        self.scope = scope
        self.answer = Answer()
        self.sent_bytes = 0
        self.hang_up = trio.Event()
        self._chunks = list(body)
        self._ends = complete
        self._take = take

    async def receive(self) -> dict[str, Any]:
        """What the application gets."""
        await trio.lowlevel.checkpoint()
        if self._chunks:
            chunk = self._chunks.pop(0)
            self.sent_bytes += len(chunk)
            return {"type": "http.request", "body": chunk, "more_body": True}
        if self._ends:
            self._ends = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """What the application says."""
        await trio.lowlevel.checkpoint()
        answer = self.answer
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = Headers([(k.decode(), v.decode()) for k, v in message["headers"]])
            return
        answer.body += message.get("body", b"")
        answer.complete = not message.get("more_body", False)
        if self._take is not None and not answer.complete:
            await self._take(answer)


class Web:
    """The application, its Triode, and requests to it. `token` is shown with every request."""

    def __init__(self, app: QuartTrio, triode: Triode, token: str | None = None) -> None:
        self.app = app
        self.triode = triode
        self.token = token

    def with_token(self, token: str | None) -> Web:
        """The same server, asked with another token."""
        return Web(self.app, self.triode, token)

    def exchange(
        self,
        method: str,
        target: str,
        chunks: Sequence[bytes] = (),
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> FastPath:
        """A request that has not been made yet; see `run`."""
        path, _, query = target.partition("?")
        fields = {"Host": "triode.localhost"} | (headers or {})
        if self.token is not None and "Authorization" not in fields:
            fields["Authorization"] = f"Bearer {self.token}"
        scope = {
            "type": "http",
            "http_version": "1.1",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.replace(" ", "%20").encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in fields.items()],
            "client": ("192.0.2.7", 4711),
            "server": ("triode.localhost", 80),
            "extensions": {},
        }
        return FastPath(scope, chunks, **more)

    async def run(self, exchange: FastPath) -> Answer:
        """Make a request and wait until the application has done with it."""
        return await self.run_for(exchange, 100)

    async def run_for(self, exchange: FastPath, deadline_s: float) -> Answer:
        """As `run`, with another deadline."""
        with trio.fail_after(deadline_s):
            app: Any = self.app
            await app(exchange.scope, exchange.receive, exchange.send)
        return exchange.answer

    async def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """One request; `body` goes as JSON unless the headers say otherwise."""
        fields = dict(headers or {})
        if raw is None and body is not None:
            fields = JSON | fields
            raw = json.dumps(body).encode()
        if raw is not None:
            fields.setdefault("Content-Length", str(len(raw)))
        return await self.run(self.exchange(method, target, [raw] if raw else [], fields))

    async def json(self, method: str, target: str, body: Any = None, **more: Any) -> Any:
        """The JSON of a good answer."""
        answer = await self.ask(method, target, body, **more)
        assert answer.status < 300, bytes(answer.body)
        return answer.json()

    async def problem(
        self, status: int, method: str, target: str, body: Any = None, **more: Any
    ) -> Any:
        """The problem object of an answer that must have this status."""
        return problem_of(await self.ask(method, target, body, **more), status)


def problem_of(answer: Answer, status: int) -> Any:
    """The problem object of an answer, after checking that it is a proper one."""
    assert answer.status == status, (answer.status, bytes(answer.body))
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"]
    return problem


@asynccontextmanager
async def serving(root: Any = None, token: str | None = None, **options: Any) -> AsyncIterator[Web]:
    """A Triode with its services, without a rate limit unless `http_rate` says so."""
    settings = Settings(**({"http_rate": None} | options))
    triode = Triode(settings, root)
    app = create_app(triode)
    # Quart would give the services 5 s to end by themselves, which they never do.
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None
    async with app.test_app():
        yield Web(app, triode, token)
