"""One order that is the same for all: many writers at once, on both transports, seen by many."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from .clients import Api, Frame, Watch, open_ws, query, sequence, watch
from .server import Server

pytestmark = pytest.mark.trio

WRITERS = 4
EACH = 40


async def collect(one: Watch, count: int, into: list[Frame]) -> None:
    into += await one.take(count)


async def test_all_see_all_changes_in_one_order(server: Server, api: Api) -> None:
    await api.reset({f"w{i}": 0 for i in range(WRITERS)})
    own: list[list[str]] = [[] for _ in range(WRITERS)]

    async def write_http(number: int) -> None:
        for value in range(EACH):
            own[number].append(await api.put(f".w{number}", value))

    async def write_ws(number: int) -> None:
        async with open_ws(server, "/ws" + query([".none"], snapshot="none")) as ws:
            for value in range(EACH):
                own[number].append((await ws.ok("set", path=f".w{number}", value=value))["id"])

    seen: list[list[Frame]] = [[] for _ in range(4)]
    async with (
        watch(server, "sse", ".*", snapshot="none") as one,
        watch(server, "sse", ".*", snapshot="none") as two,
        watch(server, "ws", ".*", snapshot="none") as three,
        watch(server, "ws", ".w1", snapshot="none") as four,
    ):
        async with trio.open_nursery() as nursery:
            for frames, watcher in zip(seen, (one, two, three, four), strict=True):
                count = EACH if watcher is four else EACH * WRITERS
                nursery.start_soon(collect, watcher, count, frames)
            for number in range(WRITERS):
                nursery.start_soon(write_ws if number % 2 else write_http, number)

    orders = [[(f["path"], f["value"], f["id"]) for f in frames] for frames in seen]
    assert orders[0] == orders[1] == orders[2]
    assert orders[3] == [event for event in orders[0] if event[0] == ".w1"]
    ids = [sequence(text) for _, _, text in orders[0]]
    assert ids == list(range(ids[0], ids[0] + EACH * WRITERS)), "each once, none missing"
    for number in range(WRITERS):
        mine = [(value, text) for path, value, text in orders[0] if path == f".w{number}"]
        assert mine == list(enumerate(own[number])), "as its writer was told"


@pytest.mark.parametrize("transport", ["sse", "ws"])
async def test_nothing_is_missed_between_snapshot_and_changes(
    server: Server, api: Api, transport: str
) -> None:
    """Subscribing while a writer never stops: the first update continues the snapshot, always."""
    await api.reset({"n": 0})

    async def write() -> None:
        async with open_ws(server, "/ws" + query([".none"], snapshot="none")) as ws:
            while True:
                await ws.ok("increment", path=".n")

    async def subscribe(times: int) -> None:
        for _ in range(times):
            async with watch(server, transport, ".n") as one:
                [item] = await one.snapshot()
                at = sequence(one.last_id)
                for step, frame in enumerate(await one.take(3), 1):
                    assert frame["value"] == item["value"] + step
                    assert sequence(frame["id"]) == at + step

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(subscribe, 5)
        nursery.cancel_scope.cancel()


async def test_a_reader_never_sees_half_a_write(server: Server, api: Api) -> None:
    """Two places that every write sets alike are alike in every read and snapshot."""
    await api.reset({"a": 0, "b": 0})
    stop = trio.Event()

    async def write() -> None:
        async with open_ws(server, "/ws" + query([".none"], snapshot="none")) as ws:
            value = 0
            while not stop.is_set():
                value += 1
                ops: list[dict[str, Any]] = [
                    {"type": "set", "path": ".a", "value": value},
                    {"type": "set", "path": ".b", "value": value},
                ]
                await ws.ok("batch", ops=ops, atomic=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for _ in range(30):
            document = await api.get(".")
            assert document["a"] == document["b"]
            a, b = await api.select(".a,.b")
            assert a["value"] == b["value"]
        stop.set()
