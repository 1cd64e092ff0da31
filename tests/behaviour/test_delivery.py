"""What a subscriber is owed (docs/wire.md, Events): exactly its selection, cut from above, as it
is from below, in both transports.

Two kinds of tests: single changes whose events the contract determines to the letter, and a walk of
many writes under every form of filter, where what SSE and WebSocket clients assemble must equal
`GET /store?filter=` after every write.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from .assembler import Assembler, items_view, same
from .clients import TRANSPORTS, Api, Fence, Frame, Ws, open_ws, query, watch
from .server import Server
from .sse import PATIENCE_S, SseStream, open_sse

pytestmark = pytest.mark.trio

DOCUMENT: dict[str, Any] = {
    "users": [
        {"id": 1, "name": "Ann", "status": "online", "tags": ["a", "b"]},
        {"id": 2, "name": "Bob", "status": "offline", "tags": []},
        {"id": 3, "name": "Cy", "status": "online", "tags": ["a"]},
    ],
    "prices": {"BTC-USD": {"bid": 1, "ask": 2}, "ETH": {"bid": 3, "ask": 4}},
    "n": 5,
    "deep": {"bid": {"level": 1}, "list": [[1, 2], [3]]},
    "fence": "",
}

# Filter, and the paths that it selects in DOCUMENT. Every form of docs/wire.md, Paths.
FORMS: list[tuple[str, list[str]]] = [
    (".users", [".users"]),
    (".users[0].name", [".users[0].name"]),
    ('.prices["BTC-USD"].bid', ['.prices["BTC-USD"].bid']),
    (".prices.BTC-USD.bid", ['.prices["BTC-USD"].bid']),
    (".users[-1]", [".users[2]"]),
    (".users[-1].name", [".users[2].name"]),
    (".users[*]", [".users[0]", ".users[1]", ".users[2]"]),
    (".users[*].name", [".users[0].name", ".users[1].name", ".users[2].name"]),
    (".users[*].tags[*]", [".users[0].tags[0]", ".users[0].tags[1]", ".users[2].tags[0]"]),
    (".prices.*", ['.prices["BTC-USD"]', ".prices.ETH"]),
    (".prices.*.bid", ['.prices["BTC-USD"].bid', ".prices.ETH.bid"]),
    (".users[1:3].id", [".users[1].id", ".users[2].id"]),
    (".users[1:]", [".users[1]", ".users[2]"]),
    (".users[:1].name", [".users[0].name"]),
    (".users[-2:].name", [".users[1].name", ".users[2].name"]),
    ("..ask", ['.prices["BTC-USD"].ask', ".prices.ETH.ask"]),
    (".prices..bid", ['.prices["BTC-USD"].bid', ".prices.ETH.bid"]),
    (".users[status=online]", [".users[0]", ".users[2]"]),
    (".users[status=online].name", [".users[0].name", ".users[2].name"]),
    (".users[*][status=online].name", [".users[0].name", ".users[2].name"]),
    (".users[status!=online]", [".users[1]"]),
    (".users[id<2]", [".users[0]"]),
    (".users[id<=2].id", [".users[0].id", ".users[1].id"]),
    (".users[id>2]", [".users[2]"]),
    (".users[id>=2].name", [".users[1].name", ".users[2].name"]),
    (".users[status=online][id>1].name", [".users[2].name"]),
    (".prices.*[bid=3].ask", [".prices.ETH.ask"]),
    ('.users[name="Ann"].tags[0]', [".users[0].tags[0]"]),
    ("$.users[?@.status=='online']", [".users[0]", ".users[2]"]),
    ("$.users[0,1].name", [".users[0].name", ".users[1].name"]),
    ("$['prices'][?@.bid > 2].ask", [".prices.ETH.ask"]),
    ("$..tags[0]", [".users[0].tags[0]", ".users[2].tags[0]"]),
    ("$.users[?length(@.tags) == $.users[2].id]", []),
    ("/users/0/name", [".users[0].name"]),
    ("/prices/BTC-USD", ['.prices["BTC-USD"]']),
    (".deep.list[*][0]", [".deep.list[0][0]", ".deep.list[1][0]"]),
    (".n", [".n"]),
]

Write = Callable[[Api], Awaitable[object]]


def put(path: str, value: Any) -> Write:
    return lambda api: api.put(path, value)


def delete(path: str) -> Write:
    return lambda api: api.delete(path)


def merge(path: str, value: Any) -> Write:
    return lambda api: api.merge(path, value)


def patch(path: str, *operations: dict[str, Any]) -> Write:
    return lambda api: api.patch(path, *operations)


WRITES: list[tuple[str, Write]] = [
    ("exact", put(".users[0].name", "Anna")),
    ("quoted", put('.prices["BTC-USD"].bid', 10)),
    ("below", put(".users[2].tags[0]", "z")),
    ("meets", put(".users[1].status", "online")),
    ("no longer meets", put(".users[0].status", "away")),
    ("type of a value", put(".users[2].id", "3")),
    ("and back", put(".users[2].id", 3)),
    ("key goes", delete(".users[1].status")),
    ("key comes", put(".users[1].status", "online")),
    (
        "append",
        put(".users[3]", {"id": 4, "name": "Di", "status": "online", "tags": []}),
    ),
    ("append below", put(".users[3].tags[0]", "a")),
    ("elements move", delete(".users[0]")),
    ("last goes", delete(".users[2]")),
    (
        "merge",
        merge(".users[0]", {"name": "Bobby", "status": None, "new": {"bid": 1}}),
    ),
    ("merge nothing", merge(".users[0]", {})),
    (
        "patch",
        patch(
            ".",
            {
                "op": "add",
                "path": "/users/0",
                "value": {"id": 9, "name": "Zoe", "status": "online"},
            },
            {"op": "move", "from": "/n", "path": "/prices/n"},
            {"op": "copy", "from": "/users/1", "path": "/users/-"},
            {"op": "replace", "path": "/deep/list/0/0", "value": {"bid": 7}},
        ),
    ),
    ("member goes", delete(".prices.ETH")),
    ("member comes", put(".prices.DOGE", {"bid": 5, "ask": 6})),
    ("container to scalar", put(".prices", 7)),
    ("scalar to container", put(".prices", DOCUMENT["prices"])),
    ("array to object", put(".users", {"0": {"id": 1, "status": "online"}})),
    ("object to array", put(".users", DOCUMENT["users"][::-1])),
    ("same again", put(".users", DOCUMENT["users"][::-1])),
    ("array empty", put(".users", [])),
    ("root", put(".", {**DOCUMENT, "fence": "reset", "n": {"bid": 0}})),
]

EVERYTHING = (".", "$")


@pytest.mark.parametrize(("filter_text", "paths"), FORMS, ids=[form for form, _ in FORMS])
async def test_every_form_selects(api: Api, filter_text: str, paths: list[str]) -> None:
    await api.reset(DOCUMENT)
    items = await api.select(filter_text)
    assert [item["path"] for item in items] == paths
    for item in items:
        assert same(await api.get(item["path"]), item["value"])


@pytest.mark.parametrize("filter_text", [*EVERYTHING, *(form for form, _ in FORMS)])
async def test_what_is_received_assembles_to_the_selection(
    server: Server, api: Api, filter_text: str
) -> None:
    await api.reset(DOCUMENT)
    fence = Fence(api)
    filters = [filter_text] if filter_text in EVERYTHING else [filter_text, ".fence"]
    async with (
        watch(server, "sse", *filters) as sse,
        watch(server, "ws", *filters) as ws,
    ):
        views = Assembler(), Assembler()
        for one, assembler in zip((sse, ws), views, strict=True):
            for _ in filters:
                assembler.take(await one.next())
        for name, write in WRITES:
            await write(api)
            by_sse, by_ws = await fence.pass_through(sse, ws)
            assert [without_id(f) for f in by_sse] == [without_id(f) for f in by_ws], name
            selected = items_view(await api.select(filter_text))
            for frames, assembler in zip((by_sse, by_ws), views, strict=True):
                for frame in frames:
                    assembler.take(frame)
                check_view(assembler.views[filter_text], selected, f"{name}: {frames}")


def without_id(frame: Frame) -> Frame:
    return {name: value for name, value in frame.items() if name != "id"}


def check_view(view: dict[Any, Any], selected: dict[Any, Any], context: str) -> None:
    """The same places with the same values; the fence is out of step by one and does not count."""
    if () in view and () in selected:
        view, selected = ({(): {**v[()], "fence": ""}} for v in (view, selected))
    assert view.keys() == selected.keys(), context
    for path, value in selected.items():
        assert same(view[path], value), f"{path}: {view[path]!r} is not {value!r}; {context}"


# Filter, write, and the events that the contract determines: (type, path, value).
EXACT: list[tuple[str, Write, list[tuple[Any, ...]]]] = [
    (".n", put(".n", 6), [("update", ".n", 6)]),
    (".n", delete(".n"), [("delete", ".n")]),
    (".n", put(".users[0].id", 6), []),
    (".users[*].name", put(".users[1].name", "B"), [("update", ".users[1].name", "B")]),
    (".users[*].name", put(".users[1].id", 7), []),
    (".users[1].name", put(".users[0].name", "x"), []),
    (".users[*]", put(".users[1].name", "B"), [("update", ".users[1].name", "B")]),
    (".users", put(".users[1].tags[0]", 1), [("update", ".users[1].tags[0]", 1)]),
    (".users", delete(".users[1].tags"), [("delete", ".users[1].tags")]),
    (
        ".users[1].name",
        put(".users[1]", {"name": "B", "x": 1}),
        [("update", ".users[1].name", "B")],
    ),
    (".users[1].name", put(".users[1]", {"x": 1}), [("delete", ".users[1].name")]),
    (".users[1].name", put(".users", []), [("delete", ".users[1].name")]),
    (".prices.*.bid", put(".prices.X", {"bid": 9, "ask": 8}), [("update", ".prices.X.bid", 9)]),
    (".prices.*.bid", delete(".prices.ETH"), [("delete", ".prices.ETH.bid")]),
    (".prices.*", delete(".prices.ETH"), [("delete", ".prices.ETH")]),
    (
        ".users[status=online]",
        put(".users[1].status", "online"),
        [("update", ".users[1]", {**DOCUMENT["users"][1], "status": "online"})],
    ),
    (
        ".users[status=online]",
        put(".users[0].status", "away"),
        [("delete", ".users[0]")],
    ),
    (".users[status=online]", put(".users[1].name", "B"), []),
    (".users[status=online]", put(".users[0].name", "A"), [("update", ".users[0].name", "A")]),
    (".users[status=online].name", put(".users[0].status", "away"), [("delete", ".users[0].name")]),
    (
        ".users[status=online].name",
        put(".users[1].status", "online"),
        [("update", ".users[1].name", "Bob")],
    ),
    (".users[status=online].name", put(".users[0].id", 8), []),
    (".users[status=online].name", delete(".users[0].status"), [("delete", ".users[0].name")]),
    (".users[nokey!=x]", put(".users[0].id", 8), []),
    (".users[id=1].name", put(".users[0].id", "1"), [("delete", ".users[0].name")]),
    ('.users[id="2"].name', put(".users[1].id", "2"), [("update", ".users[1].name", "Bob")]),
    (".users[id=1].name", put(".users[1].id", True), []),
    ("$.users[?@.id==2].name", put(".users[1].name", "B"), [("update", ".users[1].name", "B")]),
    ("$.users[?@.id==2].name", put(".users[0].name", "A"), []),
    ("..ask", put(".prices.ETH.ask", 5), [("update", ".prices.ETH.ask", 5)]),
    ("..ask", put(".users[0].ask", 5), [("update", ".users[0].ask", 5)]),
    ("/n", put(".n", 6), [("update", ".n", 6)]),
    ("/users/1/name", put(".users[1].name", 6), [("update", ".users[1].name", 6)]),
    (".users1", put(".users", []), []),
    (".n", merge(".", {"n": 7, "deep": None}), [("update", ".n", 7)]),
    (
        ".users[*].name",
        patch(".users", {"op": "add", "path": "/-", "value": {"name": "N", "k": 1}}),
        [("update", ".users[3].name", "N")],
    ),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_events_of_single_changes(server: Server, api: Api, transport: str) -> None:
    fence = Fence(api)
    for filter_text, write, expected in EXACT:
        await api.reset(DOCUMENT)
        async with watch(server, transport, filter_text, ".fence", snapshot="none") as one:
            now_ms = time.time() * 1000
            change = await write(api)
            [frames] = await fence.pass_through(one)
            context = f"{filter_text}: {frames}"
            got = [(f["type"], f["path"], *([f["value"]] if "value" in f else [])) for f in frames]
            assert len(got) == len(expected), context
            for event, wanted in zip(got, expected, strict=True):
                assert same(list(event), list(wanted)), context
            for frame in frames:
                assert frame["filter"] == filter_text
                assert abs(frame["time"] - now_ms) < 60_000, "Unix milliseconds"
            if frames:
                assert frames[-1]["id"] == change, context


@pytest.mark.parametrize("filter_text", [f for f, _ in FORMS if "name" in f.rpartition(".")[2]])
async def test_a_change_above_never_leaks_a_sibling(
    server: Server, api: Api, filter_text: str
) -> None:
    """Looked for in the raw data, wherever in a frame it might be."""
    await api.reset(DOCUMENT)
    secret = "s3cret-sibling"
    users = [{**user, "password": secret, "tags": [secret]} for user in DOCUMENT["users"]]
    async with (
        open_sse(server.port, "/events" + query([filter_text, ".fence"])) as sse,
        open_ws(server, "/ws" + query([filter_text, ".fence"])) as ws,
    ):
        await api.put(".users", users)
        await api.reset({**DOCUMENT, "users": users[::-1], "other": secret})
        await api.merge(".", {"users": users, "hidden": {"name": secret}})
        await api.patch(".", {"op": "move", "from": "/users/0", "path": "/users/2"})
        await api.put(".fence", "passed")
        raw = await texts(lambda: sse_text(sse)) + await texts(lambda: ws_text(ws))
        assert not [text for text in raw if secret in text]


async def sse_text(stream: SseStream) -> str:
    return (await stream.next()).data


async def ws_text(ws: Ws) -> str:
    with trio.fail_after(PATIENCE_S):
        return str(await ws.connection.get_message())


async def texts(receive: Callable[[], Awaitable[str]]) -> list[str]:
    """Everything as it came, up to the change of the fence."""
    got = [await receive()]
    while "passed" not in got[-1]:
        got.append(await receive())
    return got


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_failed_write_sends_nothing(server: Server, api: Api, transport: str) -> None:
    await api.reset(DOCUMENT)
    fence = Fence(api)
    async with watch(server, transport, ".", snapshot="none") as one:
        json_patch = "application/json-patch+json"
        for path, body, status in [
            (
                ".",
                b'[{"op":"replace","path":"/n","value":1},{"op":"test","path":"/n","value":2}]',
                409,
            ),
            (".", b'[{"op":"remove","path":"/n"},{"op":"remove","path":"/none"}]', None),
        ]:
            refused = await api.write("PATCH", path, body, json_patch)
            assert refused.status_code == status if status else 400 <= refused.status_code < 500
        assert (await api.write("PUT", ".none.deep", b"1", "application/json")).status_code == 404
        assert (await api.write("PUT", ".n.deep", b"1", "application/json")).status_code == 404
        assert (await api.write("PUT", ".users[7]", b"1", "application/json")).status_code == 404
        assert await fence.pass_through(one) == [[]]
        assert await api.get(".") == {**DOCUMENT, "fence": "fence 1"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_filter_no_document(server: Server, api: Api, transport: str) -> None:
    """A WebSocket that only wants rooms gets no document; SSE without filter asks for it (`none =
    .`).
    """
    await api.reset({"fence": ""})
    async with watch(server, transport, room="lobby") as one:
        await api.put(".fence", 1)
        reached = await api.request(
            "POST", "/publish", json={"room": "lobby", "event": "hello", "data": 1}
        )
        assert reached.json() == {"reached": 1}
        kinds: list[str] = []
        while not kinds or kinds[-1] != "message":
            kinds.append((await one.next())["type"])
        assert kinds in (["message"], ["snapshot", "update", "message"])
