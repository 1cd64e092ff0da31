"""The writer: the one who changes the kit's part of the document, and tells the model.

It writes over a WebSocket in batches, so that the rates of a server with default limits are
enough, and waits as long as it is told to when they are not.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import httpx
import trio

from .model import MISSING, Model, Write, text_of
from .violation import Frame
from .wire import PATIENCE_S, Address, Connection, Ended, Refused, open_stream

# Below what a socket's buffer takes at once, so that a batch is no burst for who reads.
BATCH_BYTES: Final = 32 * 1024
BATCH_ITEMS: Final = 50
TRIES: Final = 60


class KitError(Exception):
    """The kit could not do its work: the server refused what every scenario needs."""


class Writer:
    """Writes and messages, on a connection of its own. Made by `open_writer`."""

    def __init__(self, model: Model, connection: Connection, http: httpx.AsyncClient) -> None:
        self.model = model
        self.http = http
        self._connection = connection
        self._ref = 0

    async def write(self, *writes: Write) -> None:
        """Carry out writes, in order; the model has them when this returns."""
        batch: list[Write] = []
        size = 0
        for write in writes:
            cost = 100 + _size(write.value)
            if batch and (size + cost > BATCH_BYTES or len(batch) == BATCH_ITEMS):
                await self._batch(batch)
                batch, size = [], 0
            batch.append(write)
            size += cost
        if batch:
            await self._batch(batch)

    async def write_at_once(self, writes: Sequence[Write]) -> None:
        """Carry out writes in a single command, so that a server has them all at one moment."""
        await self._batch(list(writes))

    async def publish(self, room: str, data: Any) -> None:
        """A message to a room; the model has it when this returns."""
        await self.ask("publish", room=room, event="kit", data=data)
        self.model.publish(room, len(self.model.rooms[room].events) + 1, data)

    async def ask(self, command: str, **members: Any) -> Frame:
        """A command and its `ok`; one that is refused for its rate is sent again when it may be.
        Raises `KitError`.
        """
        for _ in range(TRIES):
            self._ref += 1
            await self._connection.command(type=command, ref=self._ref, **members)
            answer = await self._answer()
            if answer["type"] == "ok":
                return answer
            if answer.get("status") != 429:
                break
            await trio.sleep(answer.get("retry_after", 0.1))
        raise KitError(f"{command} was refused: {answer}")

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """An HTTP request; sent again when it was refused for its rate."""
        for _ in range(TRIES):
            response = await self.http.request(method, url, **options)
            if response.status_code not in (429, 503):
                break
            await trio.sleep(float(response.headers.get("Retry-After", "0.2")))
        return response

    async def read(self) -> Any:
        """The kit's part of the document as the server has it; MISSING when it has none."""
        response = await self.request("GET", "/store", params={"path": text_of((self.model.root,))})
        return MISSING if response.status_code == 404 else response.json()

    async def _batch(self, batch: list[Write]) -> None:
        answer = await self.ask("batch", ops=[write.command() for write in batch])
        if answer.get("errors"):
            raise KitError(f"a write was refused: {answer['errors'][0]}")
        for write, position in zip(batch, answer["positions"], strict=True):
            self.model.commit(write, position)

    async def _answer(self) -> Frame:
        with trio.fail_after(PATIENCE_S):
            while True:
                frame = await self._connection.frame()
                if frame.get("ref") == self._ref:
                    return frame
                if frame["type"] == "close":
                    raise KitError(f"the server closed the writer's connection: {frame}")


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_size(one) for one in value.values())
    return len(value) if isinstance(value, str) else 10


@contextlib.asynccontextmanager
async def open_writer(address: Address, model: Model) -> AsyncIterator[Writer]:
    """Connect; a server that is busy or starting is asked again. Raises `KitError`."""
    headers = dict(address.headers)
    async with httpx.AsyncClient(base_url=address.base, headers=headers, timeout=30.0) as http:
        async with patient_stream(address, "ws", snapshot="none") as connection:
            yield Writer(model, connection, http)


@contextlib.asynccontextmanager
async def patient_stream(
    address: Address, transport: str, **options: Any
) -> AsyncIterator[Connection]:
    """`open_stream`, again when the server says that it is busy (429, 503) or is not there yet."""
    async with contextlib.AsyncExitStack() as stack:
        for attempt in range(TRIES):
            try:
                connection = await stack.enter_async_context(
                    open_stream(address, transport, **options)
                )
            except Refused as refused:
                if refused.status not in (429, 503) or attempt == TRIES - 1:
                    raise KitError(str(refused)) from refused
                await trio.sleep(refused.retry_after_s or 0.2)
            except (OSError, Ended) as error:
                if attempt == TRIES - 1:
                    raise KitError(f"no connection to {address.url}: {error}") from error
                await trio.sleep(0.2)
            else:
                break
        yield connection
