"""`/tokens` and the renewal of streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from trio.testing import MockClock

from tests.app.rounds import counted_rounds
from tests.app.web import ADMIN, Web, serving
from triode.app.blueprints.tokens import SHOWN_AT_ONCE
from triode.app.delivery.subscriber import Client
from triode.app.wire.chunks import Chunks
from triode.limits.grant import NONE
from triode.limits.principal import Principal


class DeafLane:
    """A lane that takes everything and does nothing."""

    name = "native"
    chunks: Chunks | None = None
    deflate_from = 0

    def __init__(self) -> None:
        self.written = bytearray()
        self.woken = False
        self.send_now: Callable[[bytes], int] | None = self._take

    def _take(self, data: bytes) -> int:
        self.written += data
        return len(data)

    async def send_all(self, data: bytes) -> None:
        self._take(data)

    def wake(self) -> None:
        self.woken = True

    def abort(self) -> None:
        self.woken = True


def stream(web: Web, principal: Principal) -> tuple[Client, DeafLane]:
    lane = DeafLane()
    return web.triode.hub.open("sse", lane, principal, "192.0.2.7", {}), lane


async def test_issue_list_revoke() -> None:
    async with serving({"a": 1}, admin_token=ADMIN, token=ADMIN) as web:
        answer = await web.ask("POST", "/tokens", {"read": [".a"], "ttl_s": 60, "label": "screen"})
        assert answer.status == 201
        assert answer.headers["Cache-Control"] == "no-store"
        issued = answer.json()
        assert answer.headers["Location"] == f"/tokens/{issued['id']}"
        assert len(issued["token"]) == 44
        assert issued["grant"] == {
            "read": [".a"],
            "write": [],
            "rooms": [],
            "metrics": False,
            "admin": False,
        }
        assert issued["expires_at"] == pytest.approx(issued["created_at"] + 60)

        listed = await web.ask("GET", "/tokens")
        assert issued["token"].encode() not in listed.body
        assert {"screen", "admin"} == {token["label"] for token in listed.json()["tokens"]}

        holder = web.with_token(issued["token"])
        assert await holder.json("GET", "/store?path=.a") == 1
        await holder.problem(403, "GET", "/tokens")
        await holder.problem(403, "POST", "/tokens", {})
        await holder.problem(403, "DELETE", f"/tokens/{issued['id']}")

        gone = await web.ask("DELETE", f"/tokens/{issued['id']}")
        assert gone.status == 204
        assert not gone.body
        await web.problem(404, "DELETE", f"/tokens/{issued['id']}")
        await holder.problem(401, "GET", "/store?path=.a")


async def test_a_long_list_comes_in_pages_and_in_turns() -> None:
    """100 000 tokens in one step held the server for half a second."""
    async with serving(admin_token=ADMIN, token=ADMIN) as web:
        tokens = web.triode.tokens
        for _ in range(2_000):
            tokens.issue(NONE, now=web.triode.clock.unix_s())
        async with counted_rounds() as rounds:
            page = await web.json("GET", "/tokens")
            assert rounds.seen > 1000 / SHOWN_AT_ONCE
        assert len(page["tokens"]) == 1000
        ids = [token["id"] for token in page["tokens"]]
        while page["next"] is not None:
            page = await web.json("GET", f"/tokens?limit=400&after={quote(page['next'])}")
            ids += [token["id"] for token in page["tokens"]]
        assert len(ids) == len(set(ids)) == 2_001
        for wrong in ("x", "1", "~t_1", "nan~t_1", "inf~t_1"):
            problem = await web.problem(400, "GET", f"/tokens?after={wrong}")
            assert '"next"' in problem["detail"]
        await web.problem(400, "GET", "/tokens?limit=1001")


async def test_the_grant_whole_or_by_its_members() -> None:
    async with serving() as web:
        nothing = {"read": [], "write": [], "rooms": [], "metrics": False, "admin": False}
        for asked, grant in [
            ({}, nothing),
            ({"grant": {"admin": True}}, nothing | {"admin": True}),
            ({"read": [], "write": [], "rooms": []}, nothing),
            ({"grant": {"read": ["."], "rooms": "*"}}, nothing | {"read": ["*"], "rooms": ["*"]}),
        ]:
            assert (await web.json("POST", "/tokens", asked))["grant"] == grant


@pytest.mark.parametrize(
    "asked",
    [
        [],
        {"reads": [".a"]},
        {"grant": {"reads": []}},
        {"grant": {}, "read": []},
        {"grant": None},
        {"read": ".a"},
        {"read": None},
        {"read": [".a["]},
        {"write": [1]},
        {"admin": "yes"},
        {"ttl_s": 0},
        {"ttl_s": -1},
        {"ttl_s": "60"},
        {"ttl_s": True},
        {"label": 1},
        {"label": "x" * 500},
    ],
)
async def test_what_is_malformed_issues_nothing(asked: Any) -> None:
    async with serving() as web:
        await web.problem(400, "POST", "/tokens", asked)
        assert len(web.triode.tokens) == 0


async def test_without_end_and_by_default_a_day() -> None:
    async with serving() as web:
        assert (await web.json("POST", "/tokens", {"ttl_s": None}))["expires_at"] is None
        issued = await web.json("POST", "/tokens", {})
        assert issued["expires_at"] - issued["created_at"] == pytest.approx(86400)


async def test_an_expired_token_is_refused(autojump_clock: MockClock) -> None:
    async with serving({"a": 1}, admin_token=ADMIN, token=ADMIN) as web:
        issued = await web.json("POST", "/tokens", {"read": "*", "ttl_s": 5})
        holder = web.with_token(issued["token"])
        assert await holder.json("GET", "/store?path=.a") == 1
        autojump_clock.jump(6)
        await holder.problem(401, "GET", "/store?path=.a")


async def test_revoking_ends_the_streams_of_the_token_at_once() -> None:
    async with serving(admin_token=ADMIN, token=ADMIN) as web:
        issued = await web.json("POST", "/tokens", {})
        mine, lane = stream(web, web.triode.gate.principal_of(issued["token"]))
        other, _ = stream(web, web.triode.gate.principal_of(ADMIN))
        await web.ask("DELETE", f"/tokens/{issued['id']}")
        assert b"token_ended" in lane.written
        assert mine.id not in web.triode.hub.clients
        assert other.id in web.triode.hub.clients


async def test_renewal_by_body_and_by_header() -> None:
    async with serving(admin_token=ADMIN) as web:
        admin = web.with_token(ADMIN)
        tokens = [(await admin.json("POST", "/tokens", {"label": name}))["token"] for name in "abc"]
        client, _ = stream(web, web.triode.gate.principal_of(tokens[0]))
        target = f"/streams/{client.id}/token"

        proof = {"secret": client.secret}

        assert (await web.ask("POST", target, proof | {"token": tokens[1]})).status == 204
        assert client.principal.name == "b"
        assert (await web.with_token(tokens[2]).ask("POST", target, proof)).status == 204
        assert client.principal.name == "c"

        await web.problem(401, "POST", target, proof | {"token": "wrong"})
        await web.problem(400, "POST", target, proof | {"token": 7})
        await web.problem(400, "POST", target, proof | {"other": tokens[0]})
        await web.problem(400, "POST", target, proof)
        await web.problem(400, "POST", target, {"token": tokens[1]})
        await web.problem(403, "POST", target, {"secret": "x", "token": tokens[1]})
        await web.problem(404, "POST", "/streams/c_nobody/token", proof | {"token": tokens[1]})
        assert client.principal.name == "c"
