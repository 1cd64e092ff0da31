"""Runners for cases about connections: event streams, tags, subscriptions, the server."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tests.behaviour.clients import (
    Api,
    Frame,
    Held,
    RawWs,
    Watch,
    Ws,
    check_error,
    eventually,
    hold,
    open_socket,
    open_sse,
    open_ws,
    query,
    upgrade,
    watch,
)
from tests.cases.bench import Bench, Case
from tests.cases.shape import plant
from triode.limits.own_tag import as_own

# sse


async def sse(bench: Bench, given: Case, expect: Case) -> None:
    connect = given["connect"]
    if "idle_s" in given:
        return await sse_idle(bench)
    if given.get("client_stops_reading"):
        return await sse_slow(bench, given["broadcasts"])
    await bench.api.reset(given.get("store", {"users": []}))
    asked = connect.get("query", "").replace("initial_data=false", "snapshot=none")
    target = "/events" + (query(connect.get("filters", [])) or "?") + asked
    counts = [await count(bench.api)]
    async with open_sse(bench.server.port, target, method=given.get("method", "GET")) as stream:
        if "status" in expect:
            assert stream.status == expect["status"]
            return None
        connected = await stream.next()
        assert connected.event == expect.get("first_event", {"event": "connected"})["event"]
        for name, value in expect.get("headers", {}).items():
            assert stream.headers[name].partition(";")[0] == value
        if "snapshot_items" in expect:
            assert (await stream.next()).frame()["items"] == expect["snapshot_items"]
        if "no_event" in expect:
            await bench.api.put(".fence", "x")
            assert (await stream.next()).event == "update", "no snapshot"
        counts.append(await count(bench.api))
    if "client_count" in expect:
        await eventually(lambda: has(count(bench.api), counts[0]))
        counts.append(await count(bench.api))
        assert [one - counts[0] for one in counts] == expect["client_count"]
    return None


async def count(api: Api) -> int:
    found: int = (await api.request("GET", "/health")).json()["connections"]
    return found


async def sse_idle(bench: Bench) -> None:
    """The time is the server's heartbeat, set short."""
    server = bench.make_server(heartbeat=0.3)
    async with open_sse(server.port) as stream:
        await stream.comment(5)


async def sse_slow(bench: Bench, broadcasts: int) -> None:
    """A client that stops reading costs nobody else anything, and what it loses is counted."""
    api = bench.api
    await api.reset({"text": "", "fence": ""})

    async def drops() -> float:
        counters = (await api.request("GET", "/stats")).json()["counters"]
        return sum(total(value) for name, value in counters.items() if "drop" in name)

    before = await drops()
    async with (
        watch(bench.server, "sse", ".text", snapshot="none"),
        watch(bench.server, "sse", ".text", ".fence", snapshot="none") as healthy,
    ):
        received: list[Frame] = []

        async def read() -> None:
            received.extend(await healthy.until(".fence", "end"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(broadcasts):
                await api.put(".text", f"{number} " + "x" * 20_000)
            await api.put(".fence", "end")
        assert [int(one["value"].split()[0]) for one in received] == list(range(broadcasts))
        assert await drops() > before


async def has(found: Awaitable[float], wanted: float) -> bool:
    return await found == wanted


def total(value: Any) -> float:
    return sum(map(total, value.values())) if isinstance(value, dict) else float(value)


# tags, subscribe


async def tags(bench: Bench, given: Case, expect: Case) -> None:
    api = bench.api
    await api.reset({"fence": ""})
    before = await count(api)
    held: dict[str, Held[Ws]] = {}
    used: set[tuple[str, str]] = set()
    async with trio.open_nursery() as nursery:
        for operation, name, *rest in given["ops"]:
            changes: dict[str, str] = rest[0] if rest else {}
            used |= {(key, value) for key, value in changes.items() if value}
            if operation == "add":
                options: Any = {f"tag.{key}": value for key, value in changes.items()}
                target = "/ws" + query([".fence"], snapshot="none", **options)
                held[name] = await hold(nursery, open_ws(bench.server, target))
            elif operation == "remove":
                await held.pop(name).release()
            else:
                wire = {key: value or None for key, value in changes.items()}
                await held[name].value.ok("tag", tags=wire)
        clients = {name: one.value for name, one in held.items()}
        await eventually(lambda: has(count(api), before + len(clients)))
        if "ids" in expect:
            assert await selected(bench, clients, given["select"]) == sorted(expect["ids"])
        if "connections" in expect:
            assert await count(api) - before == expect["connections"]
        if "index" in expect:
            for key, value in used:
                wanted = expect["index"].get(key, {}).get(value, [])
                assert await selected(bench, clients, {key: value}) == sorted(wanted)
        for one in held.values():
            await one.release()


async def selected(bench: Bench, clients: dict[str, Ws], selector: dict[str, str]) -> list[str]:
    """The names of the clients that a message to these tags, which are their own, reaches."""
    body = {"tags": as_own(selector), "event": "select", "data": None}
    response = await bench.api.request("POST", "/publish", json=body)
    if response.status_code == 400:
        assert not selector
        return []
    names = list(clients)
    got = await bench.fence.pass_through(*[Watch(clients[name]) for name in names])
    reached = sorted(name for name, frames in zip(names, got, strict=True) if frames)
    assert response.json() == {"reached": len(reached)}
    return reached


async def subscribe(bench: Bench, given: Case, expect: Case) -> None:
    """Subjects as places of the document, and again as rooms."""
    subjects = sorted({one["publish"] for one in given["then"]})
    document: Any = {"fence": ""}
    for subject in subjects:
        document = plant(document, "." + subject)
    await bench.api.reset(document)
    async with contextlib.AsyncExitStack() as stack:
        for kind in ("filters", "rooms"):
            watchers = {}
            for name, wanted in given["clients"].items():
                filters = [f".{one}" for one in wanted] if kind == "filters" else []
                rooms = wanted if kind == "rooms" else []
                context = watch(bench.server, "ws", *filters, ".fence", snapshot="none", room=rooms)
                watchers[name] = await stack.enter_async_context(context)
            for step in given["then"]:
                if kind == "filters":
                    await bench.api.put("." + step["publish"], {"price": 1})
                else:
                    body = {"room": step["publish"], "event": "trade", "data": 1}
                    await bench.api.request("POST", "/publish", json=body)
            got = await bench.fence.pass_through(*watchers.values())
            assert dict(zip(watchers, map(len, got), strict=True)) == expect["received"], kind


# server


async def server_case(bench: Bench, given: Case, expect: Case) -> None:
    await bench.api.reset({"fence": ""})
    for key, run in SERVER_SHAPES.items():
        if key in given:
            return await run(bench, given, expect)
    pytest.skip(f"no runner for {sorted(given)}")


async def welcome_and_echo(bench: Bench, given: Case, expect: Case) -> None:
    event, data = given["client_emits"]
    async with watch(bench.server, "ws", room="echo") as one:
        assert one.connected["server"], "the welcome"
    async with open_ws(bench.server, "/ws" + query([".fence"], snapshot="none")) as ws:
        await ws.ok("join", room="echo")
        await ws.ok("publish", room="echo", event=event, data=data, echo=True)
        frame = await ws.next()
        assert (frame["event"], frame["data"]) == (event, data)


async def room_broadcast(bench: Bench, given: Case, expect: Case) -> None:
    names = sorted({*given["join"], *expect["received"]})
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for name in names:
            target = "/ws" + query([".fence"], snapshot="none")
            clients[name] = await stack.enter_async_context(open_ws(bench.server, target))
            if name in given["join"]:
                await clients[name].ok("join", room=given["join"][name])
        body = {"room": given["to"], "event": given["emit"], "data": None}
        assert (await bench.api.request("POST", "/publish", json=body)).status_code == 200
        got = await bench.fence.pass_through(*[Watch(clients[name]) for name in names])
        counts = dict(zip(names, map(len, got), strict=True))
        assert {name: counts[name] for name in expect["received"]} == expect["received"]


async def empty_room(bench: Bench, given: Case, expect: Case) -> None:
    async def rooms() -> float:
        found: float = (await bench.api.request("GET", "/stats")).json()["gauges"]["rooms"]
        return found

    before = await rooms()
    async with open_ws(bench.server) as ws:
        await ws.ok("join", room=given["join_leave"])
        assert await rooms() == before + 1
        await ws.ok("leave", room=given["join_leave"])
        assert await rooms() == before
        await ws.ok("join", room=given["join_leave"])
    await eventually(lambda: has(rooms(), before))


async def waits_for_middleware(bench: Bench, given: Case, expect: Case) -> None:
    """Nothing of a client that is refused is ever handled: see also test_tokens.py."""
    command = RawWs.frame(1, b'{"type":"set","path":".early","value":1}')
    async with open_socket(bench.server) as stream:
        await stream.send_all(upgrade("/ws?filter=.a[") + command)
        answer = await stream.receive_some(65536)
        assert answer.startswith(b"HTTP/1.1 400"), answer[:100]
    assert await bench.api.get(".") == {"fence": ""}


async def disconnect_is_noticed(bench: Bench, given: Case, expect: Case) -> None:
    async def ended() -> float:
        counters = (await bench.api.request("GET", "/stats")).json()["counters"]
        return total(counters["ends"] if "ends" in counters else counters["ends_total"])

    before = await ended()
    async with open_ws(bench.server):
        pass
    await eventually(lambda: has(ended(), before + 1))


async def binary(bench: Bench, given: Case, expect: Case) -> None:
    async with open_ws(bench.server, "/ws" + query([".fence"], snapshot="none")) as ws:
        await ws.send(bytes.fromhex(given["send_binary"]))
        check_error(await ws.next())
        await ws.send(b'{"type":"ping","ref":"b"}')
        assert (await ws.answer("b"))["type"] == "pong"


async def cors(bench: Bench, given: Case, expect: Case) -> None:
    origins = ",".join(given["cors_origins"])
    server = bench.make_server(cors_origins=origins)
    wanted = {name: value for name, value in expect.items() if name.startswith("access-")}
    for origin, allowed in ((given["origin"], True), ("https://elsewhere", False)):
        async with open_sse(server.port, headers=[("Origin", origin)]) as stream:
            for name, value in wanted.items():
                assert stream.headers.get(name) == (value if allowed else None)
            if allowed:
                assert "origin" in stream.headers["vary"].lower()


SERVER_SHAPES: dict[str, Callable[[Bench, Case, Case], Awaitable[None]]] = {
    "client_emits": welcome_and_echo,
    "emit": room_broadcast,
    "join_leave": empty_room,
    "middleware": waits_for_middleware,
    "client_closes": disconnect_is_noticed,
    "send_binary": binary,
    "cors_origins": cors,
}
