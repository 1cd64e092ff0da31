"""`push` (docs/wire.md, GET /ws): over WebSocket, HTTP and NDJSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .auth import bearer, issue
from .clients import Api, open_api, open_ws
from .server import Server

pytestmark = pytest.mark.trio

JSON = "application/json"


@pytest.fixture
async def document(api: Api) -> str:
    return await api.reset({"a": {}, "n": 1})


async def lines(api: Api, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    content = "\n".join(map(json.dumps, commands)).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    response = await api.request("POST", "/store/batch", content=content, headers=headers)
    return [json.loads(line) for line in response.text.splitlines()]


async def test_each_way_answers_the_name(server: Server, api: Api, document: str) -> None:
    given: list[str] = []
    async with open_ws(server, "/ws") as ws:
        given.append((await ws.ok("push", path=".a", value=0))["key"])
        response = await api.write("POST", ".a", b"1", JSON, push="true")
        assert response.headers["etag"] == f'"{response.json()["id"]}"'
        given.append(response.json()["key"])
        answers = await lines(api, {"type": "push", "path": ".a", "value": 2}, {"type": "ping"})
        given.append(answers[0]["key"])
        several: list[dict[str, Any]] = [
            {"type": "push", "path": ".a", "value": 3},
            {"type": "set", "path": ".n", "value": 2},
            {"type": "push", "path": ".n", "value": 0},
            {"type": "push", "path": ".a", "value": 4},
        ]
        answer = await ws.ok("batch", ops=several)
        assert [key is None for key in answer["keys"]] == [False, True, True, False]
        given += [key for key in answer["keys"] if key is not None]
        del several[2]
        several[0]["value"], several[2]["value"] = 5, 6
        answer = await ws.ok("batch", ops=several, atomic=True)
        given += [key for key in answer["keys"] if key is not None]
        assert "keys" not in await ws.ok("batch", ops=several[1:2])
    members = await api.get(".a")
    assert [members[key] for key in given] == [0, 1, 2, 3, 4, 5, 6]
    assert given == sorted(given), "in the order of the writes"
    assert len(members) == 7


async def test_sent_twice_it_is_done_once_and_answered_alike(
    server: Server, api: Api, document: str
) -> None:
    headers = {"Idempotency-Key": "a push"}
    first, again = [
        (await api.write("POST", ".a", b"1", JSON, headers=headers, push="true")).json()
        for _ in range(2)
    ]
    assert first == again
    assert await api.get(".a") == {first["key"]: 1}
    ops = [{"type": "push", "path": ".a", "value": 2}]
    async with open_ws(server, "/ws") as ws:
        for atomic in (False, True):
            batch: dict[str, Any] = {
                "ops": ops,
                "atomic": atomic,
                "key": f"a pushed batch {atomic}",
            }
            one, two = [(await ws.ok("batch", **batch))["keys"] for _ in range(2)]
            assert one == two


async def test_refused(server: Server, api: Api, document: str) -> None:
    for path, status in ((".n", 422), (".none.deep", 404)):
        assert (await api.write("POST", path, b"1", JSON, push="true")).status_code == status
        async with open_ws(server, "/ws") as ws:
            assert (await ws.refused("push", path=path, value=1))["status"] == status
    assert (await api.write("POST", ".a", b"1", JSON, push="yes")).status_code == 400
    assert (await api.write("PUT", ".a", b"1", JSON, push="true")).status_code == 400
    assert (await api.write("POST", ".a", b"{", JSON, push="true")).status_code == 400
    assert await api.get(".") == {"a": {}, "n": 1}


async def test_a_condition_is_about_the_object(api: Api, document: str) -> None:
    options: dict[str, Any] = {"if": document, "push": "true"}
    assert (await api.write("POST", ".a", b"1", JSON, **options)).status_code == 200
    assert (await api.write("POST", ".a", b"1", JSON, **options)).status_code == 412


@pytest.fixture
async def box(guarded: Server, admin: Api) -> AsyncIterator[Api]:
    await admin.reset({"box": {"x": 1}})
    token = (await issue(admin, read=[], write=[".box.*"]))["token"]
    async with open_api(guarded, token=token) as api:
        yield api


async def test_a_letter_box(guarded: Server, admin: Api, box: Api) -> None:
    """The right to the members is enough, and nothing is told of what is there."""
    response = await box.write("POST", ".box", b'"a letter"', JSON, push="true")
    key = response.json()["key"]
    assert await admin.get(".box") == {"x": 1, key: "a letter"}
    assert (await box.write("POST", ".", b"1", JSON, push="true")).status_code == 403
    answers = set()
    for there in (None, [1], "text"):
        await admin.put(".box", there)
        response = await box.write("POST", ".box", b"1", JSON, push="true")
        answers.add((response.status_code, response.text))
    await admin.delete(".box")
    response = await box.write("POST", ".box", b"1", JSON, push="true")
    answers.add((response.status_code, response.text))
    assert len(answers) == 1
    token = (await issue(admin, read=["."], write=[".box"]))["token"]
    async with open_ws(guarded, "/ws", headers=bearer(token)) as ws:
        await ws.ok("push", path=".box", value=1)
        assert (await ws.refused("push", path=".", value=1))["status"] == 403
