"""The beginning of a connection: `connected` first, the snapshot, the fields of the answer, what is
refused.
"""

from __future__ import annotations

import json
from typing import Any

import h11
import pytest
import trio
from trio_websocket import ConnectionRejected

from .assembler import items_view, same
from .clients import (
    PATIENCE_S,
    TRANSPORTS,
    Api,
    Fence,
    check_problem,
    exchange,
    open_socket,
    open_ws,
    query,
    sequence,
    watch,
)
from .conftest import ServerFactory
from .server import Lane, Server
from .sse import EventSource, SseParser, open_sse

pytestmark = pytest.mark.trio

DOCUMENT: dict[str, Any] = {"a": {"x": 1, "y": [1, 2, {"z": None}]}, "b": "two", "fence": ""}


@pytest.fixture
async def document(api: Api) -> str:
    return await api.reset(DOCUMENT)


async def test_sse_answer_fields(server: Server, document: str) -> None:
    async with open_sse(server.port) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"


async def test_sse_begins_with_connected_and_retry(server: Server, document: str) -> None:
    async with open_sse(server.port) as stream:
        block = await stream.next()
        assert block.event == "connected"
        assert stream.parser.retry_ms is not None
        assert stream.parser.retry_ms > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_connected_says_who_and_where(server: Server, document: str, transport: str) -> None:
    async with (
        watch(server, transport, ".a") as one,
        watch(server, transport, ".a") as two,
    ):
        body = one.connected
        assert body["client"].startswith("c_")
        assert body["client"] != two.connected["client"]
        assert len(body["client"]) >= 16, "unguessable"
        assert body["epoch"] == document.rpartition(":")[0]
        assert body["resumed"] is False
        assert isinstance(body["server"], str)
        assert body["heartbeat_s"] == 15


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_snapshot_follows_with_its_position(
    server: Server, document: str, transport: str
) -> None:
    async with watch(server, transport, ".a.y[*]") as one:
        frame = await one.next()
        assert frame["type"] == "snapshot"
        assert frame["filter"] == ".a.y[*]"
        assert frame["more"] is False
        assert frame["id"] == document
        assert frame["items"] == [
            {"path": ".a.y[0]", "value": 1},
            {"path": ".a.y[1]", "value": 2},
            {"path": ".a.y[2]", "value": {"z": None}},
        ]


async def test_sse_without_filter_is_the_whole_document(server: Server, document: str) -> None:
    async with watch(server, "sse") as one:
        frame = await one.next()
        assert (frame["type"], frame["filter"]) == ("snapshot", ".")
        assert frame["items"] == [{"path": ".", "value": DOCUMENT}]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_selection_of_nothing_is_an_empty_snapshot(
    server: Server, document: str, transport: str
) -> None:
    async with watch(server, transport, ".nothing[*].here") as one:
        assert await one.snapshot() == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_snapshot_none(server: Server, document: str, fence: Fence, transport: str) -> None:
    async with watch(server, transport, ".a", ".fence", snapshot="none") as one:
        assert await fence.pass_through(one) == [[]]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_wrong_value_of_snapshot_is_refused(server: Server, transport: str) -> None:
    assert (await refusal(server, transport, query([".a"], snapshot="perhaps")))["status"] == 400


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("joined", [True, False], ids=["comma list", "repeated"])
async def test_several_filters_are_or(
    server: Server, api: Api, document: str, fence: Fence, transport: str, joined: bool
) -> None:
    filters = [".a.x", ".b", ".fence"]
    asked = [",".join(filters)] if joined else filters
    async with watch(server, transport, *asked) as one:
        shots = [await one.next() for _ in filters]
        assert {shot["filter"]: shot["items"][0]["value"] for shot in shots} == {
            ".a.x": 1,
            ".b": "two",
            ".fence": "",
        }
        await api.put(".a.x", 2)
        await api.put(".a.y[0]", 3)
        await api.put(".b", "three")
        [frames] = await fence.pass_through(one)
        assert [(f["filter"], f["path"], f["value"]) for f in frames] == [
            (".a.x", ".a.x", 2),
            (".b", ".b", "three"),
        ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_overlapping_filters_each_get_the_change(
    server: Server, api: Api, document: str, fence: Fence, transport: str
) -> None:
    async with watch(server, transport, ".a", ".a.x", ".fence", snapshot="none") as one:
        change = await api.put(".a.x", 9)
        [frames] = await fence.pass_through(one)
        assert sorted(f["filter"] for f in frames) == [".a", ".a.x"]
        assert all((f["path"], f["value"]) == (".a.x", 9) for f in frames)
        assert frames[-1]["id"] == change


async def test_a_comma_inside_brackets_belongs_to_the_filter(server: Server, api: Api) -> None:
    await api.reset({"a": [{"name": "x,y"}, {"name": "x"}]})
    async with watch(server, "sse", ".a[name=x,y]") as one:
        assert await one.snapshot() == [{"path": ".a[0]", "value": {"name": "x,y"}}]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_same_filter_twice_is_one_subscription(
    server: Server, api: Api, document: str, fence: Fence, transport: str
) -> None:
    async with watch(server, transport, ".b", ".b", ".fence", snapshot="none") as one:
        await api.put(".b", 1)
        [frames] = await fence.pass_through(one)
        assert len(frames) == 1, "none twice"


async def test_post_events_subscribes_by_body(
    server: Server, api: Api, document: str, fence: Fence
) -> None:
    body = json.dumps({"filter": [".b", ".fence"], "snapshot": "full"}).encode()
    headers = [("Content-Type", "application/json")]
    async with open_sse(server.port, method="POST", headers=headers, body=body) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert (await stream.next()).event == "connected"
        shots = [(await stream.next()).frame() for _ in range(2)]
        assert {shot["filter"] for shot in shots} == {".b", ".fence"}
        await api.put(".b", "by post")
        assert (await stream.next()).frame()["value"] == "by post"


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"filter": 7}', b'{"filter": [".a[", ".b"]}', b'{"filter":".a","filter":".b"}'],
)
async def test_post_events_refuses_a_bad_body(server: Server, body: bytes) -> None:
    headers = [("Content-Type", "application/json")]
    async with open_sse(server.port, method="POST", headers=headers, body=body) as stream:
        assert stream.status == 400
        stream.problem(await stream.content())


async def test_post_events_takes_a_subscription_too_long_for_a_url(
    server: Server, api: Api
) -> None:
    names = [f"{i:02}" + "n" * 400 for i in range(80)]
    await api.reset({name: i for i, name in enumerate(names)})
    body = json.dumps({"filter": [f'["{name}"]' for name in names]}).encode()
    assert len(body) > 32_000
    headers = [("Content-Type", "application/json")]
    async with open_sse(server.port, method="POST", headers=headers, body=body) as stream:
        assert stream.status == 200
        assert (await stream.next()).event == "connected"
        shots = [(await stream.next()).frame() for _ in names]
        assert [item["value"] for shot in shots for item in shot["items"]] == list(range(80))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("bad", "column"),
    [
        (".users[", 8),
        ("users[0]", 1),
        (".a..", 5),
        (".a[x=", 6),
        (".a[1:2", 7),
        ("$.a[?", None),
        ("$[", None),
        ('.a["open', None),
        (".a]", 3),
        (".a[]", None),
    ],
)
async def test_a_malformed_filter_is_refused_with_its_column(
    server: Server, transport: str, bad: str, column: int | None
) -> None:
    problem = await refusal(server, transport, query([bad]))
    assert problem["status"] == 400
    assert 1 <= problem["column"] <= len(bad) + 1
    if column is not None:
        # The fault may be named where it begins or where it is noticed, but not elsewhere.
        assert abs(problem["column"] - column) <= 1 or problem["column"] == bad.find("[") + 1


async def refusal(server: Server, transport: str, target: str) -> dict[str, Any]:
    """The problem object with which a subscription is refused before it begins."""
    if transport == "sse":
        async with open_sse(server.port, "/events" + target) as stream:
            return stream.problem(await stream.content())
    with pytest.raises(ConnectionRejected) as caught:
        async with open_ws(server, "/ws" + target):
            pass
    rejection = caught.value
    assert rejection.body is not None
    problem: dict[str, Any] = json.loads(rejection.body)
    assert problem["status"] == rejection.status_code
    return problem


async def test_ws_without_an_upgrade_is_refused(api: Api) -> None:
    response = await api.request("GET", "/ws")
    assert response.status_code in (400, 426)


async def test_http_1_0_gets_no_chunks(server: Server, api: Api) -> None:
    """Old clients and some probes: the body ends with the connection."""
    await api.reset({"n": 1})
    async with open_socket(server) as stream:
        await stream.send_all(b"GET /events?filter=.n HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        with trio.fail_after(5):
            while b"snapshot" not in answer and (data := await stream.receive_some(65536)):
                answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head[9:12] == b"200"
    assert b"chunked" not in head.lower()
    assert SseParser().feed(body)[0].event == "connected"


async def test_an_event_is_a_whole_chunk_and_a_goodbye_the_last(server: Server, api: Api) -> None:
    """Readers like urllib3's hand out what they have at the end of a chunk, or of the body."""
    await api.reset({"n": 1})
    peer = h11.Connection(h11.CLIENT)
    ask = h11.Request(method="GET", target="/events?filter=.n", headers=[("Host", "localhost")])
    found = b""
    async with open_socket(server) as stream:
        await stream.send_all((peer.send(ask) or b"") + (peer.send(h11.EndOfMessage()) or b""))

        async def until(mark: bytes) -> None:
            """To the end of the chunk that holds it."""
            nonlocal found
            with trio.fail_after(PATIENCE_S):
                while True:
                    event = peer.next_event()
                    if event is h11.NEED_DATA:
                        peer.receive_data(await stream.receive_some(65536))
                    elif isinstance(event, h11.Response):
                        assert (b"transfer-encoding", b"chunked") in event.headers
                    elif isinstance(event, h11.Data):
                        found += event.data
                        if mark in found and event.chunk_end:
                            return

        await until(b"event: snapshot")
        for value in (2, 3):
            await api.request("PUT", "/store?path=.n", json=value)
            await until(b'"value":%d' % value)
        assert found.endswith(b"\n\n")
        client = SseParser().feed(found)[0].frame()["client"]
        await api.request("POST", f"/connections/close?id={client}")
        await until(b"event: closing")
        with trio.fail_after(PATIENCE_S):
            while (event := peer.next_event()) is h11.NEED_DATA:
                peer.receive_data(await stream.receive_some(65536))
        assert isinstance(event, h11.EndOfMessage)


async def test_head_of_a_stream_has_no_body(server: Server) -> None:
    request = b"HEAD /events?filter=.n HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = await exchange(server, request, patience_s=5)
    assert answer[9:12] in (b"200", b"405")
    assert answer.endswith(b"\r\n\r\n")


async def test_events_knows_its_methods(api: Api) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        response = await api.request(method, "/events")
        assert response.status_code == 405
        assert {"GET", "POST"} <= {one.strip() for one in response.headers["allow"].split(",")}


@pytest.mark.parametrize(
    "asked",
    [
        {"filter": [f".a{i}" for i in range(5000)]},
        {"room": [f"r{i}" for i in range(5000)]},
        {"filter": ".a" * 5000},
        {"room": "r" * 5000},
    ],
    ids=["filters", "rooms", "long filter", "long room"],
)
async def test_too_many_and_too_long_are_refused(server: Server, asked: dict[str, Any]) -> None:
    headers = [("Content-Type", "application/json")]
    body = json.dumps(asked).encode()
    async with open_sse(server.port, method="POST", headers=headers, body=body) as stream:
        assert stream.status in (400, 403, 413, 422)
        stream.problem(await stream.content())


@pytest.mark.parametrize("kind", ["text/plain", None])
async def test_post_events_wants_json(server: Server, kind: str | None) -> None:
    headers = [("Content-Type", kind)] if kind else []
    async with open_sse(server.port, method="POST", headers=headers, body=b"{}") as stream:
        assert stream.status == 415
        stream.problem(await stream.content())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_big_snapshot_comes_whole(server: Server, api: Api, transport: str) -> None:
    document = {"rows": [{"id": i, "text": "é\u2028" * 50} for i in range(5000)]}
    await api.reset(document)
    async with watch(server, transport, ".rows[*]") as one:
        items = await one.snapshot()
    expected = {("rows", i): row for i, row in enumerate(document["rows"])}
    assert same(
        {str(k): v for k, v in items_view(items).items()}, {str(k): v for k, v in expected.items()}
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_text_of_every_kind_arrives_unharmed(
    server: Server, api: Api, transport: str
) -> None:
    nasty = (
        'line\nfeed\r\nand\rreturn\u2028\u2029\x85 \0 \ud7ff 😀 </script> " \\ : data: x\n\nid: 7\n'
    )
    await api.reset({nasty: 1, "t": nasty, "empty": "", "fence": ""})
    async with watch(server, transport, ".") as one:
        [item] = await one.snapshot()
        assert item["value"] == {nasty: 1, "t": nasty, "empty": "", "fence": ""}
        await api.put(f"[{json.dumps(nasty)}]", [nasty])
        frame = await one.next()
        assert frame["value"] == [nasty]
        assert frame["path"] == f"[{json.dumps(nasty, ensure_ascii=False)}]"


@pytest.mark.parametrize(
    "number", [0, -1, 2**53, 2**63, -(2**63), 10**30, 1.5, -0.0, 1e300, 5e-324]
)
async def test_numbers_arrive_unharmed(server: Server, api: Api, number: float) -> None:
    await api.reset({"n": number})
    # Beyond 64 bits a double is what JSON promises (RFC 8259 section 6).
    exact = abs(number) < 2**63 or number == -(2**63)
    got = await api.get(".n")
    assert got == number if exact else float(got) == float(number)
    async with watch(server, "sse", ".n") as one:
        assert (await one.snapshot())[0]["value"] == got


async def test_event_source_connects_and_resumes_by_itself(
    server: Server, api: Api, document: str, nursery: Any
) -> None:
    source = EventSource(server.port, "/events" + query([".b"]))
    await nursery.start(source.run)
    assert (await source.next()).event == "connected"
    assert (await source.next()).event == "snapshot"
    first = await api.put(".b", "first")
    assert (await source.next()).last_id == first
    source.cut()
    missed = await api.put(".b", "missed")
    again = await source.next()
    assert again.event == "connected"
    assert source.sent_ids == ["", first]
    # Whether the change came before or after the reconnect, it comes once and in its place.
    block = await source.next()
    assert (block.event, block.last_id, block.frame()["value"]) == ("update", missed, "missed")
    assert json.loads(again.data)["resumed"] is True


async def test_event_source_gives_up_on_a_refusal(server: Server, nursery: Any) -> None:
    source = EventSource(server.port, "/events" + query([".a["]))
    await source.run()
    assert source.failed == 400


async def test_the_client_is_told_the_heartbeat_and_gets_it(
    make_server: ServerFactory, lane: Lane
) -> None:
    server = make_server(heartbeat=0.3)
    async with open_sse(server.port) as stream:
        connected = await stream.next()
        assert json.loads(connected.data)["heartbeat_s"] == 0.3
        for _ in range(2):
            await stream.comment(3.0)


async def test_a_heartbeat_that_an_event_source_can_see(make_server: ServerFactory) -> None:
    server = make_server(heartbeat=0.3)
    target = "/events" + query([".none"], snapshot="none", heartbeat="event")
    async with open_sse(server.port, target) as stream:
        assert (await stream.next()).event == "connected"
        for _ in range(2):
            beat = await stream.next()
            assert beat.event == "heartbeat"
            assert beat.frame().keys() == {"type", "time"}
        assert stream.parser.comments == []


@pytest.mark.parametrize("path", ["/events?heartbeat=ping", "/events?heartbeat="])
async def test_another_heartbeat_is_refused(api: Api, path: str) -> None:
    response = await api.request("GET", path)
    assert response.status_code == 400
    assert "comment" in check_problem(response)["detail"]


async def test_a_websocket_has_pings_of_its_own(server: Server) -> None:
    with pytest.raises(ConnectionRejected) as refused:
        async with open_ws(server, "/ws?heartbeat=event"):
            pass
    assert refused.value.status_code == 400


async def test_head_of_a_stream_refusal_is_a_problem_everywhere(api: Api) -> None:
    response = await api.request("GET", "/events", params={"filter": ".a["})
    assert check_problem(response)["column"] >= 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ids_are_positions_of_the_document(
    server: Server, api: Api, document: str, transport: str
) -> None:
    async with watch(server, transport, ".b") as one:
        shot = await one.next()
        change = await api.put(".b", 1)
        frame = await one.next()
        assert frame["id"] == change
        assert sequence(change) == sequence(shot["id"]) + 1
        assert isinstance(frame["time"], int)
