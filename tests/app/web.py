"""A running Triode behind a Quart test client: what the tests of the blueprints have in common."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.lowlevel
from quart.wrappers import Response
from quart_trio import QuartTrio

from app.blueprints.errors import install
from app.settings import Settings
from app.triode import Triode

JSON = {"Content-Type": "application/json"}
ADMIN = "admin-secret-of-the-tests"


class Web:
    """The application, its Triode, and requests to it. `token` is shown with every request."""

    def __init__(self, app: QuartTrio, triode: Triode, token: str | None = None) -> None:
        self.app = app
        self.triode = triode
        self.token = token

    def with_token(self, token: str | None) -> Web:
        """The same server, asked with another token."""
        return Web(self.app, self.triode, token)

    async def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Response:
        """One request; `body` goes as JSON unless the headers say otherwise."""
        fields = dict(headers or {})
        data = raw
        if data is None and body is not None:
            fields = JSON | fields
            data = json.dumps(body).encode()
        if self.token is not None:
            fields.setdefault("Authorization", f"Bearer {self.token}")
        # Quart's protocol for test clients asks for all arguments that its class has defaults for.
        client: Any = self.app.test_client()
        answer: Response = await client.open(target, method=method, headers=fields, data=data)
        return answer

    async def json(self, method: str, target: str, body: Any = None, **more: Any) -> Any:
        """The JSON of a good answer."""
        answer = await self.ask(method, target, body, **more)
        text = await answer.get_data(as_text=True)
        assert answer.status_code < 300, text
        return json.loads(text)

    async def problem(
        self, status: int, method: str, target: str, body: Any = None, **more: Any
    ) -> Any:
        """The problem object of an answer that must have this status."""
        answer = await self.ask(method, target, body, **more)
        return await problem_of(answer, status)


async def problem_of(answer: Response, status: int) -> Any:
    """The problem object of an answer, after checking that it is a proper one."""
    text = await answer.get_data(as_text=True)
    assert answer.status_code == status, (answer.status_code, text)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(text)
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
    app = QuartTrio("test")
    install(app, triode)
    triode.attach(app)
    async with app.test_app():
        yield Web(app, triode, token)


async def until(condition: Any) -> None:
    """Let other tasks run until something holds."""
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()
