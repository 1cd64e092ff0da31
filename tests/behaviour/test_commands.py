"""The WebSocket commands of docs/wire.md, GET /ws, each with its `ok` and its `error`, and
what they do to the document.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from .assembler import same
from .clients import Api, Fence, Frame, Watch, check_error, open_ws, query, sequence
from .server import KEPT, Server
from .sse import PATIENCE_S

pytestmark = pytest.mark.trio

DOCUMENT: dict[str, Any] = {
    "a": {"x": 1, "y": [1, 2]},
    "n": 5,
    "s": "text",
    "list": [{"k": 1}, {"k": 2}],
    "fence": "",
}
SILENT = "/ws" + query([".fence"], snapshot="none")


@pytest.fixture
async def document(api: Api) -> str:
    return await api.reset(DOCUMENT)


REFS: list[Any] = ["text", "", "é", 0, 7, -1, 1.5, 2**53, True, False, None]


@pytest.mark.parametrize("ref", REFS, ids=repr)
async def test_a_ref_of_every_scalar_comes_back(server: Server, document: str, ref: Any) -> None:
    async with open_ws(server, SILENT) as ws:
        await ws.send({"type": "get", "filter": ".n", "ref": ref})
        good = await ws.next()
        await ws.send({"type": "get", "filter": ".n[", "ref": ref})
        bad = await ws.next()
    assert good["type"] == "ok"
    assert check_error(bad)["column"] >= 1
    for answer in (good, bad):
        assert same(answer["ref"], ref)


async def test_without_a_ref_there_is_none(server: Server, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        await ws.send({"type": "get", "filter": ".n"})
        answer = await ws.next()
    assert answer["type"] == "ok"
    assert "ref" not in answer


async def test_answers_come_in_the_order_of_the_commands(server: Server, document: str) -> None:
    """So that an error without `ref`, to what could not be read, is known by its place."""
    unreadable = ["{", "[" * 300 + "]" * 300, '{"type":"ping","ref":1,"ref":1}']
    readable: list[dict[str, Any]] = [
        {"type": "get", "filter": ".a"},
        {"type": "set", "path": ".n", "value": 1},
        {"type": "ping"},
        {"type": "batch", "ops": [{"op": "set", "path": ".n", "value": 2}]},
        {"type": "nope"},
        {"type": "subscribe", "filter": ".s", "snapshot": "none"},
        {"type": "join", "room": "r"},
    ]
    sent: list[Any] = []
    async with open_ws(server, SILENT) as ws:
        for number, command in enumerate(readable * 3):
            sent += [number, None]
            await ws.send({**command, "ref": number})
            await ws.send(unreadable[number % 3])
        answers = [await ws.next() for _ in sent]
    assert [frame.get("ref") for frame in answers] == sent
    assert all(check_error(frame) for frame in answers[1::2])


@pytest.mark.parametrize("ref", [[1], {"a": 1}], ids=repr)
async def test_a_ref_that_is_no_scalar_is_refused(server: Server, document: str, ref: Any) -> None:
    async with open_ws(server, SILENT) as ws:
        await ws.send({"type": "get", "filter": ".n", "ref": ref})
        assert check_error(await ws.next())["status"] == 400


async def test_get(server: Server, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        answer = await ws.ok("get", filter=".list[*].k")
        assert answer["items"] == [
            {"path": ".list[0].k", "value": 1},
            {"path": ".list[1].k", "value": 2},
        ]
        assert (await ws.ok("get", filter="$.list[?@.k==2]"))["items"] == [
            {"path": ".list[1]", "value": {"k": 2}}
        ]
        assert (await ws.ok("get", filter=".nothing"))["items"] == []
        assert (await ws.refused("get", filter=".a["))["status"] == 400
        assert (await ws.refused("get"))["status"] == 400
        assert (await ws.refused("get", filter=7))["status"] == 400


# Command, members, what the document has then: path and value.
WRITES: list[tuple[str, dict[str, Any], str, Any]] = [
    ("set", {"path": ".a.x", "value": {"deep": [1]}}, ".a.x", {"deep": [1]}),
    ("set", {"path": ".a.new", "value": None}, ".a.new", None),
    ("set", {"path": ".a.y[2]", "value": 3}, ".a.y", [1, 2, 3]),
    ("set", {"path": ".a.y[-1]", "value": 3}, ".a.y", [1, 3]),
    ("set", {"path": ".p.q", "value": 1, "create": True}, ".p", {"q": 1}),
    ("merge", {"path": ".a", "value": {"x": None, "z": 2}}, ".a", {"y": [1, 2], "z": 2}),
    (
        "patch",
        {"path": ".a", "patch": [{"op": "add", "path": "/y/1", "value": 9}]},
        ".a.y",
        [1, 9, 2],
    ),
    ("delete", {"path": ".a.y[0]"}, ".a.y", [2]),
    ("delete", {"path": ".a.x"}, ".a", {"y": [1, 2]}),
    ("increment", {"path": ".n", "by": -2.5}, ".n", 2.5),
    ("increment", {"path": ".n"}, ".n", 6),
    ("append", {"path": ".a.y", "value": [3]}, ".a.y", [1, 2, [3]]),
]


@pytest.mark.parametrize(
    ("command", "members", "path", "value"), WRITES, ids=[f"{w[0]} {w[1]['path']}" for w in WRITES]
)
async def test_a_write_answers_its_position_and_is_seen(
    server: Server,
    api: Api,
    document: str,
    command: str,
    members: dict[str, Any],
    path: str,
    value: Any,
) -> None:
    async with open_ws(server, "/ws" + query(["."], snapshot="none")) as ws:
        answer = await ws.ok(command, **members)
        assert sequence(answer["id"]) == sequence(document) + 1
        frame = await ws.next()
        assert frame["type"] in ("update", "delete")
        while "id" not in frame:
            frame = await ws.next()
        assert frame["id"] == answer["id"], "the writer sees its own change at the same position"
    assert same(await api.get(path), value)


REFUSED: list[tuple[str, dict[str, Any], set[int]]] = [
    ("set", {"path": ".none.deep", "value": 1}, {404}),
    ("set", {"path": ".a.y[9]", "value": 1}, {404}),
    ("set", {"path": ".s.deep", "value": 1}, {404}),
    ("set", {"path": ".a.x"}, {400}),
    ("set", {"value": 1}, {400}),
    ("set", {"path": ".list[*]", "value": 1}, {400}),
    ("set", {"path": 3, "value": 1}, {400}),
    ("set", {"path": ".a[", "value": 1}, {400}),
    ("merge", {"path": ".none.deep", "value": {}}, {404}),
    ("merge", {"path": ".a"}, {400}),
    ("patch", {"path": ".", "patch": {}}, {400, 422}),
    ("patch", {"path": ".", "patch": [{"op": "leap", "path": "/n"}]}, {400, 422}),
    ("patch", {"path": ".", "patch": [{"op": "remove", "path": "/none"}]}, {404, 409, 422}),
    ("patch", {"path": ".", "patch": [{"op": "test", "path": "/n", "value": 6}]}, {409}),
    ("delete", {"path": ".none"}, {404}),
    ("delete", {"path": ".a.y[2]"}, {404}),
    ("increment", {"path": ".s"}, {400, 409, 422}),
    ("increment", {"path": ".n", "by": "1"}, {400, 422}),
    ("increment", {"path": ".n", "by": True}, {400, 422}),
    ("increment", {"path": ".none.deep"}, {404}),
    ("append", {"path": ".n", "value": 1}, {400, 409, 422}),
    ("append", {"path": ".none.deep", "value": 1}, {404}),
    ("batch", {"ops": "set"}, {400}),
    ("batch", {}, {400}),
    ("publish", {"event": "e", "data": 1}, {400}),
    ("subscribe", {"filter": "$.["}, {400}),
    ("subscribe", {}, {400}),
    ("subscribe", {"filter": ".a", "snapshot": "maybe"}, {400}),
    ("subscribe", {"filter": ".a", "policy": "nosuch"}, {400}),
    ("nonsense", {}, {400}),
    ("join", {}, {400}),
    ("join", {"room": 5}, {400}),
    ("auth", {}, {400, 401}),
]


async def test_a_refused_command_changes_nothing_and_the_connection_lives(
    server: Server, api: Api, document: str
) -> None:
    async with open_ws(server, "/ws" + query(["."], snapshot="none")) as ws:
        for command, members, statuses in REFUSED:
            error = await ws.refused(command, **members)
            assert error["status"] in statuses, (command, members, error)
        await api.put(".fence", "end")
        frame = await ws.next()
        assert (frame["path"], frame["value"]) == (".fence", "end"), "no event of a failed write"
    assert await api.get(".") == {**DOCUMENT, "fence": "end"}


async def test_writes_on_a_condition(server: Server, api: Api, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        first = (await ws.ok("set", path=".a.x", value=2, **{"if": document}))["id"]
        error = await ws.refused("set", path=".a.x", value=3, **{"if": document})
        assert error["status"] == 412
        assert (await ws.refused("delete", path=".a", **{"if": document}))["status"] == 412
        # Another place has not changed since: the condition is about the value's place.
        await ws.ok("set", path=".n", value=6, **{"if": document})
        await ws.ok("increment", path=".a.x", by=1, **{"if": first})
        assert (await ws.refused("set", path=".n", value=0, **{"if": "nosuch:1"}))["status"] == 412
        assert (await ws.refused("set", path=".n", value=0, **{"if": "rubbish"}))["status"] in (
            400,
            412,
        )
    assert await api.get(".a.x") == 3
    assert await api.get(".n") == 6


async def test_batch_that_is_atomic(server: Server, api: Api, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        bad = [
            {"type": "set", "path": ".n", "value": 1},
            {"type": "set", "path": ".none.deep", "value": 1},
        ]
        error = await ws.refused("batch", ops=bad, atomic=True)
        assert error["status"] == 404
        assert await api.get(".") == DOCUMENT, "all or nothing"
        good = [
            {"type": "set", "path": ".n", "value": 1},
            {"type": "increment", "path": ".n", "by": 2},
            {"type": "append", "path": ".a.y", "value": 3},
            {"type": "merge", "path": ".a", "value": {"x": None}},
            {"type": "delete", "path": ".s"},
        ]
        answer = await ws.ok("batch", ops=good, atomic=True)
        assert len({sequence(text) for text in answer["positions"]}) == 1, "one change"
    assert await api.get(".") == {
        "a": {"y": [1, 2, 3]},
        "n": 3,
        "list": DOCUMENT["list"],
        "fence": "",
    }


async def test_batch_that_is_not_atomic(server: Server, api: Api, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        ops = [
            {"type": "set", "path": ".n", "value": 1},
            {"type": "set", "path": ".none.deep", "value": 1},
            {"type": "set", "path": ".s", "value": 2},
        ]
        answer = await ws.ok("batch", ops=ops, atomic=False)
        assert len(answer["positions"]) == 3
        done = [one for one in answer["positions"] if isinstance(one, str)]
        # Where a log is kept (TESTS_DATA=1), what was refused has a number too.
        numbers = [sequence(one) - sequence(document) for one in done]
        assert numbers == [1, 2] or (KEPT and numbers == [1, 3])
    assert (await api.get(".n"), await api.get(".s")) == (1, 2)


async def test_an_empty_batch_is_harmless(server: Server, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        assert (await ws.ok("batch", ops=[], atomic=True))["positions"] in ([], [document])


async def test_the_events_of_an_atomic_batch_are_one_change(
    server: Server, api: Api, document: str
) -> None:
    async with open_ws(server, "/ws" + query([".a", ".n"], snapshot="none")) as ws:
        ops = [
            {"type": "set", "path": ".n", "value": 1},
            {"type": "set", "path": ".a.x", "value": 2},
            {"type": "set", "path": ".n", "value": 3},
        ]
        answer = await ws.ok("batch", ops=ops, atomic=True)
        frames: list[Frame] = []
        while not frames or "id" not in frames[-1]:
            frames.append(await ws.next())
        assert frames[-1]["id"] == answer["positions"][-1]
        assert {(f["path"], f["value"]) for f in frames} >= {(".n", 3), (".a.x", 2)}


async def test_binary_frames_are_the_same_json(server: Server, api: Api, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        command = {"type": "set", "path": ".s", "value": "é", "ref": "b"}
        await ws.send(json.dumps(command, ensure_ascii=False).encode())
        assert (await ws.answer("b"))["type"] == "ok"
        await ws.send(b"\x00\xff")
        assert check_error(await ws.next())["status"] == 400
        await ws.ok("get", filter=".s")
    assert await api.get(".s") == "é"


async def test_subscribe_then_unsubscribe_is_silence(
    server: Server, api: Api, fence: Fence, document: str
) -> None:
    async with open_ws(server, SILENT) as ws:
        watcher = Watch(ws)
        await ws.ok("subscribe", filter=".n")
        assert await watcher.snapshot() == [{"path": ".n", "value": 5}]
        await api.put(".n", 6)
        assert (await ws.next())["value"] == 6
        # Changes are under way while the command is: none may come after the `ok`.
        for value in range(20):
            await api.put(".n", value)
        await ws.send({"type": "unsubscribe", "filter": ".n", "ref": "u"})
        before = []
        while (frame := await ws.next()).get("ref") != "u":
            before.append(frame["value"])
        assert frame["type"] == "ok"
        assert before == list(range(20))[: len(before)]
        await api.put(".n", 100)
        assert await fence.pass_through(watcher) == [[]]
        # And it may begin anew.
        await ws.ok("subscribe", filter=".n", snapshot="none")
        await api.put(".n", 101)
        assert (await ws.next())["value"] == 101


async def test_unsubscribe_of_one_filter_leaves_the_others(
    server: Server, api: Api, fence: Fence, document: str
) -> None:
    async with open_ws(server, "/ws" + query([".fence", ".n", ".a"], snapshot="none")) as ws:
        await ws.ok("unsubscribe", filter=".a")
        await api.put(".a.x", 2)
        await api.put(".n", 2)
        [frames] = await fence.pass_through(Watch(ws))
        assert [f["filter"] for f in frames] == [".n"]
        unknown = check_error(await ws.ask("unsubscribe", filter=".nobody"))
        malformed = check_error(await ws.ask("unsubscribe", filter=".a["))
        assert (unknown["status"], malformed["status"], malformed["column"]) == (404, 400, 4)


async def test_ok_comes_before_the_snapshot(server: Server, document: str) -> None:
    async with open_ws(server, SILENT) as ws:
        await ws.send({"type": "subscribe", "filter": ".n", "ref": 1})
        assert [(await ws.next())["type"] for _ in range(2)] == ["ok", "snapshot"]


async def test_subscribing_again_is_not_twice(
    server: Server, api: Api, fence: Fence, document: str
) -> None:
    async with open_ws(server, SILENT) as ws:
        await ws.ok("subscribe", filter=".n", snapshot="none")
        await ws.ask("subscribe", filter=".n", snapshot="none")
        await api.put(".n", 1)
        [frames] = await fence.pass_through(Watch(ws))
        assert [f["value"] for f in frames] == [1]


async def test_ping(server: Server) -> None:
    async with open_ws(server, SILENT) as ws:
        answer = await ws.ask("ping")
        assert answer["type"] == "pong"
        assert isinstance(answer["time"], int)


async def test_commands_are_answered_in_their_order(
    server: Server, api: Api, document: str
) -> None:
    async with open_ws(server, SILENT) as ws:
        for ref in range(200):
            await ws.send({"type": "increment", "path": ".n", "by": 1, "ref": ref})
        answers = [await ws.next(PATIENCE_S) for _ in range(200)]
        assert [answer["ref"] for answer in answers] == list(range(200))
        seqs = [sequence(answer["id"]) for answer in answers]
        assert seqs == list(range(seqs[0], seqs[0] + 200))
    assert await api.get(".n") == 205


MALFORMED = [
    "",
    "{",
    "nonsense",
    "[]",
    "7",
    '"ping"',
    "null",
    "{}",
    '{"type":7}',
    '{"type":"ping"} x',
    '{"type":"ping","type":"ping"}',
    '{"type":"set","path":".n","value":NaN}',
    '{"type":"set","path":".n","value":1e999}',
    '{"type":"set","path":".n","value":-Infinity}',
    '{"type":"set","path":".n","value":{"a":1,"a":2}}',
    '{"type":"set","path":".n","value":"\\ud800"}',
    '{"type":"set","path":".n","value":01}',
    "\ufeff" + '{"type":"ping"}',
    '{"type":"set","path":".n","value":' + "[" * 300 + "]" * 300 + "}",
    '{"type":"set","path":"' + ".x" * 5000 + '","value":1}',
]


async def test_malformed_messages_are_answered_and_the_connection_lives(
    server: Server, api: Api, document: str
) -> None:
    for at in range(0, len(MALFORMED), 5):
        # A few for each connection: too many errors may end one (1008).
        async with open_ws(server, SILENT) as ws:
            for message in MALFORMED[at : at + 5]:
                await ws.send(message)
                error = check_error(await ws.next())
                assert error["status"] in (400, 422), (message[:80], error)
            assert (await ws.ask("ping"))["type"] == "pong"
    assert await api.get(".") == DOCUMENT
