"""A write with a key (`Idempotency-Key`, `key`) is done once, however often it is sent."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio

from .clients import Api, open_api, open_ws
from .conftest import ServerFactory
from .server import Server
from .test_restart import again

pytestmark = pytest.mark.trio

JSON = "application/json"
NDJSON = "application/x-ndjson"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"


async def send(
    api: Api, method: str, path: str, body: Any, kind: str = JSON, /, **fields: str
) -> httpx.Response:
    headers = {"Content-Type": kind} | {
        name.replace("_", "-"): text for name, text in fields.items()
    }
    params = {"path": path}
    content = None if body is None else json.dumps(body).encode()
    return await api.request(method, "/store", params=params, content=content, headers=headers)


WRITES: list[Any] = [
    ("PUT", ".n", 1),
    ("POST", ".n", 2),
    ("PATCH", ".", {"m": 1}, MERGE),
    ("PATCH", ".list", [{"op": "add", "path": "/-", "value": 1}], PATCH),
    ("DELETE", ".list[0]", None),
]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[0] + write[1])
async def test_http(api: Api, write: Any) -> None:
    await api.reset({"n": 0, "list": [1, 2]})
    key = f'"{await api.put(".start", True)}"'  # the server is that of other tests, too
    first = await send(api, *write, Idempotency_Key=key)
    await api.put(".other", 1)
    then = await api.get(".")
    for text in (key, key.strip('"')):
        second = await send(api, *write, Idempotency_Key=text)
        assert (second.status_code, second.content) == (200, first.content)
        assert second.headers["etag"] == first.headers["etag"]
    assert await api.get(".") == then
    other = await send(api, "PUT", ".n", "another", Idempotency_Key=key)
    assert other.status_code == 422
    assert "each needs its own" in other.json()["detail"]


@pytest.mark.parametrize("condition", ["If-None-Match", "If-Match"])
async def test_what_it_did_itself_is_no_reason_to_refuse_it(api: Api, condition: str) -> None:
    await api.reset({"a": 1})
    position = await api.put(".start", True)
    path, tag = (".new", "*") if condition == "If-None-Match" else (".a", f'"{position}"')
    fields = {"Idempotency-Key": f'"k {position}"', condition: tag}
    answers = [await send(api, "PUT", path, 5, **fields) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    fields["Idempotency-Key"] = f'"other {position}"'
    assert (await send(api, "PUT", path, 5, **fields)).status_code == 412


async def test_a_refusal_is_remembered(api: Api) -> None:
    position = await api.reset({})
    key = f"k-{position}"
    assert (await send(api, "PUT", ".a.b", 1, Idempotency_Key=key)).status_code == 404
    await api.put(".a", {})
    again = await send(api, "PUT", ".a.b", 1, Idempotency_Key=key)
    assert again.status_code == 404
    assert "when it was first sent" in again.json()["detail"]


async def test_a_batch_over_http(api: Api) -> None:
    position = await api.reset({"n": 0, "list": []})
    lines = [
        {"type": "increment", "path": ".n"},
        {"type": "increment", "path": ".n"},
        {"type": "append", "path": ".list", "value": 1, "key": f"own-{position}"},
        {"type": "set", "path": ".x.y", "value": 1},
    ]
    headers = {"Content-Type": NDJSON, "Idempotency-Key": f"all-{position}"}
    content = "\n".join(map(json.dumps, lines))
    told = []
    for _ in range(2):
        answer = await api.request("POST", "/store/batch", content=content, headers=headers)
        told.append([json.loads(line) for line in answer.text.splitlines()])
    ids = [[line.get("id") for line in lines] for lines in told]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 4
    assert [line["type"] for line in told[1]] == ["ok", "ok", "ok", "error"]
    assert await api.get(".") == {"n": 2, "list": [1]}


async def test_websocket(server: Server, api: Api) -> None:
    position = await api.reset({"n": 0})
    async with open_ws(server) as one, open_ws(server) as two:
        first = await one.ok("increment", path=".n", key=position)
        second = await two.ok("increment", path=".n", key=position)
        assert first["id"] == second["id"]
        batch = {"ops": [{"type": "increment", "path": ".n"}] * 2, "key": f"batch {position}"}
        assert (await one.ok("batch", **batch))["positions"] == (await two.ok("batch", **batch))[
            "positions"
        ]
        assert (await two.refused("increment", path=".n", by=2, key=position))["status"] == 422
        assert (await two.refused("increment", path=".n", key=""))["status"] == 400
        assert (await two.refused("publish", room="r", data=1, key="k"))["status"] == 400
    assert await api.get(".") == {"n": 3}


@pytest.mark.parametrize("field", ['""', "x" * 256, "caf\u00e9"])
async def test_what_is_no_key(api: Api, field: str) -> None:
    await api.reset({})
    headers = {"Content-Type": JSON, "Idempotency-Key": field.encode()}
    answer = await api.request(
        "PUT", "/store", params={"path": ".a"}, content=b"1", headers=headers
    )
    assert answer.status_code == 400
    assert "Idempotency-Key must be" in answer.json()["detail"]


async def test_over_a_restart(make_server: ServerFactory) -> None:
    lasting = make_server(data="kept")
    async with open_api(lasting) as api:
        await api.reset({"n": 0})
        line = {"type": "increment", "path": ".n"}
        headers = {"Content-Type": NDJSON, "Idempotency-Key": "batch"}

        async def all_ways(api: Api) -> list[Any]:
            patch = [{"op": "add", "path": "/list", "value": []}]
            put = await send(api, "PATCH", ".", patch, PATCH, Idempotency_Key="http")
            batch = await api.request(
                "POST", "/store/batch", content=json.dumps(line), headers=headers
            )
            async with open_ws(lasting) as ws:
                ok = await ws.ok("increment", path=".n", by=10, key="ws")
                refused = await ws.refused("set", path=".x.y", value=1, key="refused")
            return [put.json(), batch.json(), ok["id"], refused["status"]]

        first = await all_ways(api)
    await again(lasting, "killed")
    async with open_api(lasting) as api:
        assert await all_ways(api) == first
        assert await api.get(".") == {"n": 11, "list": []}


async def test_one_that_is_under_way_is_waited_for(make_server: ServerFactory) -> None:
    """Many at once, over many connections: one of them is done, and all are told of it."""
    lasting = make_server(data="kept")
    told: list[str] = []
    async with open_api(lasting) as api:
        position = await api.reset({"n": 0})

        async def increment() -> None:
            async with open_ws(lasting) as ws:
                told.append((await ws.ok("increment", path=".n", key=position))["id"])

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(increment)
        assert await api.get(".n") == 1
    assert len(set(told)) == 1
