"""`authorize`: a host application's own session decides, on HTTP, streams and WebSockets alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from quart import session
from quart.testing import WebsocketResponseError
from quart_trio import QuartTrio

from triode import Grant, Principal, Refusal, Settings, Triode
from triode.app.application import attach, create_app
from triode.app.net.request_head import Head
from triode.app.serve import serve

from .web import Web, problem_of

pytestmark = pytest.mark.trio
ANN = Principal(
    key="user:ann",
    name="ann",
    grant=Grant(read=(".public",), write=(".public",), rooms=()),
    source="host",
)
BY_COOKIE = {"Cookie": "a=1; session=ann"}


async def by_cookie(head: Head) -> Principal | Refusal:
    await trio.lowlevel.checkpoint()
    if "session=ann" in (head.get("cookie") or ""):
        return ANN
    return Refusal(401, "log in first", close=4401)


@asynccontextmanager
async def deciding(authorize: Any, **options: Any) -> AsyncIterator[Web]:
    settings = Settings(http_rate=None, **options)
    triode = Triode(settings, {"public": 1, "secret": 2}, authorize=authorize)
    app = create_app(triode)
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None
    async with app.test_app():
        yield Web(app, triode)


ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/store?path=.public", None),
    ("PUT", "/store?path=.public", 1),
    ("POST", "/store/batch", []),
    ("GET", "/events?filter=.public", None),
    ("POST", "/events", {"filter": ".public"}),
    ("POST", "/publish", {"room": "a", "event": "b"}),
    ("GET", "/stats", None),
    ("GET", "/tokens", None),
    ("GET", "/connections", None),
]


@pytest.mark.parametrize(("method", "target", "body"), ROUTES)
async def test_whom_the_host_refuses_is_refused_everywhere(
    method: str, target: str, body: Any
) -> None:
    async with deciding(by_cookie) as web:
        problem = await web.problem(401, method, target, body)
        assert problem["detail"] == "log in first"


async def test_what_the_host_grants_holds() -> None:
    async with deciding(by_cookie) as web:
        assert await web.json("GET", "/store?path=.public", headers=BY_COOKIE) == 1
        await web.problem(403, "GET", "/store?path=.secret", headers=BY_COOKIE)
        await web.problem(403, "GET", "/events?filter=.secret", headers=BY_COOKIE)
        await web.problem(403, "GET", "/tokens", headers=BY_COOKIE)


async def test_a_token_is_nothing_where_the_host_decides() -> None:
    async with deciding(by_cookie, admin_token="admin-0123456789abcdef") as web:
        headers = {"Authorization": "Bearer admin-0123456789abcdef"}
        await web.problem(401, "GET", "/store?path=.public", headers=headers)


async def fails(_head: Head) -> Any:
    await trio.lowlevel.checkpoint()
    raise KeyError("secret of the host")


async def forgets(_head: Head) -> Any:
    await trio.lowlevel.checkpoint()


async def raises_a_refusal(_head: Head) -> Any:
    await trio.lowlevel.checkpoint()
    raise Refusal(403, "not you")


async def never_answers(_head: Head) -> Any:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("authorize", "status"), [(fails, 500), (forgets, 500), (raises_a_refusal, 403)]
)
async def test_a_host_that_fails_lets_nobody_in(
    authorize: Callable[[Head], Awaitable[Any]], status: int
) -> None:
    async with deciding(authorize) as web:
        for target in ("/store?path=.public", "/events"):
            problem = await web.problem(status, "GET", target)
            assert "secret of the host" not in str(problem)


async def test_a_host_that_never_answers_lets_nobody_in(autojump_clock: object) -> None:
    async with deciding(never_answers, head_deadline_s=3) as web:
        began = trio.current_time()
        answer = await web.ask("GET", "/store?path=.public")
        problem_of(answer, 503)
        assert answer.headers["Retry-After"]
        assert trio.current_time() - began == pytest.approx(3)


async def test_a_server_that_a_host_decides_for_is_served_under_any_name() -> None:
    async with deciding(by_cookie) as web:
        headers = BY_COOKIE | {"Host": "app.example"}
        assert await web.json("GET", "/store?path=.public", headers=headers) == 1


def embedding() -> QuartTrio:
    """A host application with a login of its own, Triode below `/live`."""
    host = QuartTrio("host")
    host.secret_key = "a secret of the test"

    async def by_session(_head: Head) -> Principal | Refusal:
        await trio.lowlevel.checkpoint()
        return ANN if session.get("user") == "ann" else Refusal(401, "log in first")

    @host.get("/login")
    async def login() -> str:
        session["user"] = "ann"
        return "welcome"

    triode = Triode(Settings(http_rate=None), {"public": 1}, authorize=by_session)
    attach(host, triode, url_prefix="/live")
    return host


async def test_the_session_of_an_embedding_application_decides() -> None:
    async with embedding().test_app() as running:
        client = running.test_client()
        path = "/live/store?path=.public"
        assert (await client.get(path)).status_code == 401
        with pytest.raises(ExceptionGroup) as refused:
            async with client.websocket("/live/ws?filter=.public") as ws:
                await ws.receive()
        assert refused.group_contains(WebsocketResponseError, match="401")
        assert (await client.get("/live/events?filter=.public")).status_code == 401
        assert (await client.get("/login")).status_code == 200
        assert (await client.get(path)).status_code == 200
        async with client.websocket("/live/ws?filter=.public") as ws:
            assert "connected" in await ws.receive()
            await ws.receive()
            await ws.send('{"type":"set","path":".secret","value":1,"ref":1}')
            assert '"status":403' in await ws.receive()


async def test_a_websocket_that_does_not_say_so_in_its_head_is_one() -> None:
    """In HTTP/2 there is no `Upgrade` (RFC 8441), and a page of elsewhere is still refused."""
    async with embedding().test_app() as running:
        client = running.test_client()
        await client.get("/login")
        strange = {"Origin": "https://stranger.example"}
        with pytest.raises(ExceptionGroup) as refused:
            async with client.websocket("/live/ws?filter=.public", headers=strange) as ws:
                await ws.receive()
        assert refused.group_contains(WebsocketResponseError, match="403")


@pytest.mark.parametrize("cookie", ["session=ann", "session=eve"])
async def test_the_native_lane_asks_too(cookie: str) -> None:
    settings = Settings(port=0, http_rate=None)
    triode = Triode(settings, {"public": 1}, authorize=by_cookie)
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    targets = {"/events?filter=.public": "", "/ws?filter=.public": upgrade}
    allowed = cookie == "session=ann"
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            [address, *_] = await nursery.start(partial(serve, settings, triode=triode))
            for target, fields in targets.items():
                stream = await trio.open_tcp_stream("127.0.0.1", address[1])
                async with stream:
                    # In two lines, as HTTP/2 has it: one cookie each.
                    cookies = f"Cookie: b=1\r\nCookie: {cookie}\r\n"
                    text = f"GET {target} HTTP/1.1\r\nHost: a.example\r\n{cookies}{fields}\r\n"
                    await stream.send_all(text.encode())
                    status = int((await stream.receive_some(4096)).split(b" ")[1])
                assert status == ((101 if fields else 200) if allowed else 401), target
            nursery.cancel_scope.cancel()
