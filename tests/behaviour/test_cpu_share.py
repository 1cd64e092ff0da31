"""Who has had more than its share of the server's time waits, and nobody else does."""

from __future__ import annotations

import pytest

from .clients import check_problem, open_api, open_ws
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio

DEAR = "/store?filter=$[?count($[*])%3E1]"


@pytest.fixture(scope="session")
def shared(make_server: ServerFactory) -> Server:
    return make_server(http_rate=0, ws_rate=0, cpu_share="50ms")


async def test_over_its_share_an_address_is_429_on_every_way_in(shared: Server) -> None:
    async with (
        open_api(shared, source="127.0.9.1") as dear,
        open_api(shared, source="127.0.9.2") as other,
        open_ws(shared, "/ws", source="127.0.9.1") as ws,
    ):
        put = await other.request("POST", "/store", json=[*range(600)])
        assert put.status_code == 200
        answer = await dear.request("GET", DEAR)
        assert answer.status_code == 200
        refused = await dear.request("GET", "/store?path=.")
        assert refused.status_code == 429
        check_problem(refused)
        problem = refused.json()
        assert int(refused.headers["Retry-After"]) == problem["retry_after"] > 60
        assert problem["limit"] == 0.05
        assert (await dear.request("GET", "/events?filter=.a")).status_code == 429
        assert (await ws.ask("get", filter=".a"))["status"] == 429
        assert (await other.request("GET", "/store?path=.")).status_code == 200


async def test_stats_name_the_dearest(shared: Server) -> None:
    async with (
        open_api(shared, source="127.0.9.3") as api,
        open_ws(shared, "/ws?filter=$[?@%3E5]", source="127.0.9.3"),
    ):
        await api.request("PUT", "/store?path=.", json=[*range(100)])
        cpu = (await api.request("GET", "/stats")).json()["cpu"]
        assert cpu["share_s"] == 0.05
        assert "$[?@>5]" in [each["filter"] for each in cpu["filters"]]
        assert {"key", "owes_s"} >= {name for each in cpu["principals"] for name in each}
