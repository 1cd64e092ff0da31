"""Runners for cases about the document: paths, filters, `/store`."""

from __future__ import annotations

import json
from typing import Any

from tests.behaviour.assembler import Assembler, View, parse, same
from tests.behaviour.clients import (
    Frame,
    open_sse,
    position,
    watch,
)
from tests.cases.bench import Bench, Case
from tests.cases.shape import get_segments, plant, plant_segments

JSON = "application/json"


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
    """What a view holds at `path`: a place, a part of one, or the selected elements of the array
    there.
    """
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
        if "status" in expect:
            assert stream.status == expect["status"]
            return
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
