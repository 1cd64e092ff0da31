"""The lease of an event stream, over real sockets."""

from __future__ import annotations

import pytest
import trio

from .auth import ADMIN
from .clients import Api, open_sse
from .server import Server

pytestmark = pytest.mark.trio


async def test_only_who_renews_its_lease_goes_on(server: Server, api: Api) -> None:
    url = "/events?filter=.lease&snapshot=none&lease=5"
    async with (
        open_sse(server.port, url) as silent,
        open_sse(server.port, url) as present,
        trio.open_nursery() as nursery,
    ):
        connected = (await silent.next()).frame()
        assert connected["lease_s"] == 5
        mine = (await present.next()).frame()
        alive, proof = f"/streams/{mine['client']}/alive", {"secret": mine["secret"]}

        async def say() -> None:
            while True:
                assert (await api.request("POST", alive, json=proof)).status_code == 204
                await trio.sleep(1)

        nursery.start_soon(say)
        closing = (await silent.next(8)).frame()
        assert (closing["type"], closing["reason"]) == ("closing", "lease")
        gone = f"/streams/{connected['client']}/alive"
        assert (await api.request("POST", gone, json=proof)).status_code == 404
        nursery.cancel_scope.cancel()
        await api.reset({"lease": 1})
        assert (await present.next()).frame()["type"] == "update"


async def test_a_lease_needs_no_token_but_the_streams_secret(guarded: Server, admin: Api) -> None:
    async with (
        open_sse(guarded.port, f"/events?lease=30&access_token={ADMIN}") as stream,
    ):
        connected = (await stream.next()).frame()
        alive, proof = f"/streams/{connected['client']}/alive", {"secret": connected["secret"]}
        del admin.client.headers["Authorization"]
        assert (await admin.request("POST", alive, json=proof)).status_code == 204
        assert (await admin.request("POST", alive, json={"secret": "x"})).status_code == 403
        assert (await admin.request("POST", alive)).status_code == 400
        assert (await admin.request("POST", "/streams/c_x/alive", json=proof)).status_code == 404


async def test_what_is_no_lease_is_refused(server: Server, api: Api) -> None:
    for lease in ("4", "3601", "soon", ""):
        response = await api.request("GET", f"/events?lease={lease}")
        assert response.status_code == 400, lease
    assert (await api.request("POST", "/events", json={"lease": "x"})).status_code == 400
    async with open_sse(server.port, "/events?filter=.lease") as stream:
        connected = (await stream.next()).frame()
        alive, proof = f"/streams/{connected['client']}/alive", {"secret": connected["secret"]}
        assert (await api.request("POST", alive, json=proof)).status_code == 409
