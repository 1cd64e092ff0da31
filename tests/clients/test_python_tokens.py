"""The Python client's tokens: given, asked for, renewed, ended."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

import anyio.lowlevel
import pytest
import trio

from tests.behaviour.api import Api, eventually, open_api
from tests.behaviour.auth import ADMIN, issue, signed
from tests.behaviour.server import Server
from tests.clients.doors import Connect
from tests.clients.waiting import PATIENCE_S, settled
from triode_client import AsyncTriode, Ended, NotAllowed, Options, RateLimited

QUICK = Options(delay_s=0.02, max_delay_s=0.1)


@pytest.fixture
async def admin(guarded: Server) -> AsyncIterator[Api]:
    async with open_api(guarded, token=ADMIN) as one:
        await one.reset({"prices": {"A": 1}, "secret": 1})
        yield one


def lasting(seconds: float, **claims: object) -> str:
    """A token that ends so many seconds from now."""
    return signed({"exp": time.time() + seconds, **claims})


async def test_a_token_is_its_rights(connect: Connect, guarded: Server, admin: Api) -> None:
    token = lasting(600, read=[".prices"], write=[], rooms=["open"])
    async with connect(f"http://127.0.0.1:{guarded.port}", token=token) as t:
        assert await t.get(".prices.A") == 1
        for refused in (t.get("."), t.set(".prices.A", 2), anext(t.watch(".secret"))):
            with pytest.raises(NotAllowed) as caught:
                await refused
            assert caught.value.status == 403
        with pytest.raises(NotAllowed):
            async with t.room("closed"):
                pass
        async with t.room("open"):
            pass


async def test_a_token_is_in_no_log_and_brings_no_field_of_its_own(
    connect: Connect, guarded: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"http://127.0.0.1:{guarded.port}"
    async with connect(url, token=ADMIN) as t:
        await t.get()
    assert ADMIN not in caplog.text
    with pytest.raises(ValueError, match="a token of one line"):
        async with connect(url, token="a\r\nX-Admin: 1"):
            pass


async def test_a_token_is_renewed_before_it_ends(
    connect: Connect, guarded: Server, admin: Api
) -> None:
    """The server says that it ends soon; the connection stays, and so does every view."""
    asked: list[float] = []

    async def token() -> str:
        asked.append(time.monotonic())
        await anyio.lowlevel.checkpoint()
        return lasting(2.5 if len(asked) == 1 else 600, read="*")

    url = f"http://127.0.0.1:{guarded.port}"
    async with connect(url, token=token, options=QUICK) as t, t.view(".prices.A") as view:
        client_id = t.client_id

        async def was_asked() -> bool:
            return len(asked) == 2

        await eventually(was_asked)
        await trio.sleep(2.5)
        assert len(asked) == 2
        assert t.client_id == client_id
        await admin.put(".prices.A", 2)
        await settled(view, 2)


async def test_a_renewed_token_with_less_rights_ends_what_it_does_not_cover(
    connect: Connect, guarded: Server, admin: Api
) -> None:
    tokens = [lasting(20, read="*"), lasting(600, read=[".prices"], write=[], rooms=[])]
    url = f"http://127.0.0.1:{guarded.port}"
    async with connect(url, token=lambda: tokens.pop(0)) as t:
        async with t.view(".prices") as prices, t.view(".secret") as secret:
            with trio.fail_after(PATIENCE_S), pytest.raises(NotAllowed, match="may not read"):
                await settled(secret, "never")
            assert secret.stale
            await admin.put(".prices.A", 2)
            await settled(prices, {"A": 2})


async def test_a_token_that_is_revoked_is_asked_for_once_more(
    connect: Connect, guarded: Server, admin: Api
) -> None:
    issued = [await issue(admin, read=["."]), await issue(admin, read=["."])]
    asked = iter([one["token"] for one in issued])
    url = f"http://127.0.0.1:{guarded.port}"
    async with connect(url, token=lambda: next(asked), options=QUICK) as t:
        async with t.view(".prices.A") as view:
            first = t.client_id
            await admin.request("DELETE", f"/tokens/{issued[0]['id']}")  # 4401

            async def is_another() -> bool:
                return t.client_id not in (None, first)

            await eventually(is_another)
            await admin.put(".prices.A", 3)
            await settled(view, 3)
            assert next(asked, None) is None


async def test_a_refused_token_is_asked_for_once_more_and_then_it_is_over(
    connect: Connect, guarded: Server
) -> None:
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        return "wrong"

    with pytest.raises(NotAllowed) as caught:
        async with connect(f"http://127.0.0.1:{guarded.port}", token=token, options=QUICK):
            pass
    assert caught.value.status == 401
    assert asked == 2


@pytest.mark.not_sync("there is no block to end")
async def test_a_token_that_ends_without_a_callback_is_the_end(
    connect: Connect, guarded: Server, admin: Api
) -> None:
    with trio.fail_after(PATIENCE_S), pytest.raises(Ended) as caught:
        async with connect(f"http://127.0.0.1:{guarded.port}", token=lasting(1)):
            await trio.sleep_forever()
    assert caught.value.code == 4401


@pytest.mark.not_sync("there is no block to end")
async def test_what_the_callback_raises_comes_out_of_the_block(
    connect: Connect, guarded: Server
) -> None:
    error = LookupError("no token today")

    def token() -> str:
        raise error

    with pytest.raises(LookupError) as caught:
        async with connect(f"http://127.0.0.1:{guarded.port}", token=token):
            pass
    assert caught.value is error

    tokens = [lasting(20)]
    with trio.fail_after(PATIENCE_S), pytest.raises(IndexError):
        async with connect(f"http://127.0.0.1:{guarded.port}", token=lambda: tokens.pop()):
            await trio.sleep_forever()


@pytest.mark.not_sync("it asks again by itself")
async def test_too_many_refused_commands_end_the_connection_for_good(
    connect: Connect, guarded: Server
) -> None:
    """4429: whoever does not read the answers is not let back in unchanged."""
    limited = 0

    async def ask(t: AsyncTriode) -> None:
        nonlocal limited
        try:
            await t.get(".nope")
        except RateLimited as exc:
            limited += exc.retry_after_s is not None

    async def flood() -> None:
        async with connect(f"http://127.0.0.1:{guarded.port}", token=ADMIN) as t:
            async with trio.open_nursery() as nursery:
                for _ in range(300):
                    nursery.start_soon(ask, t)

    with trio.fail_after(PATIENCE_S), pytest.raises(Ended) as caught:
        await flood()
    assert caught.value.code == 4429
    assert limited >= 99
