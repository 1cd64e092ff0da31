"""Writes that are small for their author and long for the server."""

from __future__ import annotations

import json
from typing import Any

from tests.abuse.attacker import Abuse, Attacker

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


async def send(client: Attacker, method: str, kind: str, body: Any, path: str = ".") -> int:
    """One write: the status of its answer."""
    answer = await client.http.request(
        method,
        "/store",
        params={"path": path},
        content=json.dumps(body).encode(),
        headers={"Content-Type": kind},
    )
    return answer.status_code


async def many_arrays(client: Attacker) -> None:
    """9 000 arrays of two elements."""
    await client.put_document({f"a{n}": [1, 2] for n in range(9_000)})


async def removes(client: Attacker) -> int:
    """An element of each."""
    patch = [{"op": "remove", "path": f"/a{n}/0"} for n in range(9_000)]
    return await send(client, "PATCH", JSON_PATCH, patch)


async def empty(client: Attacker) -> None:
    """Nothing there."""
    await client.put_document({})


async def wide_merge(client: Attacker) -> int:
    """Some 10 MB of members."""
    return await send(client, "PATCH", MERGE_PATCH, {f"member-{n}": n for n in range(500_000)})


async def deep_merge(client: Attacker) -> int:
    """Wide at each of 200 levels."""
    body: Any = {}
    for _ in range(200):
        body = {**{f"k{n}": n for n in range(500)}, "down": body}
    return await send(client, "PATCH", MERGE_PATCH, body)


async def open_items(client: Attacker) -> None:
    """An item of 56 KB that a condition selects."""
    await client.put_document({"items": [{"status": "open", "text": "x" * 56_000}]})


async def toggling(client: Attacker) -> int:
    """In and out of a filter 10 000 times, in one batch."""
    async with client.ws("/ws?filter=.items[status=open]") as ws:
        ops = [
            {"type": "set", "path": ".items[0].status", "value": ("open", "done")[n % 2]}
            for n in range(10_000)
        ]
        await ws.send({"type": "batch", "atomic": True, "ops": ops, "ref": 1})
        while True:
            frame = await ws.next(60)
            if frame.get("ref") == 1:
                return 200 if frame["type"] == "ok" else int(frame["status"])


async def many_sets(client: Attacker) -> int:
    """20 000 writes in one message."""
    async with client.ws() as ws:
        ops = [{"type": "set", "path": ".x", "value": n} for n in range(20_000)]
        await ws.send({"type": "batch", "ops": ops, "ref": 1})
        while True:
            frame = await ws.next(60)
            if frame.get("ref") == 1:
                return 200 if frame["type"] == "ok" else int(frame["status"])


async def doubling(client: Attacker) -> int:
    """A copy of all into itself, again and again."""
    status = 200
    await client.put_document({"a": {"x": ["text"] * 1000}})
    for n in range(25):
        patch = [{"op": "copy", "from": "/a", "path": f"/a/c{n}"}]
        status = await send(client, "PATCH", JSON_PATCH, patch)
        if status != 200:
            break
    return status


TABLE: tuple[Abuse, ...] = (
    Abuse("removes in 9 000 arrays", removes, (200, 422), many_arrays),
    Abuse("wide merge", wide_merge, (200, 422), empty),
    Abuse("deep and wide merge", deep_merge, (200, 422), empty),
    Abuse("batch toggling a condition", toggling, (200, 422), open_items),
    Abuse("batch of 20 000 sets", many_sets, (200, 422), empty),
    Abuse("copy doubling the document", doubling, (422, 507), empty),
)
