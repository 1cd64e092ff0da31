"""What a hostile input may use, and what a row of the table is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.behaviour.server import Server, Settings
from tests.behaviour.websocket import Ws, open_ws

PATIENCE_S: Final = 120.0


class Attacker:
    """One ordinary client: HTTP, and as many WebSockets as it likes. `source`: its address."""

    def __init__(self, server: Server, http: httpx.AsyncClient, source: str = "127.0.0.1") -> None:
        self.server = server
        self.http = http
        self.source = source

    async def put_document(self, document: Any) -> None:
        """Replace the whole document; it must succeed."""
        answer = await self.http.post(
            "/store",
            content=json.dumps(document).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 200, answer.text

    async def get(self, **params: Any) -> int:
        """`GET /store`: the status."""
        return (await self.http.get("/store", params=params)).status_code

    async def set(self, path: str, value: Any) -> int:
        """`PUT /store`: the status."""
        answer = await self.http.put("/store", params={"path": path}, json=value)
        return answer.status_code

    def ws(self, target: str = "/ws") -> AbstractAsyncContextManager[Ws]:
        """A WebSocket that is connected."""
        return open_ws(self.server, target, source=self.source)


@contextlib.asynccontextmanager
async def attacker(server: Server, source: str = "127.0.0.1") -> AsyncIterator[Attacker]:
    """A client from this address."""
    transport = httpx.AsyncHTTPTransport(verify=False, local_address=source)
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, transport=transport) as http:
        yield Attacker(server, http, source)


BOUND_MS: Final = 10.0
# Python enlarges a dict of a million members in one go (`store/fragment`).
ENLARGED_MS: Final = 50.0


async def nothing(client: Attacker) -> None:
    """No preparation."""


@dataclass(frozen=True)
class Abuse:
    """A hostile input. `attack` gives the status of its answer, which must be one of `expected`.

    `prepare` comes before and is not measured: it puts the document there. `settle_s`: so long is
    looked on after the attack, for what it leaves behind to be worked off. `bound_ms`: what a
    bystander may wait. `in_crowd`: what each of a hundred does, who attack at once; by default the
    same.
    """

    name: str
    attack: Callable[[Attacker], Awaitable[int]]
    expected: tuple[int, ...]
    prepare: Callable[[Attacker], Awaitable[None]] = nothing
    settings: Settings = field(default_factory=dict)
    settle_s: float = 0.3
    bound_ms: float = BOUND_MS
    in_crowd: Callable[[Attacker], Awaitable[int]] | None = None
