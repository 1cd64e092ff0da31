"""A FastAPI application that publishes into Triode over HTTP: orders, and a page that follows them.

    POST /orders {"item": "…", "quantity": 2}    places an order; its id
    POST /orders/ID/ship                         ships it

An order is state, `.orders.ID`, and each event of its life a message in the room `orders`. The page
hears both from Triode itself, with nothing but the browser's EventSource.

Run `python -m examples.orders`, and open http://127.0.0.1:8000/. It starts a Triode of its own; or
say `TRIODE_URL` (and `TRIODE_TOKEN`) of one that runs. Needs `pip install triode[examples]`.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

PAGE = Path(__file__).with_suffix(".html")


class Order(BaseModel):
    """What is ordered."""

    item: str = Field(min_length=1, max_length=80)
    quantity: int = Field(default=1, ge=1, le=1000)


class Publisher:
    """Writes to a Triode. What it refuses becomes this application's 502."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.AsyncClient(base_url=url, headers=headers)

    async def put(self, path: str, value: Any) -> None:
        """Set the value at a path."""
        await self._ask("PUT", "/store", value, path=path, create="true")

    async def merge(self, path: str, patch: Any) -> None:
        """Change members of what is at a path; 404 if nothing is."""
        await self._ask("GET", "/store", None, path=path)
        await self._ask("PATCH", "/store", patch, path=path)

    async def say(self, room: str, event: str, data: Any) -> None:
        """A message to all in a room."""
        await self._ask("POST", "/publish", {"room": room, "event": event, "data": data})

    async def _ask(self, method: str, route: str, body: Any, **params: str) -> None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": kind}
        try:
            answer = await self.client.request(
                method, route, params=params, content=content, headers=headers
            )
        except httpx.TransportError as exc:
            raise HTTPException(502, f"Triode does not answer: {exc}") from exc
        if not answer.is_success:
            status = 404 if answer.status_code == 404 else 502
            raise HTTPException(status, answer.json()["detail"])


def make_app(url: str, token: str | None = None) -> FastAPI:
    """The application; `url` is where Triode is, for it and for its visitors."""
    triode = Publisher(url, token)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with triode.client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE.read_text().replace("TRIODE_URL", url)

    @app.post("/orders", status_code=201)
    async def place(order: Order) -> dict[str, str]:
        number = f"o{secrets.token_hex(4)}"
        await triode.put(f".orders.{number}", {**order.model_dump(), "state": "placed"})
        await triode.say("orders", "placed", {"id": number, "item": order.item})
        return {"id": number}

    @app.post("/orders/{number}/ship")
    async def ship(number: str) -> dict[str, str]:
        # Foreign text in a path is quoted, as JSON.
        await triode.merge(f".orders[{json.dumps(number)}]", {"state": "shipped"})
        await triode.say("orders", "shipped", {"id": number})
        return {"id": number}

    return app


@contextmanager
def triode_for(origin: str) -> Iterator[str]:
    """The address of a Triode: the one of `TRIODE_URL`, else one of our own on a free port, open to
    pages of `origin`, for as long as the context lasts.
    """
    if "TRIODE_URL" in os.environ:
        yield os.environ["TRIODE_URL"]
        return
    command = [sys.executable, "-m", "triode", "serve", "--port", "0", "--json"]
    command += ["--data", "memory", "--cors-origins", origin]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 # our own words
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["listening"][0]
        finally:
            process.terminate()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    with socket.create_server(("127.0.0.1", parser.parse_args().port)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with triode_for(origin) as url:
            app = make_app(url, os.environ.get("TRIODE_TOKEN"))
            print(f"Running on {origin}", flush=True)
            # Uvicorn ends in order at an interrupt, and then raises it again.
            with suppress(KeyboardInterrupt):
                uvicorn.Server(uvicorn.Config(app)).run(sockets=[listener])


if __name__ == "__main__":
    main()
