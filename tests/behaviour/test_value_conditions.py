"""`if` on values (docs/wire.md, HTTP): over WebSocket, HTTP and NDJSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .auth import bearer, issue
from .clients import Api, open_api, open_ws
from .server import Server

pytestmark = pytest.mark.trio

DOCUMENT: dict[str, Any] = {"n": 5, "s": "m", "t": True, "a": {"x": [1]}, "l": [1]}

# Where, the condition, whether it holds.
CASES: list[tuple[str, dict[str, Any], bool]] = [
    (".n", {"equals": 5.0}, True),
    (".n", {"equals": 6}, False),
    (".t", {"equals": 1}, False),
    (".a", {"equals": {"x": [1]}}, True),
    (".a", {"equals": {"x": [True]}}, False),
    (".l[-1]", {"equals": 1}, True),
    (".none", {"equals": None}, False),
    (".n", {"exists": True}, True),
    (".n", {"exists": False}, False),
    (".none", {"exists": False}, True),
    (".none", {"exists": True}, False),
    (".n", {"less": 5.5}, True),
    (".n", {"less": 5}, False),
    (".n", {"less": "9"}, False),
    (".s", {"less": "n"}, True),
    (".t", {"less": 2}, False),
    (".none", {"less": 1}, False),
]


async def test_a_write_is_done_if_the_value_is_so(server: Server, api: Api) -> None:
    async with open_ws(server, "/ws") as ws:
        for path, condition, holds in CASES:
            await api.reset(DOCUMENT)
            command = {"type": "set", "path": path, "value": "new", "if": condition}
            if holds:
                await ws.ok("set", path=path, value="new", **{"if": condition})
                assert await api.get(path) == "new"
                await api.reset(DOCUMENT)
            else:
                error = await ws.refused("set", path=path, value="new", **{"if": condition})
                assert error["status"] == 412, (path, condition)
                assert await api.get(".") == DOCUMENT
            params: dict[str, Any] = {"if": json.dumps(condition)}
            response = await api.write("PUT", path, b'"new"', "application/json", **params)
            assert response.status_code == (200 if holds else 412), (path, condition)
            await api.reset(DOCUMENT)
            response = await api.request("POST", "/store/batch", json=[command])
            assert (response.json()[0]["type"] == "ok") is holds


async def test_the_refusal_says_what_is_there(api: Api) -> None:
    await api.reset(DOCUMENT)
    params: dict[str, Any] = {"if": '{"less":5}'}
    response = await api.write("PUT", ".n", b"1", "application/json", **params)
    assert response.json()["detail"] == '.n is 5; "if" wants it to be less than 5'


async def test_every_write_takes_one(server: Server, api: Api) -> None:
    document = {"n": 1, "l": [], "o": {}, "gone": 1}
    commands: list[dict[str, Any]] = [
        {"type": "increment", "path": ".n", "if": {"equals": 1}},
        {"type": "append", "path": ".l", "value": 1, "if": {"equals": []}},
        {"type": "push", "path": ".o", "value": 1, "if": {"equals": {}}},
        {"type": "merge", "path": ".p", "patch": {"a": 1}, "if": {"exists": False}},
        {"type": "patch", "path": ".", "patch": [], "if": {"exists": True}},
        {"type": "delete", "path": ".gone", "if": {"less": 2}},
    ]
    await api.reset(document)
    async with open_ws(server, "/ws") as ws:
        answer = await ws.ok("batch", ops=commands, atomic=True)
        assert len(set(answer["positions"])) == 1
        again = await ws.ok("batch", ops=commands)
        assert [error["status"] for error in again["errors"]] == [412] * 5
        wrong = [{"type": "set", "path": ".n", "value": 9}, commands[0]]
        assert (await ws.refused("batch", ops=wrong, atomic=True))["status"] == 412
    assert await api.get(".n") == 2, "all or nothing"


@pytest.mark.parametrize(
    "condition",
    [{}, {"equals": 1, "exists": True}, {"more": 1}, {"exists": 1}, {"less": None}, {"less": True}],
    ids=str,
)
async def test_malformed(server: Server, api: Api, condition: dict[str, Any]) -> None:
    await api.reset(DOCUMENT)
    async with open_ws(server, "/ws") as ws:
        error = await ws.refused("set", path=".n", value=1, **{"if": condition})
    assert error["status"] == 400
    params: dict[str, Any] = {"if": json.dumps(condition)}
    assert (await api.write("PUT", ".n", b"1", "application/json", **params)).status_code == 400
    params = {"if": "{"}
    assert (await api.write("PUT", ".n", b"1", "application/json", **params)).status_code == 400


async def test_a_key_belongs_to_one_condition(api: Api) -> None:
    await api.reset(DOCUMENT)
    for condition, status in ((5, 200), (5, 200), (6, 422)):
        body = {
            "type": "set",
            "path": ".n",
            "value": 6,
            "if": {"equals": condition},
            "key": "a condition",
        }
        [answer] = (await api.request("POST", "/store/batch", json=[body])).json()
        assert answer.get("status", 200) == status


async def test_nothing_is_told_to_who_may_not_read(guarded: Server, admin: Api) -> None:
    token = (await issue(admin, read=[], write=["."]))["token"]
    answers = set()
    async with (
        open_api(guarded, token=token) as api,
        open_ws(guarded, "/ws", headers=bearer(token)) as ws,
    ):
        for n in (5, 6, None):
            await admin.reset({"n": n})
            params: dict[str, Any] = {"if": '{"equals":5}'}
            response = await api.write("PUT", ".n", b"1", "application/json", **params)
            error = await ws.refused("set", path=".n", value=1, **{"if": {"equals": 5}})
            assert error["status"] == response.status_code == 403
            del error["ref"]
            answers.add((response.text, json.dumps(error)))
            assert await admin.get(".n") == n
    assert len(answers) == 1
