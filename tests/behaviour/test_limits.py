"""Rates and admission on the running server: exact counts, honest waiting times, places that are
given back.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import AsyncIterator

import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected

from .clients import (
    Api,
    check_error,
    check_problem,
    eventually,
    exchange,
    open_api,
    open_socket,
    open_ws,
    query,
    upgrade,
)
from .conftest import ServerFactory
from .server import Server
from .sse import open_sse

pytestmark = pytest.mark.trio

BURST = 5
READ = "/store?path=."
_addresses = (f"127.0.{a}.{b}" for a in itertools.count(1) for b in range(1, 250))


@pytest.fixture(scope="session")
def rated(make_server: ServerFactory) -> Server:
    return make_server(http_rate=f"1/{BURST}", ws_rate=f"1/{BURST}")


@pytest.fixture
def address() -> str:
    """A client address whose rate nobody has used."""
    return next(_addresses)


@pytest.fixture
async def stranger(rated: Server, address: str) -> AsyncIterator[Api]:
    async with open_api(rated, source=address) as api:
        yield api


async def spend(api: Api) -> None:
    """Use up the burst."""
    for _ in range(BURST):
        response = await api.request("GET", READ)
        assert response.status_code == 200


async def test_burst_and_one(stranger: Api) -> None:
    began = time.monotonic()
    remaining = []
    for _ in range(BURST):
        response = await stranger.request("GET", READ)
        assert response.status_code == 200
        assert response.headers["ratelimit-policy"]
        found = re.search(r"\br(?:emaining)?=(\d+)", response.headers["ratelimit"])
        assert found is not None, response.headers["ratelimit"]
        remaining.append(int(found[1]))
    refused = await stranger.request("GET", READ)
    if time.monotonic() - began > 0.9:
        pytest.skip("this machine is too slow to use up a burst")
    assert refused.status_code == 429
    assert remaining[-1] == 0
    assert remaining == sorted(remaining, reverse=True)
    quota = re.search(r"\bq=(\d+)", refused.headers["ratelimit-policy"])
    assert quota is not None
    assert int(quota[1]) >= remaining[0], "what remains is at most the quota"
    wait_s = int(refused.headers["retry-after"])
    assert wait_s >= 1
    problem = check_problem(refused)
    assert problem["retry_after"] == wait_s, "member, field and words agree"
    assert problem["detail"].endswith(f"; retry in {wait_s} s")
    assert "ratelimit" in refused.headers


async def test_the_wait_is_honest(stranger: Api) -> None:
    await spend(stranger)
    refused = await stranger.request("GET", READ)
    assert refused.status_code == 429
    began = time.monotonic()
    while (await stranger.request("GET", READ)).status_code == 429:
        assert time.monotonic() - began < float(refused.headers["retry-after"]) + 1
        await trio.sleep(0.05)


async def test_the_key_of_an_address_has_no_port(rated: Server, address: str) -> None:
    statuses = []
    for _ in range(BURST + 1):
        async with open_api(rated, source=address) as api:  # a connection of its own each
            statuses.append((await api.request("GET", READ)).status_code)
    assert statuses[:BURST] == [200] * BURST
    assert 429 in statuses[BURST:] or len(statuses) > BURST


async def test_another_address_has_its_own_rate(rated: Server, stranger: Api) -> None:
    await spend(stranger)
    async with open_api(rated, source=next(_addresses)) as other:
        assert (await other.request("GET", READ)).status_code == 200


async def test_a_forwarded_address_is_not_believed(stranger: Api) -> None:
    statuses = []
    for number in range(BURST + 3):
        headers = {"X-Forwarded-For": f"9.9.9.{number}", "Forwarded": f"for=9.9.9.{number}"}
        statuses.append((await stranger.request("GET", READ, headers=headers)).status_code)
    assert 429 in statuses


async def test_streams_count_as_requests(rated: Server, stranger: Api, address: str) -> None:
    await spend(stranger)
    async with open_sse(rated.port, "/events", source=address) as stream:
        assert stream.status == 429
        assert stream.headers["retry-after"]
        assert stream.problem(await stream.content())["retry_after"] > 0


EVENT_SOURCE = [("Accept", "text/event-stream")]
LATER = re.compile(rb"retry: [0-9]{4,6}\n: (429|503), come back later\n\n")


async def test_an_event_source_is_told_when_to_come_back(
    rated: Server, stranger: Api, address: str
) -> None:
    await spend(stranger)
    async with open_sse(rated.port, source=address, headers=EVENT_SOURCE) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["triode"] == "refused"
        assert LATER.fullmatch(await stream.content())


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("Text/Event-Stream;q=1", 200),
        ("text/html, text/event-stream", 200),
        ("text/event-stream, application/problem+json", 429),
        ("text/event-stream, */*;q=0.1", 429),
        ("*/*", 429),
    ],
)
async def test_who_can_read_a_refusal_gets_one(
    rated: Server, stranger: Api, address: str, accept: str, status: int
) -> None:
    await spend(stranger)
    fields = [("Accept", accept)]
    async with open_sse(rated.port, source=address, headers=fields) as stream:
        assert stream.status == status


async def test_an_event_source_only_gets(rated: Server, stranger: Api, address: str) -> None:
    await spend(stranger)
    fields = [*EVENT_SOURCE, ("Content-Type", "application/json")]
    async with open_sse(
        rated.port, "/events", source=address, headers=fields, method="POST", body=b"{}"
    ) as stream:
        assert stream.status == 429


async def test_what_will_not_change_is_final_for_an_event_source(server: Server) -> None:
    for target, status in (("/events?filter=[", 400), ("/events?fitler=.", 400), ("/none", 404)):
        async with open_sse(server.port, target, headers=EVENT_SOURCE) as stream:
            assert stream.status == status


async def test_a_refused_upgrade_says_how_long_to_wait(
    rated: Server, stranger: Api, address: str
) -> None:
    await spend(stranger)
    with pytest.raises(ConnectionRejected) as caught:
        async with open_ws(rated, source=address):
            pass
    assert caught.value.status_code == 429
    headers = {name.lower(): value for name, value in caught.value.headers or ()}
    assert int(headers[b"retry-after"]) >= 1


async def test_commands_of_one_websocket(rated: Server, address: str) -> None:
    target = "/ws?filter=.none&snapshot=none"
    async with open_ws(rated, target, source=address) as ws:
        for ref in range(BURST + 1):
            await ws.send({"type": "get", "filter": ".none", "ref": ref})
        answers = [await ws.next() for _ in range(BURST + 1)]
        assert [one["type"] for one in answers[:BURST]] == ["ok"] * BURST
        error = check_error(answers[-1])
        assert error["status"] == 429
        assert error["retry_after"] > 0
        assert error["ref"] == BURST, "given back in its error too"
        began = trio.current_time()
        while (await ws.ask("get", filter=".none"))["type"] == "error":
            assert trio.current_time() - began < 5
            await trio.sleep(0.1)


async def test_a_flood_over_the_rate_ends_the_connection(rated: Server, address: str) -> None:
    target = "/ws?filter=.none&snapshot=none"
    async with open_ws(rated, target, source=address) as ws, trio.open_nursery() as nursery:

        async def flood() -> None:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(2_000):
                    await ws.send({"type": "get", "filter": ".none"})

        nursery.start_soon(flood)
        assert (await ws.closed())[0] == 4429
        nursery.cancel_scope.cancel()


# admission

PLACES = 20
PER_ADDRESS = 12


@pytest.fixture(scope="session")
def small(make_server: ServerFactory) -> Server:
    return make_server(max_clients=PLACES, max_clients_per_ip=PER_ADDRESS)


async def knock(
    server: Server, number: int, source: str, results: list[bytes], leave: trio.Event
) -> None:
    """Ask for a place (SSE and WebSocket in turn), note the head of the answer, stay until told."""
    request = (
        upgrade("/ws?filter=.")
        if number % 2
        else b"GET /events?filter=. HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    async with open_socket(server, source=source) as stream:
        await stream.send_all(request)
        answer = b""
        with trio.fail_after(20):
            while b"\r\n\r\n" not in answer and (data := await stream.receive_some(65536)):
                answer += data
        results.append(answer)
        await leave.wait()


async def reached(results: list[bytes], count: int) -> bool:
    return len(results) >= count


async def connections(api: Api) -> int:
    count: int = (await api.request("GET", "/health")).json()["connections"]
    return count


async def settle(api: Api, count: int) -> None:
    """Wait until `/health` counts `count` connections."""

    async def settled() -> bool:
        return await connections(api) == count

    await eventually(settled)


@pytest.mark.parametrize("round_", [1, 2])
async def test_exactly_as_many_as_there_are_places(small: Server, round_: int) -> None:
    """Twice: what was freed, and what was refused, must not be missing the second time."""
    async with open_api(small) as api:
        await settle(api, 0)
        results: list[bytes] = []
        leave = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(60):
                source = f"127.0.0.{10 + number % 6}"
                nursery.start_soon(knock, small, number, source, results, leave)
            await eventually(lambda: reached(results, 60), 30)
            assert await connections(api) == PLACES
            leave.set()
        statuses = [int(one[9:12]) for one in results]
        assert statuses.count(200) + statuses.count(101) == PLACES
        assert statuses.count(503) == 60 - PLACES
        for refused in (one for one in results if one[9:12] == b"503"):
            head = refused.partition(b"\r\n\r\n")[0].lower()
            assert re.search(rb"\r\nretry-after: *[1-9]", head), head
            assert b"application/problem+json" in head
        await settle(api, 0)


async def test_a_freed_place_is_usable_again(small: Server) -> None:
    async with open_api(small) as api:
        await settle(api, 0)
        leave = trio.Event()
        results: list[bytes] = []
        async with trio.open_nursery() as nursery:
            for number in range(PLACES - 1):
                source = f"127.0.0.{10 + number % 6}"
                nursery.start_soon(knock, small, number, source, results, leave)
            await settle(api, PLACES - 1)
            health = (await api.request("GET", "/health")).json()
            places = {"status": "degraded", "taken": PLACES - 1, "limit": PLACES}
            assert (health["status"], health["checks"]["places"]) == ("degraded", places)
            for _ in range(5):
                async with open_sse(small.port, "/events?filter=.") as last:
                    assert last.status == 200
                    async with open_sse(small.port, "/events?filter=.") as over:
                        assert over.status == 503
                        problem = over.problem(await over.content())
                        assert problem["limit"] == PLACES
                        assert problem["retry_after"] > 0
                    async with open_sse(small.port, headers=EVENT_SOURCE) as over:
                        assert over.status == 200
                        assert LATER.fullmatch(await over.content())
                await settle(api, PLACES - 1)
            leave.set()
        await settle(api, 0)
        assert (await api.request("GET", "/health")).json()["checks"]["places"]["status"] == "ok"
        told = (await api.request("GET", "/stats")).json()
        assert told["gauges"]["clients_peak"] == PLACES
        assert sum(told["counters"]["connections_total"].values()) >= PLACES + 4


async def test_places_of_one_address(small: Server) -> None:
    async with open_api(small) as api:
        await settle(api, 0)
        leave = trio.Event()
        results: list[bytes] = []
        async with trio.open_nursery() as nursery:
            for number in range(PER_ADDRESS + 3):
                nursery.start_soon(knock, small, number, "127.0.0.77", results, leave)
            await eventually(lambda: reached(results, PER_ADDRESS + 3), 20)
            refused = [one for one in results if one[9:12] in (b"503", b"429")]
            assert len(refused) == 3
            assert all(b"retry-after:" in one.lower() for one in refused)
            async with open_sse(small.port, "/events?filter=.", source="127.0.0.78") as other:
                assert other.status == 200
            leave.set()
        await settle(api, 0)


async def test_a_refused_subscription_takes_no_place(small: Server) -> None:
    async with open_api(small) as api:
        await settle(api, 0)
        for _ in range(PLACES + 5):
            async with open_sse(small.port, "/events" + query([".a["])) as stream:
                assert stream.status == 400
        async with open_sse(small.port, "/events?filter=.") as stream:
            assert stream.status == 200
        await settle(api, 0)


# heads: the native lane reads them itself


@pytest.fixture(scope="session")
def hasty(make_server: ServerFactory) -> Server:
    return make_server(head_deadline=0.5, max_heads=30)


reads_heads = pytest.mark.native(reason="under Hypercorn its own limits of a head apply")

SLOW_HEADS = [
    b"",
    b"G",
    b"GET /events HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /store?path=. HTTP/1.1\r\nHost: localhost\r\nX-A: ",
]


@reads_heads
@pytest.mark.parametrize("sent", SLOW_HEADS, ids=range(len(SLOW_HEADS)))
async def test_a_slow_head_is_cut(hasty: Server, sent: bytes) -> None:
    began = time.monotonic()
    answer = await exchange(hasty, sent, patience_s=5)
    took = time.monotonic() - began
    assert 0.4 < took < 3
    if answer:
        assert answer.startswith(b"HTTP/1.1 408"), answer[:200]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 408


@reads_heads
async def test_a_head_in_drops_does_not_prolong_its_deadline(hasty: Server) -> None:
    began = time.monotonic()
    async with open_socket(hasty) as stream:
        with trio.fail_after(5):
            try:
                for byte in b"GET /events HTTP/1.1\r\nX: " + b"y" * 1000:
                    await stream.send_all(bytes([byte]))
                    with trio.move_on_after(0.05):
                        if not await stream.receive_some(1000):
                            break
                        break
            except trio.BrokenResourceError:
                pass
    assert time.monotonic() - began < 3


@reads_heads
async def test_silent_connections_keep_nobody_out(hasty: Server) -> None:
    """Nobody is refused for their number: those who come wait for a moment."""

    async def dawdle() -> None:
        async with open_socket(hasty) as stream:
            with trio.move_on_after(5):
                try:
                    while await stream.receive_some(1000):
                        pass
                except trio.BrokenResourceError:
                    pass

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(dawdle)
        await trio.sleep(0.1)
        async with open_api(hasty) as api, trio.open_nursery() as crowd:
            for _ in range(20):

                async def ask() -> None:
                    assert (await api.request("GET", "/healthz")).status_code == 200

                crowd.start_soon(ask)
        nursery.cancel_scope.cancel()


@pytest.fixture(scope="session")
def crowded(make_server: ServerFactory) -> Server:
    return make_server(max_connections=2)


@pytest.mark.native(reason="under Hypercorn connections are its own matter")
async def test_beyond_the_connections_an_eventsource_comes_back_later(crowded: Server) -> None:
    """Others get a status. Any but 200 would close an EventSource for good."""
    async with contextlib.AsyncExitStack() as stack:

        async def has_place() -> bool:
            stream = await stack.enter_async_context(open_sse(crowded.port, "/events?filter=."))
            return stream.status == 200

        for _ in range(2):
            # Who asked whether the server is ready may have its place for a moment yet.
            await eventually(has_place)
        head = b"GET /events?filter=. HTTP/1.1\r\nHost: localhost\r\nAccept: "
        later = await exchange(crowded, head + b"text/event-stream\r\n\r\n", patience_s=5)
        assert later.startswith(b"HTTP/1.1 200 ")
        assert later.partition(b"\r\n\r\n")[2].startswith(b"retry: ")
        refused = await exchange(crowded, head + b"*/*\r\n\r\n", patience_s=5)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["which"] == "connections"


@pytest.fixture(scope="session")
def few_http(make_server: ServerFactory) -> Server:
    return make_server(max_http=20)


@pytest.mark.native(reason="under Hypercorn connections are its own matter")
async def test_slow_bodies_have_places_and_stand_in_the_ledger(few_http: Server) -> None:
    head = b"PUT /store?path=.a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    async with contextlib.AsyncExitStack() as stack, open_api(few_http) as api:
        for _ in range(19):  # one is left to ask
            stream = await stack.enter_async_context(open_socket(few_http))
            await stream.send_all(head + b"Content-Length: 100000\r\n\r\n1")

        async def all_counted() -> bool:
            accounts = (await api.request("GET", "/stats")).json()["memory"]["accounts"]
            slow = accounts["bodies"]["held"] >= 19 * 10_000
            return bool(slow and accounts["connections"]["held"] >= 20 * 20_000)

        await eventually(all_counted)
        beyond = await exchange(few_http, head + b"Content-Length: 1\r\n\r\n1", patience_s=5)
        assert beyond.startswith(b"HTTP/1.1 503 ")
        assert json.loads(beyond.partition(b"\r\n\r\n")[2])["which"] == "http"
        # A stream needs none of these places.
        async with open_sse(few_http.port, "/events?filter=.") as stream_of_events:
            assert stream_of_events.status == 200
