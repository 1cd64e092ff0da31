"""Browsers of other origins: what CORS and the WebSocket origin check let in, and what not."""

from __future__ import annotations

import pytest
from trio_websocket import ConnectionRejected

from .clients import Api, open_api, open_sse, open_ws
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio

FRIEND, STRANGER = "https://friend.example", "https://stranger.example"


@pytest.fixture(scope="session")
def friendly(make_server: ServerFactory) -> Server:
    return make_server(cors_origins=f"{FRIEND},https://other.example")


async def test_by_default_no_other_origin_may_read(server: Server, api: Api) -> None:
    await api.reset({})
    for url in ("/store?path=.", "/health"):
        response = await api.request("GET", url, headers={"Origin": STRANGER})
        assert "access-control-allow-origin" not in response.headers
    async with open_sse(server.port, headers=[("Origin", STRANGER)]) as stream:
        assert "access-control-allow-origin" not in stream.headers


async def test_by_default_no_other_origin_may_open_a_websocket(server: Server) -> None:
    """A browser sends no preflight for a WebSocket: the server has to look at the origin."""
    own = f"http://127.0.0.1:{server.port}"
    for origin in (own, None):
        headers = [("Origin", origin)] if origin else []
        async with open_ws(server, headers=headers):
            pass
    for origin in (STRANGER, "null", own + ".stranger.example", "https://127.0.0.1.example"):
        with pytest.raises(ConnectionRejected) as caught:
            async with open_ws(server, headers=[("Origin", origin)]):
                pass
        assert caught.value.status_code == 403, origin


async def test_a_list_of_origins(friendly: Server) -> None:
    async with open_api(friendly) as api:
        await api.reset({})
        url = "/store?path=."
        response = await api.request("GET", url, headers={"Origin": FRIEND})
        assert response.headers["access-control-allow-origin"] == FRIEND
        assert "origin" in response.headers["vary"].lower()
        for origin in (STRANGER, FRIEND + ".stranger.example", FRIEND.upper() + "x"):
            response = await api.request("GET", url, headers={"Origin": origin})
            assert "access-control-allow-origin" not in response.headers
    async with open_sse(friendly.port, headers=[("Origin", FRIEND)]) as stream:
        assert stream.headers["access-control-allow-origin"] == FRIEND
    async with open_ws(friendly, headers=[("Origin", FRIEND)]):
        pass
    with pytest.raises(ConnectionRejected):
        async with open_ws(friendly, headers=[("Origin", STRANGER)]):
            pass


async def test_a_refusal_can_be_read_by_a_friend(friendly: Server) -> None:
    async with open_api(friendly) as api:
        response = await api.request("GET", "/store", headers={"Origin": FRIEND})
        assert response.status_code == 400
        assert response.headers["access-control-allow-origin"] == FRIEND


async def test_preflight(friendly: Server) -> None:
    headers = {
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "content-type,authorization,if-match",
    }
    async with open_api(friendly) as api:
        response = await api.request("OPTIONS", "/store", headers={"Origin": FRIEND, **headers})
        assert response.status_code in (200, 204)
        assert response.headers["access-control-allow-origin"] == FRIEND
        assert "PATCH" in response.headers["access-control-allow-methods"]
        allowed = response.headers["access-control-allow-headers"].lower()
        assert all(name in allowed for name in ("content-type", "authorization", "if-match"))
        response = await api.request("OPTIONS", "/store", headers={"Origin": STRANGER, **headers})
        assert "access-control-allow-origin" not in response.headers


async def test_patterns_of_origins(make_server: ServerFactory) -> None:
    """A star stands for labels of a host or for a port; a usual port is the same as none."""
    listed = "https://*.app.example,http://localhost:*,https://shop.example:443"
    server = make_server(cors_origins=listed)
    good = ["https://a.app.example", "https://b.a.app.example", "http://localhost:5173"]
    good += ["http://localhost", "https://shop.example"]
    bad = ["https://app.example", "https://evilapp.example", "http://a.app.example", "null"]
    bad += ["https://a.app.example.evil.example", "https://a.app.example:8443"]
    bad += ["http://localhost:80.evil.example", "https://evil.example/.app.example"]
    async with open_api(server) as api:
        for origin in good + bad:
            response = await api.request("GET", "/healthz", headers={"Origin": origin})
            allowed = response.headers.get("access-control-allow-origin")
            assert allowed == (origin if origin in good else None), origin
    async with open_ws(server, headers=[("Origin", good[0])]):
        pass
    for origin in bad:
        with pytest.raises(ConnectionRejected):
            async with open_ws(server, headers=[("Origin", origin)]):
                pass
