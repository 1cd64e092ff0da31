"""What a token may do by writing: it learns nothing that it may not read, and touches nothing of
its neighbours.

Each operation is sent to documents that differ in a secret only. Whoever may write there and not
read has to get the same answer from all of them, unless the write was done.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from .api import Api, open_api
from .auth import bearer, issue
from .clients import open_ws
from .server import Server

pytestmark = pytest.mark.trio

PATCH = "application/json-patch+json"
SECRETS: list[Any] = ["s3cret", 41, None, True, [], [1, 2, 3], {}, {"k": "s3cret"}, [[5]]]
OPEN = {"board": {"n": 1, "list": [1]}}


def document(secret: Any) -> dict[str, Any]:
    return {**OPEN, "secret": secret}


def holds(path: str, value: Any) -> dict[str, Any]:
    return {"op": "test", "path": path, "value": value}


# A test that holds of none of the secrets, so that nothing is ever done.
FAILS = holds("/board/n", 2)

PATCHES: list[list[Any]] = [
    [{"op": "copy", "from": "/secret", "path": "/board/x"}],
    [{"op": "move", "from": "/secret", "path": "/board/x"}],
    [{"op": "copy", "from": "/secret/k", "path": "/board/x"}],
    [{"op": "copy", "from": "/secret/0", "path": "/board/x"}],
    [{"op": "copy", "from": "", "path": "/board/x"}],
    [holds("/secret", "s3cret")],
    [holds("/secret/k", "s3cret")],
    [holds("/secret/1", 2)],
    [holds("", document(41))],
    # Which step failed would tell, as nothing is done.
    [{"op": "remove", "path": "/secret/k"}, FAILS],
    [{"op": "remove", "path": "/secret/0"}, FAILS],
    [{"op": "replace", "path": "/secret/2", "value": 1}, FAILS],
    [{"op": "add", "path": "/secret/3", "value": 1}, FAILS],
    [{"op": "add", "path": "/secret/k/x", "value": 1}, "no operation"],
    [{"op": "remove", "path": "/secret/9"}],
]

COMMANDS: list[dict[str, Any]] = [
    {"type": "increment", "path": ".secret", "by": 1},
    {"type": "increment", "path": ".secret", "by": 0},
    {"type": "increment", "path": ".secret.k"},
    {"type": "increment", "path": ".secret[0]"},
    {"type": "delete", "path": ".secret.none"},
    {"type": "delete", "path": ".secret[7]"},
    {"type": "set", "path": ".secret[9]", "value": 1},
    {"type": "set", "path": ".secret.a.b", "value": 1},
    {"type": "append", "path": ".secret.a.b", "value": 1},
    {"type": "merge", "path": ".secret.a.b", "value": {}},
    {"type": "patch", "path": ".secret", "patch": [FAILS]},
    {"type": "patch", "path": ".secret.none", "patch": []},
    {"type": "set", "path": ".secret", "value": 1, "if": "other0:1"},
    {"type": "set", "path": ".secret", "value": 1, "if": {"less": 2}},
    {"type": "push", "path": ".secret.k", "value": 1, "if": {"exists": False}},
    {
        "type": "batch",
        "atomic": True,
        "ops": [
            {"type": "delete", "path": ".secret.k"},
            {"type": "patch", "path": ".board", "patch": [holds("/n", 2)]},
        ],
    },
    {
        "type": "batch",
        "ops": [
            {"type": "delete", "path": ".secret.k.l"},
            {"type": "set", "path": ".secret[4]", "value": 0},
        ],
    },
]


async def test_a_patch_tells_nothing_of_what_may_not_be_read(guarded: Server, admin: Api) -> None:
    """`copy`, `move`, `test`, the number of the step that failed, and error texts."""
    token = (await issue(admin, read=[".board"], write=["."]))["token"]
    async with open_api(guarded, token=token) as api:
        for patch in PATCHES:
            answers = set()
            for secret in SECRETS:
                await admin.reset(document(secret))
                response = await api.write("PATCH", ".", json.dumps(patch).encode(), PATCH)
                assert response.status_code == 403, (patch, secret)
                answers.add(response.text)
                assert await admin.get(".") == document(secret), "nothing is half done"
            assert len(answers) == 1, patch


async def test_a_command_tells_nothing_of_what_may_not_be_read(guarded: Server, admin: Api) -> None:
    """Over WebSocket and NDJSON alike: missing places, kinds, lengths, conditions."""
    token = (await issue(admin, read=[".board"], write=["."]))["token"]
    position = None
    async with (
        open_api(guarded, token=token) as api,
        open_ws(guarded, "/ws", headers=bearer(token)) as ws,
    ):
        for command in COMMANDS:
            answers = set()
            name, members = command["type"], {k: v for k, v in command.items() if k != "type"}
            for secret in SECRETS:
                position = await admin.reset(document(secret))
                # A hundred refusals in a row would end the connection.
                await ws.ok("set", path=".secret", value=secret)
                if name == "batch" and not command.get("atomic"):
                    told = (await ws.ok(name, **members))["errors"]
                    assert [error["status"] for error in told] == [403, 403], (command, secret)
                else:
                    told = await ws.refused(name, **members)
                    assert told["status"] == 403, (command, secret)
                    told.pop("ref", None)
                answers.add(json.dumps(told))
                line = json.dumps(command).encode()
                kind = {"Content-Type": "application/x-ndjson"}
                lines = await api.request("POST", "/store/batch", content=line, headers=kind)
                assert "403" in lines.text
                assert await admin.get(".") == document(secret)
            assert len(answers) == 1, command
        # A condition of the right position is a question too.
        refused = await ws.refused("set", **{"path": ".secret", "value": 1, "if": position})
        assert refused["status"] == 403


async def test_conditions_in_fields_need_the_right_to_read(guarded: Server, admin: Api) -> None:
    token = (await issue(admin, read=[".board"], write=["."]))["token"]
    async with open_api(guarded, token=token) as api:
        for secret in ({}, {"k": 1}):
            at = await admin.reset(document(secret))
            for condition in (
                {"If-Match": "*"},
                {"If-Match": f'"{at}"'},
                {"If-Match": '"other0:1"'},
                {"If-None-Match": "*"},
            ):
                response = await api.write(
                    "PUT", ".secret.k", b"2", "application/json", headers=condition
                )
                assert response.status_code == 403, (secret, condition)
            assert await admin.get(".secret") == secret
        response = await api.write(
            "PUT", ".board.n", b"2", "application/json", headers={"If-None-Match": "*"}
        )
        assert response.status_code == 412, "what may be read may be asked about"


async def test_a_blind_write_is_done(guarded: Server, admin: Api) -> None:
    """Writing needs no right to read: a drop box works."""
    await admin.reset({"box": [], "board": {}})
    token = (await issue(admin, read=[], write=[".box", ".board"]))["token"]
    async with open_ws(guarded, "/ws", headers=bearer(token)) as ws:
        await ws.ok("append", path=".box", value="a letter")
        await ws.ok("set", path=".board.n", value=1)
        await ws.ok("merge", path=".board", value={"m": 2})
        await ws.ok("patch", path=".board", patch=[{"op": "add", "path": "/o", "value": 3}])
        await ws.ok("delete", path=".board.m")
    assert await admin.get(".") == {"box": ["a letter"], "board": {"n": 1, "o": 3}}


async def test_who_may_read_is_told_why(guarded: Server, admin: Api) -> None:
    """And no more than that: not of what lies around the place."""
    await admin.reset({"users": [{"name": "Ann", "pin": 5}], "board": {"n": "x"}})
    token = (await issue(admin, read=[".board", ".users[*].name"], write=["."]))["token"]
    async with open_api(guarded, token=token) as api:
        patch = json.dumps([holds("/n", "y")]).encode()
        response = await api.write("PATCH", ".board", patch, PATCH)
        assert response.status_code == 409
        assert ".board.n has another value" in response.text
        response = await api.write("PUT", ".board.a.b", b"1", "application/json")
        assert (response.status_code, ".board.a is not there" in response.text) == (404, True)
        beyond = await api.write("PUT", ".users[7].name", b"1", "application/json")
        assert beyond.status_code == 404
        assert "1 elements" not in beyond.text
        read = await api.request("GET", "/store", params={"path": ".users[7].name"})
        assert read.status_code == 404
        assert "1 elements" not in read.text


async def test_a_pointer_to_an_element_is_no_member(guarded: Server, admin: Api) -> None:
    """`.users.*` grants the members of an object; `/users/0` and `["0"]` of a list are none."""
    token = (await issue(admin, read=[".users.*"], write=[".users.*"]))["token"]
    async with open_api(guarded, token=token) as api:
        for users, status in (([{"a": 1}], 403), ({"0": {"a": 1}}, 200)):
            for path in ("/users/0", '.users["0"]'):
                await admin.reset({"users": users})
                response = await api.write("PUT", path, b"2", "application/json")
                assert response.status_code == status, (users, path)
        await admin.reset({"users": [1]})
        assert (await api.write("PUT", "/users/-", b"2", "application/json")).status_code == 403
        assert await admin.get(".users") == [1]


async def test_a_grant_of_one_element_moves_no_other(guarded: Server, admin: Api) -> None:
    users = [{"name": "Ann"}, {"name": "Bob"}, {"name": "Cid"}]
    for granted in (".users[0]", "/users/0", ".users[-3]", ".users[0:1]"):
        await admin.reset({"users": users})
        token = (await issue(admin, read=["."], write=[granted]))["token"]
        async with open_ws(guarded, "/ws", headers=bearer(token)) as ws:
            assert (await ws.refused("delete", path=".users[0]"))["status"] == 403, granted
            assert (await ws.refused("delete", path="/users/0"))["status"] == 403, granted
            for patch in (
                [{"op": "remove", "path": "/users/0"}],
                [{"op": "add", "path": "/users/0", "value": 1}],
            ):
                assert (await ws.refused("patch", path=".", patch=patch))["status"] == 403
            assert await admin.get(".users") == users
            place = ".users[-3]" if granted == ".users[-3]" else ".users[0]"
            await ws.ok("set", path=place, value={"name": "Amy"})
            await ws.ok("set", path=f"{place}.age", value=7)
            await ws.ok("delete", path=f"{place}.age")
        assert await admin.get(".users") == [{"name": "Amy"}, *users[1:]]
    token = (await issue(admin, read=["."], write=[".users[*]"]))["token"]
    async with open_ws(guarded, "/ws", headers=bearer(token)) as ws:
        await ws.ok("delete", path=".users[0]")
    assert await admin.get(".users") == users[1:]


async def test_neighbours_are_not_moved_to_where_they_may_be_read(
    guarded: Server, admin: Api
) -> None:
    await admin.reset({"queue": ["mine", "s3cret"]})
    token = (await issue(admin, read=[".queue[0]"], write=[".queue"]))["token"]
    async with open_ws(guarded, "/ws", headers=bearer(token)) as ws:
        assert (await ws.refused("delete", path=".queue[0]"))["status"] == 403
        patch = [{"op": "remove", "path": "/0"}]
        assert (await ws.refused("patch", path=".queue", patch=patch))["status"] == 403
        patch = [{"op": "move", "from": "/0", "path": "/1"}]
        assert (await ws.refused("patch", path=".queue", patch=patch))["status"] == 403
        await ws.ok("set", path=".queue[0]", value="still mine")
        assert (await ws.ok("get", filter=".queue[0]"))["items"][0]["value"] == "still mine"


async def test_create_makes_only_what_is_granted(guarded: Server, admin: Api) -> None:
    await admin.reset({"users": []})
    token = (await issue(admin, read=["."], write=[".users[0].name", ".teams.a"]))["token"]
    async with open_api(guarded, token=token) as api:
        for path in (".users[0].name", ".teams.a", ".teams.a.b"):
            response = await api.write("PUT", path, b"1", "application/json", create="true")
            assert response.status_code == 403, path
            assert await admin.get(".") == {"users": []}
        await admin.reset({"users": [{}], "teams": {}})
        for path in (".users[0].name", ".teams.a.b.c"):
            await api.put(path, 1, create="true")
    assert await admin.get(".") == {"users": [{"name": 1}], "teams": {"a": {"b": {"c": 1}}}}
