"""The acceptance cases (`AREA.jsonl`) as data against the running server, on both lanes.

Each area has a runner that turns `given` into requests and compares with `expect`. `overruled.py` says which
expectations WIRE.md replaces. A case of a shape that no runner knows is skipped by name, so that new ones are seen.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.behaviour.assembler import Assembler, View, parse, same
from tests.behaviour.clients import (
    Api,
    Fence,
    Frame,
    Held,
    RawWs,
    Watch,
    Ws,
    check_error,
    eventually,
    hold,
    open_socket,
    open_ws,
    position,
    query,
    upgrade,
    watch,
)
from tests.behaviour.conftest import ServerFactory
from tests.behaviour.server import ROOT, Server
from tests.behaviour.sse import open_sse
from tests.cases.overruled import ELSEWHERE, OVERRULED
from tests.cases.shape import expand, get_segments, plant, plant_segments

pytestmark = pytest.mark.trio

AREAS = ("path", "filter", "http", "sse", "tags", "subscribe", "server")
Case = dict[str, Any]
JSON = "application/json"


def load() -> list[Any]:
    """All cases of our areas as parameters; one that skips when the folder is absent."""
    folder = Path(os.environ.get("TRIODE_CASES", ROOT.parent / "shared" / "cases"))
    found = []
    for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
        if file.name.partition(".")[0] in AREAS:
            lines = file.read_text("utf-8").splitlines()
            found += [expand(json.loads(line)) for line in lines if line.strip()]
    if not found:
        reason = f"{folder} is not there (set TRIODE_CASES to the folder of the cases)"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(one, id=one["id"]) for one in found]


class Bench:
    """What a runner works with."""

    def __init__(self, server: Server, api: Api, make_server: ServerFactory) -> None:
        self.server = server
        self.api = api
        self.fence = Fence(api)
        self.make_server = make_server


@pytest.mark.parametrize("case", load())
async def test_case(case: Case, server: Server, api: Api, make_server: ServerFactory) -> None:
    if case["id"] in ELSEWHERE:
        pytest.skip(ELSEWHERE[case["id"]])
    if case["id"] in OVERRULED:
        case = {**case, "expect": OVERRULED[case["id"]][1]}
    runner = RUNNERS.get(case["area"])
    if runner is None:
        pytest.skip(f"no runner for area {case['area']}")
    await runner(Bench(server, api, make_server), case["given"], case["expect"])


# path


async def path_get(bench: Bench, given: Case, expect: Case) -> None:
    await bench.api.reset(given["data"])
    response = await bench.api.request("GET", "/store", params={"path": given["path"]})
    if "error" in expect:
        assert response.status_code == {"not_found": 404}.get(expect["error"], 400)
    else:
        assert response.status_code == 200
        wanted = expect["items"] if "items" in expect else expect["value"]
        assert same(response.json(), wanted)


async def path_match(bench: Bench, given: Case, expect: Case) -> None:
    await bench.api.reset(given["data"])
    response = await bench.api.request("GET", "/store", params={"path": given["path"]})
    if "error" in expect:
        assert response.status_code == 404
        return
    items = response.json()
    assert len(items) == expect.get("count", len(items))
    if "paths" in expect:
        assert [item["path"] for item in items] == expect["paths"]


async def path_parse(bench: Bench, given: Case, expect: Case) -> None:
    """A path that parses leads where its segments say: to a value planted there."""
    if "error" in expect:
        await bench.api.reset({})
        response = await bench.api.request("GET", "/store", params={"path": given["path"]})
        assert response.status_code == 400
        assert response.json()["column"] >= 1
        return
    steps = get_segments(expect["segments"])
    await bench.api.reset(plant_segments(steps, "planted"))
    params = {"filter": given["path"] or "."}
    items = (await bench.api.request("GET", "/store", params=params)).json()
    assert [item["value"] for item in items] == ["planted"]


async def path_set(bench: Bench, given: Case, expect: Case) -> None:
    await bench.api.reset(given["data"])
    body = json.dumps(given["value"]).encode()
    response = await bench.api.write("PUT", given["path"], body, JSON)
    if "error" in expect:
        assert response.status_code == {"not_found": 404}.get(expect["error"], 400)
    else:
        position(response)
    if expect.get("data_unchanged"):
        assert same(await bench.api.get("."), given["data"])
    if "data_after" in expect:
        assert same(await bench.api.get("."), expect["data_after"])
    for path, value in expect.get("get", {}).items():
        assert same(await bench.api.get(path), value)


async def path_delete(bench: Bench, given: Case, expect: Case) -> None:
    await bench.api.reset(given["data"])
    response = await bench.api.request("DELETE", "/store", params={"path": given["path"]})
    if "error" in expect:
        assert response.status_code in (400, 404, 422)
        assert same(await bench.api.get("."), given["data"])
    else:
        position(response)
        assert same(await bench.api.get("."), expect["data_after"])


# filter


async def delivered(
    bench: Bench, filters: list[str], change: Case, *, before: Any
) -> tuple[list[Frame], dict[str, View]]:
    """The events of one change and the views after it, which both transports agree on."""
    await bench.api.reset(before)
    results = []
    for transport in ("sse", "ws"):
        await bench.api.reset(before)
        async with watch(bench.server, transport, *filters, ".fence") as one:
            views = Assembler()
            for _ in {*filters, ".fence"}:
                views.take(await one.next())
            await bench.api.put(change["path"], change["value"])
            [frames] = await bench.fence.pass_through(one)
            frames = [frame for frame in frames if frame["filter"] != ".fence"]
            for frame in frames:
                views.take(frame)
            results.append((frames, views.views))
    assert results[0][1] == results[1][1]
    return results[0]


async def filter_match(bench: Bench, given: Case, expect: Case) -> None:
    """The places of filters and change are there before, so that a change of them is one."""
    before: Any = {"fence": ""}
    for path in (*given["filters"], given["change"]["path"]):
        before = plant(before, path)
    frames, _ = await delivered(bench, given["filters"], given["change"], before=before)
    assert bool(frames) is expect["match"], frames


async def filter_condition(bench: Bench, given: Case, expect: Case) -> None:
    after, change = given["store_after"], given["change"]
    await bench.api.reset(after)
    empty: Any = [] if isinstance(change["value"], list) else None
    await bench.api.put(change["path"], empty)
    before = await bench.api.get(".")
    if isinstance(before, dict):
        before["fence"] = ""
    else:
        before = {"fence": ""}
    frames, views = await delivered(bench, given["filters"], change, before=before)
    assert bool(frames) is expect["match"], frames
    if "delivered" in expect:
        wanted = expect["delivered"]
        seen = look(views[given["filters"][0]], wanted["path"])
        assert same(seen, wanted["value"]), seen


def look(view: View, path: str) -> Any:
    """What a view holds at `path`: a place, a part of one, or the selected elements of the array there."""
    steps = parse(path)
    for known, value in view.items():
        if known == steps[: len(known)]:
            for step in steps[len(known) :]:
                value = value[step]
            return value
    below = sorted(known for known in view if known[: len(steps)] == steps)
    return [view[known] for known in below]


async def filter_query(bench: Bench, given: Case, expect: Case) -> None:
    await bench.api.reset({"a": [{"name": "x,y"}], "b": [1]})
    target = "/events" + ("?" + given["query"] if given["query"] else "")
    async with open_sse(bench.server.port, target) as stream:
        assert stream.status == 200, await stream.content()
        assert (await stream.next()).event == "connected"
        shots = [(await stream.next()).frame() for _ in expect["filters"]]
        assert [shot["type"] for shot in shots] == ["snapshot"] * len(shots)
        assert {shot["filter"] for shot in shots} == set(expect["filters"])


# http


async def http_store(bench: Bench, given: Case, expect: Case) -> None:
    await bench.api.reset(given.get("store", {}))
    request = given["request"]
    options: dict[str, Any] = {"headers": request.get("headers", {})}
    if "json" in request:
        options["content"] = json.dumps(request["json"]).encode()
    elif "body" in request:
        options["content"] = request["body"].encode()
    elif "body_bytes" in request:
        options["content"] = b'"' + b"x" * (request["body_bytes"] - 2) + b'"'
    async with watch(bench.server, "sse", ".", snapshot="none") as one:
        response = await bench.api.request(request["method"], request["path"], **options)
        assert response.status_code == expect["status"], response.text
        if "broadcast" in expect:
            frame = await one.next()
            assert (frame["type"], frame["path"]) == ("update", expect["broadcast"]["path"])
            assert frame["value"] == request["json"]
    if "json_raw" in expect:
        assert response.json() == given["store"]
    if "then_get" in expect:
        wanted = expect["then_get"]
        assert same(await bench.api.get(wanted["path"]), wanted["value"])
    if expect["status"] >= 400:
        assert same(await bench.api.get("."), given.get("store", {}))


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
    """The names of the clients that a message to these tags reaches."""
    body = {"tags": selector, "event": "select", "data": None}
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
RUNNERS: dict[str, Callable[[Bench, Case, Case], Awaitable[None]]] = {
    "path.get": path_get,
    "path.match": path_match,
    "path.parse": path_parse,
    "path.set": path_set,
    "path.delete": path_delete,
    "filter.match": filter_match,
    "filter.condition": filter_condition,
    "filter.query": filter_query,
    "http.store": http_store,
    "sse": sse,
    "tags": tags,
    "subscribe": subscribe,
    "server": server_case,
}
