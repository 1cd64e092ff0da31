"""Reads that name a position, docs/wire.md "Reading what was written elsewhere". A server alone has
all that it told.
"""

from __future__ import annotations

from typing import Any

import pytest

from .clients import Api, check_error, open_ws, query
from .server import Server

pytestmark = pytest.mark.trio

SILENT = "/ws" + query([".fence"], snapshot="none")


async def test_over_http(api: Api) -> None:
    await api.reset({"a": 1})
    position = await api.put(".a", 2)
    epoch = position.partition(":")[0]
    answers: dict[str, tuple[int, Any]] = {}
    for at in (position, "other:1", f"{epoch}:999999", "nonsense", ""):
        by_query = await api.request("GET", "/store", params={"path": ".a", "at": at})
        by_field = await api.request(
            "GET", "/store", params={"filter": ".a"}, headers={"If-Position": at}
        )
        assert by_query.status_code == by_field.status_code
        answers[at] = by_query.status_code, by_query.json()
    assert answers[position] == (200, 2)
    for lost in ("other:1", f"{epoch}:999999"):
        assert answers[lost][0] == 412
        assert answers[lost][1]["title"] == "No such position"
        assert answers[lost][1]["position"] == position
    assert [answers[at][0] for at in ("nonsense", "")] == [400, 400]


async def test_over_a_websocket(server: Server, api: Api) -> None:
    await api.reset({"a": 1, "fence": ""})
    position = await api.put(".a", 2)
    async with open_ws(server, SILENT) as ws:
        await ws.send({"type": "get", "filter": ".a", "at": position})
        assert (await ws.next())["items"] == [{"path": ".a", "value": 2}]
        await ws.send({"type": "get", "filter": ".a", "at": "other:1"})
        assert check_error(await ws.next())["status"] == 412
        await ws.send({"type": "subscribe", "filter": ".a", "at": 7})
        assert check_error(await ws.next())["status"] == 400
        await ws.send({"type": "subscribe", "filter": ".a", "at": "other:1"})
        assert check_error(await ws.next())["status"] == 412
        await ws.send({"type": "subscribe", "filter": ".a", "at": position})
        assert (await ws.next())["type"] == "ok"
        assert (await ws.next())["items"] == [{"path": ".a", "value": 2}]


async def test_a_stream(api: Api) -> None:
    await api.reset({"a": 1})
    refused = await api.request("GET", "/events", params={"filter": ".a", "at": "other:1"})
    assert refused.status_code == 412
    malformed = await api.request("POST", "/events", json={"filter": ".a", "at": "x"})
    assert malformed.status_code == 400
