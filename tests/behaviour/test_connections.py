"""The control API: what an admin sees of clients, and what it can do to them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from .auth import ADMIN, GUARDED, bearer, issue, status
from .clients import (
    PATIENCE_S,
    TRANSPORTS,
    Api,
    Fence,
    Watch,
    Ws,
    eventually,
    open_api,
    open_sse,
    open_ws,
    query,
    watch,
)
from .conftest import ServerFactory
from .server import OPEN, Lane, Server

pytestmark = pytest.mark.trio

MEMBERS = {
    "client", "transport", "lane", "ip", "name", "tags", "rooms", "filters", "state", "queued",
    "queued_bytes", "oldest_s", "connected_s", "sent", "sent_bytes", "dropped", "drops", "heals",
}  # fmt: skip


@pytest.fixture
async def document(api: Api) -> str:
    return await api.reset({"fence": ""})


async def listed(api: Api, **selectors: Any) -> list[dict[str, Any]]:
    """`GET /connections`."""
    response = await api.request("GET", "/connections" + query(**selectors))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer.keys() == {"connections", "total"}
    found: list[dict[str, Any]] = answer["connections"]
    assert answer["total"] >= len(found)
    return found


async def control(api: Api, verb: str, body: Any, **selectors: Any) -> int:
    """`POST /connections/VERB`; the number reached."""
    url = f"/connections/{verb}" + query(**selectors)
    options: dict[str, Any] = {"json": body}
    if isinstance(body, bytes):
        options = {"content": body, "headers": {"Content-Type": "application/octet-stream"}}
    response = await api.request("POST", url, **({} if body is None else options))
    assert response.status_code == 200, response.text
    assert response.json().keys() == {"reached"}
    count: int = response.json()["reached"]
    return count


def name(watcher: Watch) -> str:
    client: str = watcher.connected["client"]
    return client


async def raw(ws: Ws) -> str | bytes:
    """The next message as it came."""
    with trio.fail_after(PATIENCE_S):
        message: str | bytes = await ws.connection.get_message()
        return message


@asynccontextmanager
async def plain(server: Server, **options: Any) -> AsyncIterator[tuple[Ws, str]]:
    """A WebSocket without subscriptions, and its id."""
    async with open_ws(server, "/ws" + query(**options), greet=False) as ws:
        yield ws, (await ws.next())["client"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_seen_of_a_client(
    server: Server, api: Api, fence: Fence, document: str, transport: str, lane: Lane
) -> None:
    options: dict[str, Any] = {"tag.kind": "seen", "room": ["r1", "r2"], "policy": "disconnect"}
    async with watch(server, transport, ".fence", snapshot="none", **options) as one:
        await fence.pass_through(one)
        [seen] = await listed(api, id=name(one))
    assert seen.keys() == MEMBERS
    assert seen["client"] == name(one)
    assert seen["transport"] == {"sse": "sse", "ws": "websocket"}[transport]
    assert seen["lane"] == {"native": "native", "hypercorn": "asgi"}[lane]
    assert seen["ip"] == "127.0.0.1"
    assert seen["name"] is None
    assert seen["tags"] == {"client.kind": "seen"}
    assert seen["rooms"] == ["r1", "r2"]
    assert seen["filters"] == [{"filter": ".fence", "policy": "disconnect"}]
    assert seen["state"] == "flowing"
    assert (seen["queued"], seen["queued_bytes"], seen["oldest_s"]) == (0, 0, 0)
    assert 0 <= seen["connected_s"] < 30
    assert (seen["dropped"], seen["drops"], seen["heals"]) == (0, {}, 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_was_sent_is_counted_exactly(
    server: Server, api: Api, fence: Fence, document: str, transport: str
) -> None:
    async with (
        watch(server, transport, ".fence", ".n", snapshot="none") as one,
        watch(server, transport, ".fence", ".n", snapshot="none") as two,
    ):
        await fence.pass_through(one, two)

        async def counts() -> list[tuple[int, int]]:
            found = [(await listed(api, id=name(each)))[0] for each in (one, two)]
            return [(each["sent"], each["sent_bytes"]) for each in found]

        before = await counts()
        for number in range(20):
            await api.put(".n", number)
        await fence.pass_through(one, two)
        after = await counts()
    for (sent, size), (sent_before, size_before) in zip(after, before, strict=True):
        assert 21 <= sent - sent_before <= 22, "a heartbeat may have come between"
        assert 21 * 60 < size - size_before < 22 * 200


async def test_selectors(server: Server, api: Api, document: str) -> None:
    async with (
        plain(server, **{"tag.group": "sel", "tag.user": "1"}) as (_, one),
        plain(server, **{"tag.group": "sel", "tag.user": "2"}) as (_, two),
        plain(server) as (_, three),
    ):

        async def who(**selectors: Any) -> list[str]:
            return [seen["client"] for seen in await listed(api, **selectors)]

        assert {one, two, three} <= set(await who())
        assert await who(id=two) == [two]
        assert await who(id=[three, one, three, "c_nobody"]) == [three, one]
        assert await who(**{"tag.client.group": "sel"}) == [one, two]
        assert await who(**{"tag.client.group": "sel", "tag.client.user": "2"}) == [two]
        assert await who(**{"tag.client.group": "sel", "tag.client.user": "3"}) == []
        assert await who(id=[one, three], **{"tag.client.group": "sel"}) == [one]
        assert await who(id="c_nobody") == []
        assert len(await who(limit=1)) == 1
        answer = await api.request("GET", "/connections?tag.client.group=sel&limit=1")
        assert answer.json()["total"] == 2
        for bad in ("?limit=0", "?limit=x", "?limit=10001", "?idd=1", "?tag.a=1&tag.a=2"):
            assert (await api.request("GET", "/connections" + bad)).status_code == 400


@pytest.mark.parametrize("verb", ["send", "tags", "close"])
async def test_no_selector_selects_nobody(
    server: Server, api: Api, document: str, verb: str
) -> None:
    body = {"tags": {"x": "y"}} if verb == "tags" else {"text": "boo"}
    async with plain(server) as (ws, _):
        assert await control(api, verb, body) == 0
        assert (await ws.ok("tag", tags={}))["tags"] == {}


async def test_send_to_a_websocket(server: Server, api: Api, document: str) -> None:
    mine, group = {"tag.group": "send-ws"}, {"tag.client.group": "send-ws"}
    async with plain(server, **mine) as (one, _), plain(server, **mine) as (two, name_two):
        assert await control(api, "send", {"text": "as it is {"}, **group) == 2
        assert await control(api, "send", {"data": {"id": "x", "n": [1]}}, id=name_two) == 1
        assert await control(api, "send", {"data": None}, **group) == 2
        assert await control(api, "send", b"\x00\xff\x01", **group) == 2
        assert await control(api, "send", {"text": "x" * 200_000}, **group) == 2
        assert [await raw(one) for _ in range(3)] == ["as it is {", "null", b"\x00\xff\x01"]
        assert await raw(one) == "x" * 200_000
        assert await raw(two) == "as it is {"
        assert await raw(two) == '{"id":"x","n":[1]}'
        assert [await raw(two) for _ in range(2)] == ["null", b"\x00\xff\x01"]


async def test_send_to_an_event_stream(
    server: Server, api: Api, fence: Fence, document: str
) -> None:
    async with watch(server, "sse", ".fence", snapshot="none") as one:
        assert await control(api, "send", {"text": "two\nlines"}, id=name(one)) == 1
        assert await control(api, "send", {"data": {"n": 1}}, id=name(one)) == 1
        assert await control(api, "send", b"\x00\xff", id=name(one)) == 1
        [got] = await fence.pass_through(one)
    assert [frame["type"] for frame in got] == ["message"] * 3
    assert [frame["data"] for frame in got[:2]] == ["two\nlines", {"n": 1}]
    assert got[0]["room"] is None
    assert base64.b64decode(got[2]["data"]) == b"\x00\xff"
    assert got[2]["encoding"] == "base64"


@pytest.mark.parametrize(
    "body",
    [{}, {"data": 1, "text": "x"}, {"text": 5}, {"body": "x"}, [], "text", b""],
    ids=str,
)
async def test_send_refuses_what_it_does_not_understand(api: Api, body: Any) -> None:
    url = "/connections/send?id=c_x"
    options: dict[str, Any] = {"json": body}
    if isinstance(body, bytes):
        options = {"content": body, "headers": {"Content-Type": "application/octet-stream"}}
    assert (await api.request("POST", url, **options)).status_code == 400


async def test_types_of_content(api: Api) -> None:
    url = "/connections/send?id=c_x"
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        response = await api.request("POST", url, content=b"x", headers={"Content-Type": kind})
        assert response.status_code == 415, kind
    assert (await api.request("POST", url)).status_code == 415


async def test_tags_are_set_and_taken_away(server: Server, api: Api, document: str) -> None:
    async with plain(server) as (_, one):
        assert await control(api, "tags", {"tags": {"b": "1", "group": "tags"}}, id=one) == 1
        assert await control(api, "tags", {"tags": {"a": "1", "b": None}}, id=one) == 1
        assert await control(api, "tags", {"tags": {"group": None}}, **{"tag.group": "tags"}) == 1
        assert (await listed(api, id=one))[0]["tags"] == {"a": "1"}
        assert await listed(api, **{"tag.group": "tags"}) == []
        assert (
            await control(api, "tags", {"tags": {"a": "2", "ghost": None}}, **{"tag.a": "1"}) == 1
        )
        assert [seen["client"] for seen in await listed(api, **{"tag.a": "2"})] == [one]
        wrong: list[Any] = [{}, {"tags": []}, {"tags": {"a": 1}}, {"tags": {"": "x"}}, {"tag": {}}]
        wrong.append({"tags": {"client.a": "x"}})
        for bad in wrong:
            response = await api.request("POST", f"/connections/tags?id={one}", json=bad)
            assert response.status_code == 400, bad


async def test_tags_of_a_client_are_bounded(server: Server, api: Api, document: str) -> None:
    async with plain(server) as (ws, one):
        await ws.ok("tag", tags={f"n{number}": "x" for number in range(32)})
        assert (await ws.refused("tag", tags={"more": "x"}))["status"] == 400
        await ws.ok("tag", tags={"n0": None, "more": "x"})
        # Those of the server have a bound of their own, which no client can use up.
        body = {"tags": {f"n{number}": "x" for number in range(32)}}
        assert await control(api, "tags", body, id=one) == 1
        more = {"json": {"tags": {"more": "x"}}}
        refused = await api.request("POST", f"/connections/tags?id={one}", **more)
        assert refused.status_code == 400
        assert len((await listed(api, id=one))[0]["tags"]) == 64


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_a_client_says_of_itself_is_apart(
    server: Server, api: Api, fence: Fence, document: str, transport: str
) -> None:
    lie: dict[str, Any] = {"snapshot": "none", "tag.user": "7", "tag.client.user": "7"}
    secret: dict[str, Any] = {"event": "secret", "data": 1}
    async with watch(server, transport, ".fence", **lie) as liar, plain(server) as (ws, real):
        await ws.ok("tag", tags={"user": "8"})
        assert await control(api, "tags", {"tags": {"user": "7"}}, id=real) == 1
        assert (await ws.ok("tag", tags={"user": None}))["tags"] == {}
        assert await control(api, "send", {"data": "to 7"}, **{"tag.user": "7"}) == 1
        publish = {"json": {"tags": {"user": "7"}, **secret}}
        assert (await api.request("POST", "/publish", **publish)).json() == {"reached": 1}
        assert [seen["client"] for seen in await listed(api, **{"tag.user": "7"})] == [real]
        assert [seen["client"] for seen in await listed(api, **{"tag.client.user": "7"})] == [
            name(liar)
        ]
        [got] = await fence.pass_through(liar)
        assert got == []
        assert await raw(ws) == '"to 7"'
        assert (await ws.next())["event"] == "secret"
        # The back end can take nothing away, nor give anything, in the client's name.
        assert await control(api, "tags", {"tags": {"user": None}}, id=name(liar)) == 1
        seen = (await listed(api, id=name(liar)))[0]
        assert seen["tags"] == {"client.user": "7", "client.client.user": "7"}


async def test_no_client_changes_the_tags_of_its_route(lane: Lane, tmp_path: Path) -> None:
    (tmp_path / "triode.toml").write_text('[[socket]]\npath = "/game/{table}"\n')
    server = Server(lane, dict(OPEN), tmp_path)
    await trio.to_thread.run_sync(server.start)
    try:
        async with (
            open_api(server) as api,
            open_ws(server, "/game/7" + query(**{"tag.table": "8"}), greet=False) as ws,
        ):
            one = (await ws.next())["client"]
            assert (await ws.ok("tag", tags={"table": "9", "x": "1"}))["tags"] == {
                "table": "9",
                "x": "1",
            }
            await ws.ok("tag", tags={"table": None})
            assert (await listed(api, id=one))[0]["tags"] == {"table": "7", "client.x": "1"}
            assert [seen["client"] for seen in await listed(api, **{"tag.table": "7"})] == [one]
    finally:
        with trio.move_on_after(60, shield=True):
            await trio.to_thread.run_sync(server.stop)


async def test_close_a_websocket(server: Server, api: Api, document: str) -> None:
    async with plain(server) as (one, name_one), plain(server) as (two, name_two):
        assert await control(api, "close", {"text": "bye"}, id=name_one) == 1
        assert await raw(one) == "bye"
        assert (await one.closed())[0] == 1000
        assert await control(api, "close", None, id=name_two) == 1
        assert (await two.closed())[0] == 1000
        assert await control(api, "close", None, id=[name_one, name_two]) == 0
        assert await listed(api, id=[name_one, name_two]) == []


async def test_close_an_event_stream(server: Server, api: Api, document: str) -> None:
    async with open_sse(server.port, "/events?filter=.fence&snapshot=none") as stream:
        one = (await stream.next()).frame()["client"]
        assert await control(api, "close", {"data": ["bye"]}, id=one) == 1
        last, closing = (await stream.next()).frame(), (await stream.next()).frame()
        assert (last["type"], last["data"]) == ("message", ["bye"])
        assert (closing["type"], closing["reason"]) == ("closing", "closed")
        with pytest.raises((EOFError, trio.EndOfChannel, AssertionError)):
            await stream.next()


async def test_stats_name_the_slow(server: Server, api: Api, fence: Fence, document: str) -> None:
    async with watch(server, "sse", ".big", snapshot="none") as frozen, plain(server) as (_, quick):
        # More than the kernel's buffers hold, for a peer that reads nothing.
        for number in range(40):
            await api.put(".big", f"{number}" * 400_000)

        async def is_behind() -> bool:
            stats = (await api.request("GET", "/stats?clients=slow")).json()
            return [seen["client"] for seen in stats["clients"]] == [name(frozen)]

        await eventually(is_behind)
        stats = (await api.request("GET", "/stats?clients=all&limit=2")).json()
        first, second = stats["clients"]
        assert first["client"] == name(frozen)
        assert first["state"] in ("slow", "healing")
        assert first["queued"] + first["dropped"] > 0
        assert sum(first["drops"].values()) == first["dropped"]
        assert second["state"] == "flowing"
        assert quick in [seen["client"] for seen in await listed(api)]
    for bad in ("?clients=fast", "?clients=slow&limit=0", "?clients=all&limit=1001"):
        assert (await api.request("GET", "/stats" + bad)).status_code == 400
    assert "clients" not in (await api.request("GET", "/stats")).json()


async def test_the_log_of_ends(server: Server, api: Api, document: str) -> None:
    async with plain(server) as (ws, one):
        await control(api, "close", None, id=one)
        await ws.closed()

    async def ends() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await api.request("GET", "/stats")).json()["ends_log"]
        return found

    newest = (await ends())[0]
    assert newest.keys() == {"time", "client", "transport", "reason", "ip"}
    assert (newest["client"], newest["transport"]) == (one, "websocket")
    assert (newest["reason"], newest["ip"]) == ("closed", "127.0.0.1")
    async with watch(server, "sse", ".fence") as two:
        pass

    async def is_gone() -> bool:
        return bool((await ends())[0]["client"] == name(two))

    await eventually(is_gone)
    found = await ends()
    assert found[0]["transport"] == "sse"
    assert found[0]["time"] >= newest["time"]
    assert len(found) <= 200


@pytest.mark.parametrize("verb", ["GET ", "POST /send", "POST /tags", "POST /close"])
async def test_only_for_admins(guarded: Server, admin: Api, verb: str) -> None:
    method, _, path = verb.partition(" ")
    url = "/connections" + path
    token = (await issue(admin, read=["."]))["token"]
    body: dict[str, Any] = {"json": {"tags": {}} if "tags" in path else {"text": "x"}}
    body = body if path else {}
    assert await status(guarded, None, method, url, **body) == 401
    assert await status(guarded, token, method, url, **body) == 403
    assert await status(guarded, ADMIN, method, url, **body) == 200


async def test_whose_token_it_is(guarded: Server, admin: Api) -> None:
    token = (await issue(admin, read=["."], label="a phone"))["token"]
    async with watch(guarded, "sse", ".fence", headers=bearer(token)) as one:
        assert (await listed(admin, id=name(one)))[0]["name"] == "a phone"


async def test_control_from_an_address(make_server: ServerFactory) -> None:
    server = make_server(**GUARDED, control_from="127.0.0.8/30", trusted_proxies="127.0.0.9")
    cases: list[tuple[str, dict[str, str], int]] = [
        ("127.0.0.1", {}, 401),
        ("127.0.0.8", {}, 200),
        ("127.0.0.8", {"Authorization": f"Bearer {ADMIN}"}, 200),
        ("127.0.0.8", {"Authorization": "Bearer wrong"}, 401),
        ("127.0.0.8", {"X-Forwarded-For": "127.0.0.8"}, 401),
        ("127.0.0.8", {"Forwarded": "for=127.0.0.8"}, 401),
        ("127.0.0.9", {"X-Forwarded-For": "192.0.2.1"}, 401),
        ("127.0.0.9", {"X-Forwarded-For": "127.0.0.8"}, 200),
        ("127.0.0.8", {"Origin": "https://evil.example"}, 403),
        ("127.0.0.8", {"Origin": f"http://127.0.0.1:{server.port}"}, 200),
    ]
    for source, headers, expected in cases:
        async with open_api(server, source=source) as api:
            for method, url in (("GET", "/connections"), ("POST", "/connections/close")):
                response = await api.request(method, url, headers=headers)
                assert response.status_code == expected, (source, headers, method)
    async with open_api(server, source="127.0.0.8") as api:
        assert (await api.request("GET", "/stats")).status_code == 401, "the control API only"
        async with AsyncExitStack() as stack:
            watcher = watch(server, "sse", ".", headers=bearer(ADMIN))
            one = await stack.enter_async_context(watcher)
            assert await control(api, "send", {"text": "x"}, id=name(one)) == 1


async def test_a_page_of_another_origin_controls_nothing(server: Server, document: str) -> None:
    async with plain(server) as (ws, one), open_api(server) as api:
        response: httpx.Response = await api.request(
            "POST", f"/connections/close?id={one}", headers={"Origin": "https://evil.example"}
        )
        assert response.status_code == 403
        await ws.ok("tag", tags={})
