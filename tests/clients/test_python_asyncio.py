"""The Python client in programs on asyncio: tasks, time limits, cancellation, ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.behaviour.auth import signed
from tests.behaviour.server import Server
from triode_client import AsyncTriode, Closed, Ended, NotAllowed, connect

PATIENCE_S = 45.0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As `asyncio.run` does in debug mode; no task may be left when it is done."""

    async def checked() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked(), debug=True)


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_a_watch_in_a_task_beside_others(server: Server) -> None:
    """As in FastAPI: the block is in the lifespan, the rest in tasks of requests."""

    async def main() -> None:
        async with connect(url(server)) as t:
            await t.set(".", {"n": 0})
            seen: list[Any] = []

            async def watch() -> None:
                async for change in t.watch(".n"):
                    seen.append(change.value)
                    if change.value == 20:
                        return

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch())
                await asyncio.sleep(0.05)
                for _ in range(20):
                    tasks.create_task(t.increment(".n"))
            assert seen == list(range(21))

    run(main)


def test_a_task_that_is_cancelled_loses_nothing(server: Server) -> None:
    async def main() -> None:
        async with connect(url(server)) as t:
            await t.set(".n", 0, create=True)
            with t.watch(".n") as watch:
                assert (await anext(watch)).value == 0
                for number in range(1, 6):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await anext(watch)
                    await t.set(".n", number)
                    assert (await anext(watch)).value == number

    run(main)


def test_a_cancelled_block_ends_at_once_and_leaves_no_task(server: Server) -> None:
    held: list[AsyncTriode] = []

    async def program(is_open: asyncio.Event) -> None:
        async with connect(url(server)) as t:
            held.append(t)
            is_open.set()
            await asyncio.Event().wait()

    async def main() -> None:
        is_open = asyncio.Event()
        task = asyncio.create_task(program(is_open))
        await is_open.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(Closed):
            await held[0].get()

    run(main)


def test_what_ends_the_connection_comes_out_of_the_block_and_of_other_tasks(
    guarded: Server,
) -> None:
    token = signed({"exp": time.time() + 1, "read": "*"})
    told: list[BaseException] = []

    async def watch(t: AsyncTriode) -> None:
        try:
            async for _ in t.watch(".none"):
                pass
        except Closed as closed:
            told.append(closed)

    tasks: list[asyncio.Task[None]] = []

    async def program() -> None:
        async with connect(url(guarded), token=token) as t:
            tasks.append(asyncio.create_task(watch(t)))
            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(Ended) as caught:
            await program()
        await tasks[0]
        assert told[0].__cause__ is caught.value

    run(main)


def test_a_refused_connection_is_no_group_of_errors(guarded: Server) -> None:
    async def main() -> None:
        with pytest.raises(NotAllowed):
            async with connect(url(guarded)):
                pass

    run(main)
