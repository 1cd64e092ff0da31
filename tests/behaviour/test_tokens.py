"""Tokens: how they are presented, issued and shown, and how they end, on living connections too."""

from __future__ import annotations

import base64
import contextlib
import time

import pytest
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected

from .auth import ADMIN, DOCUMENT, READ, SECRET, bearer, issue
from .clients import (
    PATIENCE_S,
    Api,
    RawWs,
    open_api,
    open_raw_ws,
    open_socket,
    open_sse,
    open_ws,
    query,
    upgrade,
)
from .server import Server

pytestmark = pytest.mark.trio

# presenting


async def test_without_a_token_nothing_is_open_but_the_probes(guarded: Server, admin: Api) -> None:
    async with open_api(guarded) as api:
        for method, url in [
            ("GET", READ),
            ("PUT", READ),
            ("PATCH", READ),
            ("DELETE", READ),
            ("POST", "/store"),
            ("POST", "/store/batch"),
            ("POST", "/publish"),
            ("GET", "/tokens"),
            ("POST", "/tokens"),
            ("GET", "/events"),
            ("GET", "/stats"),
            ("GET", "/metrics"),
        ]:
            response = await api.request(method, url)
            assert response.status_code == 401, (method, url)
            challenge = response.headers["www-authenticate"]
            assert challenge.startswith("Bearer")
            assert "error=" not in challenge, "RFC 6750 3: no error when no token was shown"
        for url in ("/healthz", "/readyz"):
            assert (await api.request("GET", url)).status_code == 200
    assert await admin.get(".") == DOCUMENT


@pytest.mark.parametrize("way", ["bearer", "api key", "query"])
async def test_three_ways_to_present_a_token(guarded: Server, admin: Api, way: str) -> None:
    token = (await issue(admin, read=[".prices"]))["token"]
    headers = {"bearer": bearer(token), "api key": [("X-API-Key", token)], "query": []}[way]
    extra = {"access_token": token} if way == "query" else {}
    target = query([".prices"], **extra)
    async with open_sse(guarded.port, "/events" + target, headers=headers) as stream:
        assert stream.status == 200
        assert (await stream.next()).event == "connected"
    async with open_ws(guarded, "/ws" + target, headers=headers) as ws:
        assert (await ws.next())["type"] == "snapshot"
    if way != "query":
        async with open_api(guarded) as api:
            assert (await api.request("GET", READ, headers=headers)).status_code == 200


def packed(token: str) -> str:
    text = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return f"base64url.bearer.authorization.triode.{text}"


async def handshake(server: Server, *offered: str) -> bytes:
    """The head that answers a WebSocket which offers these subprotocols."""
    request = (
        "GET /ws?filter=.prices HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: {', '.join(offered)}\r\n\r\n"
    )
    answer = b""
    async with open_socket(server) as stream:
        await stream.send_all(request.encode())
        with trio.fail_after(PATIENCE_S):
            while b"\r\n\r\n" not in answer:
                answer += await stream.receive_some(65536)
    return answer.partition(b"\r\n\r\n")[0].lower()


async def test_a_token_as_a_subprotocol_is_never_the_one_chosen(
    guarded: Server, admin: Api
) -> None:
    token = (await issue(admin, read=[".prices"]))["token"]
    for offered in (["triode", packed(token)], [packed(token), "mqtt", "triode"]):
        head = await handshake(guarded, *offered)
        assert head.startswith(b"http/1.1 101"), head
        assert b"sec-websocket-protocol: triode" in head.split(b"\r\n")
    alone = await handshake(guarded, packed(token))
    assert alone.startswith(b"http/1.1 400"), alone
    for wrong in (packed(token[:-2]), packed(""), packed(token) + "="):
        assert (await handshake(guarded, "triode", wrong)).startswith(b"http/1.1 401"), wrong


async def test_a_subprotocol_of_others_is_not_chosen(server: Server) -> None:
    head = await handshake(server, "mqtt")
    assert head.startswith(b"http/1.1 101")
    assert b"sec-websocket-protocol" not in head
    assert b"sec-websocket-protocol: triode" in await handshake(server, "mqtt", "triode")


@pytest.mark.parametrize("name", ["bearer", "Bearer", "BEARER"])
async def test_the_scheme_has_no_case(guarded: Server, admin: Api, name: str) -> None:
    async with open_api(guarded) as api:
        headers = {"Authorization": f"{name} {ADMIN}"}
        assert (await api.request("GET", READ, headers=headers)).status_code == 200


async def test_a_wrong_token_is_401_with_the_error(guarded: Server, admin: Api) -> None:
    good = (await issue(admin))["token"]
    wrong = [good[:-1], good + "A", good.swapcase(), "nonsense", "a.b.c", "x" * 5000, "\xff", "é"]
    for token in wrong:
        answer = await raw_get(guarded, READ, f"Authorization: Bearer {token}".encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 401"), (token, answer[:200])
        assert b'error="invalid_token"' in answer, (token, answer[:400])
        assert b"application/problem+json" in answer
    async with open_sse(guarded.port, "/events?access_token=nonsense") as stream:
        assert stream.status == 401
        stream.problem(await stream.content())
    with pytest.raises(ConnectionRejected) as caught:
        async with open_ws(guarded, "/ws", headers=bearer("nonsense")):
            pass
    assert caught.value.status_code == 401


async def raw_get(server: Server, target: str, header: bytes) -> bytes:
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
    async with open_socket(server) as stream:
        await stream.send_all(head + header + b"\r\n\r\n")
        answer = b""
        with trio.fail_after(10):
            while data := await stream.receive_some(65536):
                answer += data
    return answer


async def test_an_empty_token_is_no_token(guarded: Server, admin: Api) -> None:
    for header in (b"Authorization: Bearer ", b"Authorization: Bearer", b"X-API-Key: "):
        assert (await raw_get(guarded, READ, header)).startswith(b"HTTP/1.1 401")
    assert (await raw_get(guarded, READ + "&access_token=", b"A: b")).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    "name", ["X-User", "X-Forwarded-User", "Remote-User", "X-Plugin-Runtime-Id", "X-Identity"]
)
async def test_a_header_that_names_an_identity_does_nothing(
    guarded: Server, admin: Api, name: str
) -> None:
    async with open_api(guarded) as api:
        response = await api.request("GET", READ, headers={name: "admin"})
        assert response.status_code == 401
    # And beside a valid token it gives no more than the token.
    token = (await issue(admin, read=[".prices"], write=[]))["token"]
    async with open_api(guarded, token=token) as api:
        for url in ("/stats", "/store?path=.users"):
            response = await api.request("GET", url, headers={name: "admin"})
            assert response.status_code == 403


# issuing, listing, ending


async def test_the_secret_is_shown_once(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=["."], label="once")
    assert len(issued["token"]) >= 43, "256 bits"
    listing = (await admin.request("GET", "/tokens")).text
    assert issued["id"] in listing
    assert issued["token"] not in listing
    assert ADMIN not in listing


async def test_a_token_holds_a_day_by_default(guarded: Server, admin: Api) -> None:
    issued = await issue(admin)
    assert abs(issued["expires_at"] - time.time() - 86_400) < 30


async def test_a_revoked_token_is_refused_at_once(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=[".prices"])
    async with open_api(guarded, token=issued["token"]) as api:
        assert (await api.request("GET", READ)).status_code == 200
        gone = await admin.request("DELETE", f"/tokens/{issued['id']}")
        assert gone.status_code in (200, 204)
        response = await api.request("GET", READ)
        assert response.status_code == 401
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
    again = await admin.request("DELETE", f"/tokens/{issued['id']}")
    assert again.status_code == 404


async def test_an_expired_token_is_refused_at_once(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=[".prices"], ttl_s=0.5)
    until = time.monotonic() + 0.5
    async with open_api(guarded, token=issued["token"]) as api:
        assert (await api.request("GET", READ)).status_code == 200
        while (code := (await api.request("GET", READ)).status_code) == 200:
            assert time.monotonic() < until + 0.3
            await trio.sleep(0.02)
    assert code == 401


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_token_that_ends_closes_its_connections(
    guarded: Server, admin: Api, end: str
) -> None:
    """Never a silent fall to anonymous: `expiring` before, then `closing` and 4401."""
    ttl = {"ttl_s": 1.0} if end == "expired" else {}
    issued = await issue(admin, read=[".prices"], **ttl)
    target = query([".prices"], snapshot="none")
    headers = bearer(issued["token"])
    async with (
        open_sse(guarded.port, "/events" + target, headers=headers) as sse,
        open_ws(guarded, "/ws" + target, headers=headers) as ws,
    ):
        assert (await sse.next()).event == "connected"
        if end == "revoked":
            await admin.request("DELETE", f"/tokens/{issued['id']}")
        events = []
        with contextlib.suppress(EOFError):
            while True:
                events.append(await sse.next(5))
        assert [one.event for one in events][-1:] == ["closing"]
        closing = events[-1].frame()
        assert closing["reason"]
        assert closing["retry_ms"] >= 0
        assert (await ws.closed())[0] == 4401
        if end == "expired":
            assert events[0].event == "expiring"
            assert 0 <= events[0].frame()["in_s"] <= 1
    assert await admin.get(".prices") == {"A": 1}


async def test_expiring_then_auth_renews_a_websocket(guarded: Server, admin: Api) -> None:
    short = await issue(admin, read=[".prices"], ttl_s=1.0)
    long = await issue(admin, read=[".prices"])
    target = "/ws" + query([".prices"], snapshot="none")
    async with open_ws(guarded, target, headers=bearer(short["token"])) as ws:
        assert (await ws.next())["type"] == "expiring"
        await ws.ok("auth", token=long["token"])
        await trio.sleep(max(0.0, short["expires_at"] - time.time()) + 0.2)
        await admin.put(".prices.A", 2)
        frame = await ws.next()
        assert (frame["type"], frame["value"]) == ("update", 2)


async def test_renewing_the_token_of_a_living_stream(guarded: Server, admin: Api) -> None:
    short = await issue(admin, read=[".prices"], ttl_s=1.0)
    long = await issue(admin, read=[".prices"])
    target = "/events" + query([".prices"], snapshot="none", access_token=short["token"])
    async with open_sse(guarded.port, target) as stream:
        connected = (await stream.next()).frame()
        client, secret = connected["client"], connected["secret"]
        assert (await stream.next()).event == "expiring"
        url = f"/streams/{client}/token"
        async with open_api(guarded) as api:
            bad = await api.request("POST", url, json={"secret": secret, "token": "nonsense"})
            assert bad.status_code == 401
            unknown = "/streams/c_nobody/token"
            renewed = {"secret": secret, "token": long["token"]}
            gone = await api.request("POST", unknown, json=renewed)
            assert gone.status_code == 404
            good = await api.request("POST", url, json=renewed)
            assert good.status_code in (200, 204)
        await trio.sleep(max(0.0, short["expires_at"] - time.time()) + 0.2)
        await admin.put(".prices.A", 3)
        assert (await stream.next()).frame()["value"] == 3


async def test_auth_raises_rights_on_the_living_connection(guarded: Server, admin: Api) -> None:
    small = await issue(admin, read=[".prices"], write=[])
    target = "/ws" + query([".prices"], snapshot="none")
    async with open_ws(guarded, target, headers=bearer(small["token"])) as ws:
        assert (await ws.refused("set", path=".users[0].name", value="x"))["status"] == 403
        assert (await ws.refused("auth", token="nonsense"))["status"] == 401
        assert (await ws.refused("set", path=".users[0].name", value="x"))["status"] == 403
        await ws.ok("auth", token=ADMIN)
        await ws.ok("set", path=".users[0].name", value="x")
    assert await admin.get(".users[0].name") == "x"


async def test_auth_with_less_never_leaves_more(guarded: Server, admin: Api) -> None:
    """Refused, or the subscription that the new token does not cover ends; never delivered on."""
    wide = await issue(admin, read=[".prices", ".users"])
    narrow = await issue(admin, read=[".users"])
    target = "/ws" + query([".prices", ".users"], snapshot="none")
    async with open_ws(guarded, target, headers=bearer(wide["token"])) as ws:
        answer = await ws.ask("auth", token=narrow["token"])
        await admin.put(".prices.A", 9)
        await admin.put(".users[0].name", "Zed")
        if answer["type"] == "error":
            assert answer["status"] == 403
            assert (await ws.next())["path"] == ".prices.A", "as before"
        else:
            try:
                assert (await ws.next())["path"] == ".users[0].name"
            except ConnectionClosed:
                assert (await ws.closed())[0] == 4403


async def test_renewing_a_stream_with_less_never_leaves_more(guarded: Server, admin: Api) -> None:
    wide = await issue(admin, read=[".prices", ".users"])
    narrow = await issue(admin, read=[".users"])
    target = "/events" + query([".prices", ".users"], snapshot="none")
    async with open_sse(guarded.port, target, headers=bearer(wide["token"])) as stream:
        connected = (await stream.next()).frame()
        async with open_api(guarded) as api:
            renewed = {"secret": connected["secret"], "token": narrow["token"]}
            url = f"/streams/{connected['client']}/token"
            assert (await api.request("POST", url, json=renewed)).status_code == 204
        await admin.put(".prices.A", 9)
        await admin.put(".users[0].name", "Zed")
        assert (await stream.next()).frame()["path"] == ".users[0].name"


async def test_a_room_mate_renews_nobody_elses_stream(guarded: Server, admin: Api) -> None:
    """Members of a room know each other's ids. Neither their own tokens nor an admin's are a proof
    that a stream is theirs, and nothing but its own `connected` tells the secret.
    """
    grant = {"read": [".prices"], "write": [".prices"], "rooms": ["*"]}
    mine, other = [(await issue(admin, **grant))["token"] for _ in range(2)]
    target = "/ws" + query([".prices"], snapshot="none", room="lobby")
    async with (
        open_ws(guarded, target, headers=bearer(mine)) as victim,
        open_ws(guarded, target, headers=bearer(other)) as attacker,
    ):
        secrets = {victim.connected["secret"], attacker.connected["secret"]}
        assert len(secrets) == 2
        assert min(map(len, secrets)) >= 20
        members = (await attacker.ok("join", room="lobby"))["members"]
        assert victim.connected["client"] in members
        url = f"/streams/{victim.connected['client']}"
        for token in (other, ADMIN):
            async with open_api(guarded, token=token) as api:
                for proof, code in (
                    ({}, 400),
                    ({"secret": ""}, 403),
                    ({"secret": attacker.connected["secret"]}, 403),
                    ({"secret": victim.connected["client"]}, 403),
                    ({"secret": "ü" * 22}, 403),
                ):
                    renewed = {"token": token, **proof}
                    refused = await api.request("POST", f"{url}/token", json=renewed)
                    assert refused.status_code == code, proof
                    refused = await api.request("POST", f"{url}/alive", json=proof)
                    assert refused.status_code == code, proof
                assert (await api.request("POST", f"{url}/token")).status_code == 400
                assert (await api.request("POST", f"{url}/alive")).status_code == 400
                listed = await admin.request("GET", "/connections")
                assert victim.connected["secret"] not in listed.text
        await victim.ok("set", path=".prices.A", value=8)


# order of things


async def test_nothing_is_read_before_the_token_is_checked(guarded: Server, admin: Api) -> None:
    """Commands sent right behind a handshake with a wrong token are never carried out."""
    command = b'{"type":"set","path":".prices.A","value":"hacked"}'
    async with open_socket(guarded) as stream:
        head = upgrade("/ws", "Authorization: Bearer nonsense")
        await stream.send_all(head + RawWs.frame(0x1, command))
        answer = b""
        with trio.fail_after(10), contextlib.suppress(trio.BrokenResourceError):
            while b"\r\n\r\n" not in answer and (data := await stream.receive_some(65536)):
                answer += data
    # Hypercorn itself refuses data before the handshake is answered (400).
    assert answer[:12] in (b"HTTP/1.1 401", b"HTTP/1.1 400"), answer[:200]
    assert await admin.get(".prices.A") == 1


async def test_no_secret_is_in_the_log(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=[".prices"])
    target = query([".prices"], access_token=issued["token"])
    async with open_sse(guarded.port, "/events" + target) as stream:
        assert stream.status == 200
    async with open_raw_ws(guarded, "/ws" + target):
        pass
    async with open_api(guarded) as api:
        await api.request("GET", READ + "&access_token=" + issued["token"][:-1])
    log = guarded.log()
    for secret in (ADMIN, SECRET, issued["token"], issued["token"][:-1]):
        assert secret not in log
