"""Every refusal is a problem object, and an embedding application's own errors stay its own."""

from __future__ import annotations

from typing import Any

import pytest
from quart.testing.connections import WebsocketResponseError
from quart_trio import QuartTrio

from tests.app.web import ADMIN, JSON, Web, problem_of, serving
from triode.app.application import attach
from triode.app.config.settings import Settings
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.limits.rate import Rate

ORIGIN = {"Origin": "https://a.example"}


@pytest.mark.parametrize("path", ["/nothing", "/store/", "/tokens/a/b", "/%00", "/../etc/passwd"])
async def test_unknown_paths(path: str) -> None:
    async with serving() as web:
        await web.problem(404, "GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("DELETE", "/store/batch", "OPTIONS, POST"),
        ("GET", "/publish", "OPTIONS, POST"),
        ("PUT", "/tokens/abc", "DELETE, OPTIONS"),
        ("PROPFIND", "/store", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods_are_405_with_allow(method: str, path: str, allow: str) -> None:
    async with serving() as web:
        answer = await web.ask(method, path)
        problem_of(answer, 405)
        assert answer.headers["Allow"] == allow
        assert (await web.ask("OPTIONS", path)).headers["Allow"] == allow


async def test_a_plain_request_for_the_websocket_is_told_to_upgrade() -> None:
    async with serving() as web:
        answer = await web.ask("GET", "/ws")
        problem_of(answer, 426)
        assert answer.headers["Upgrade"] == "websocket"


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/store", 400)])
async def test_a_websocket_elsewhere_is_refused_with_a_problem(path: str, status: int) -> None:
    async with serving() as web:
        client: Any = web.app.test_client()
        async with client.websocket(path) as connection:
            with pytest.raises(WebsocketResponseError) as caught:
                await connection.receive()
        answer = caught.value.response
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_bugs_are_500_logged_and_say_nothing_of_the_inside(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(token="very-secret") as web:

        async def broken(*_arguments: Any) -> Any:
            raise ZeroDivisionError("inside")

        monkeypatch.setattr(web.triode, "write", broken)
        web.token = None
        answer = await web.ask("PUT", "/store?path=.private", 1)
        problem_of(answer, 500)
        assert b"inside" not in answer.body
        assert "ZeroDivisionError: inside" in caplog.text
        assert "private" not in caplog.text
        assert web.triode.metrics.errors_total == 1


async def test_refusals_are_counted_by_status() -> None:
    async with serving() as web:
        for target in ("/store?path=.none", "/nothing", "/store"):
            await web.ask("GET", target)
        await web.ask("POST", "/stats")
        refused = web.triode.metrics.refused
        assert {404: 2, 400: 1, 405: 1}.items() <= refused.items()


async def test_a_missing_token_is_401_everywhere_but_where_none_is_needed() -> None:
    async with serving(admin_token=ADMIN) as web:
        for method, path in [
            ("GET", "/store?path=."),
            ("POST", "/store/batch"),
            ("POST", "/publish"),
            ("GET", "/tokens"),
            ("DELETE", "/tokens/x"),
            ("GET", "/stats"),
            ("GET", "/metrics"),
            ("PUT", "/stats"),
        ]:
            answer = await web.ask(method, path)
            problem_of(answer, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for path in ("/health", "/healthz", "/readyz", "/openapi.json", "/docs", "/"):
            assert (await web.ask("GET", path)).status == 200
        bad = await web.ask("GET", "/store?path=.", headers={"Authorization": "Bearer wrong"})
        assert 'error="invalid_token"' in bad.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Authorization": f"Bearer {ADMIN}"}, ""),
        ({"X-API-Key": ADMIN}, ""),
        ({}, f"&access_token={ADMIN}"),
        ({"Authorization": "Bearer wrong", "X-API-Key": ADMIN}, ""),
    ],
)
async def test_a_token_is_taken_from_each_place(headers: dict[str, str], query: str) -> None:
    async with serving({}, admin_token=ADMIN) as web:
        assert (await web.ask("GET", f"/store?path=.{query}", headers=headers)).status == 200


async def test_rates_refuse_and_say_how_long_to_wait() -> None:
    async with serving({}, http_rate=Rate(1, 2)) as web:
        first = await web.ask("GET", "/store?path=.")
        assert first.status == 200
        assert "RateLimit" in first.headers
        assert "RateLimit-Policy" in first.headers
        await web.ask("GET", "/store?path=.none")
        refused = await web.ask("GET", "/store?path=.")
        assert problem_of(refused, 429)["retry_after"] > 0
        assert int(refused.headers["Retry-After"]) >= 1
        assert "RateLimit" in refused.headers
        assert web.triode.metrics.rate_limited == 1
        for path in ("/health", "/healthz", "/readyz"):
            assert (await web.ask("GET", path)).status == 200


async def test_guessing_tokens_is_charged_too() -> None:
    async with serving({}, http_rate=Rate(1, 3), admin_token=ADMIN) as web:
        guess = {"Authorization": "Bearer guess"}
        statuses = [(await web.ask("GET", "/store?path=.", headers=guess)).status for _ in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        assert (await web.with_token(ADMIN).ask("GET", "/store?path=.")).status == 200


async def test_cors_fields_come_with_every_answer_also_with_refusals() -> None:
    async with serving({}, cors_origins=("https://a.example",)) as web:
        for target in ("/store?path=.", "/store", "/health", "/stats"):
            answer = await web.ask("GET", target, headers=ORIGIN)
            assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert answer.headers["Vary"] == "Origin"
        other = await web.ask("GET", "/health", headers={"Origin": "https://b.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


async def test_a_preflight_needs_no_token() -> None:
    async with serving({}, cors_origins=("https://a.example",), admin_token=ADMIN) as web:
        asks = ORIGIN | {
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, content-type",
        }
        for path in ("/store", "/tokens/x", "/events"):
            answer = await web.ask("OPTIONS", path, headers=asks)
            assert answer.status == 204
            assert not answer.body
            assert "Content-Length" not in answer.headers
            assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]


async def test_an_embedding_application_keeps_its_own_errors() -> None:
    app = QuartTrio("host")
    triode = Triode(Settings(http_rate=None), {"a": 1})

    @app.errorhandler(404)
    async def not_found(_error: Exception) -> tuple[str, int]:
        return "host's 404", 404

    @app.errorhandler(405)
    async def not_allowed(_error: Exception) -> tuple[str, int]:
        return "host's 405", 405

    @app.errorhandler(Exception)
    async def broken(_error: Exception) -> tuple[str, int]:
        return "host's 500", 500

    @app.get("/own")
    async def own() -> str:
        raise ValueError("host's")

    attach(app, triode, url_prefix="/live")
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None
    async with app.test_app():
        web = Web(app, triode)
        assert await web.json("GET", "/live/store?path=.a") == 1
        assert (await web.ask("GET", "/own")).body == b"host's 500"
        assert (await web.ask("GET", "/nothing")).body == b"host's 404"
        assert (await web.ask("POST", "/own")).body == b"host's 405"
        await web.problem(404, "GET", "/live/store?path=.b")
        await web.problem(405, "POST", "/live/health")
        await web.problem(400, "PUT", "/live/store?path=.a", raw=b"{", headers=JSON)
        assert (await web.json("GET", "/live/openapi.json"))["servers"] == [{"url": "/live"}]

        async def bug(*_arguments: Any) -> Any:
            raise KeyError("inside")

        triode.write = bug  # type: ignore[assignment,method-assign]
        await web.problem(500, "PUT", "/live/store?path=.a", 1)


def test_a_refusal_keeps_its_fields() -> None:
    refusal = Refusal(503, "later", extra={"retry_after": 2}, headers={"Retry-After": "2"})
    assert refusal.body()["retry_after"] == 2
