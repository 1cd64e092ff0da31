"""Writes that are small for their author and long for the server."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.abuse.attacker import ENLARGED_MS, Abuse, Attacker

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
JSON = {"Content-Type": "application/json"}


# Python's garbage collector looks at each element of each container that it knows and is new.
WIDE_ARRAYS = json.dumps([["text"] * 250] * 8_000).encode()
WIDE_ARRAY = b"[0" + b",0" * 9_000_000 + b"]"
WIDE_OBJECT = json.dumps({f"k{n}": [] for n in range(10**6)}).encode()


# Attackers write here: more than 1 000 edits of one change are told as one of the place that they
# have in common, so at the root everybody would be told all there is.
PLACE = ".wide"


async def send(client: Attacker, method: str, kind: str, body: Any, path: str = PLACE) -> int:
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
    await client.put_document({"wide": {f"a{n}": [1, 2] for n in range(9_000)}})


async def removes(client: Attacker) -> int:
    """An element of each."""
    patch = [{"op": "remove", "path": f"/a{n}/0"} for n in range(9_000)]
    return await send(client, "PATCH", JSON_PATCH, patch)


async def empty(client: Attacker) -> None:
    """Nothing there."""
    await client.put_document({"wide": {}})


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


async def many_refusals(client: Attacker) -> int:
    """10 000 operations that are none in one message; each has its refusal in the answer."""
    async with client.ws() as ws:
        await ws.send({"type": "batch", "ops": [{"type": "none"}] * 10_000, "ref": 1})
        while True:
            frame = await ws.next(60)
            if frame.get("ref") == 1:
                return 200 if frame["type"] == "ok" else int(frame["status"])


async def doubling(client: Attacker) -> int:
    """A copy of all into itself, again and again."""
    status = await client.set(PLACE, {"a": {"x": ["text"] * 1000}})
    for n in range(25):
        patch = [{"op": "copy", "from": "/a", "path": f"/a/c{n}"}]
        status = await send(client, "PATCH", JSON_PATCH, patch)
        if status != 200:
            break
    return status


def putting(body: bytes) -> Callable[[Attacker], Awaitable[int]]:
    """This at one place."""

    async def attack(client: Attacker) -> int:
        answer = await client.http.put("/store", params={"path": ".a"}, content=body, headers=JSON)
        return answer.status_code

    return attack


async def long_array(client: Attacker) -> None:
    """Three million numbers."""
    await client.put_document({"a": [0] * 3_000_000})


async def shorter_by_one(client: Attacker) -> int:
    """The first and the last element go."""
    for index in (0, -1):
        answer = await client.http.delete("/store", params={"path": f".a[{index}]"})
    return answer.status_code


async def long_array_alone(client: Attacker) -> None:
    """Two million numbers; a copy of them fits in a write, and what replaces both."""
    await client.put_document({"a": [0] * 2_000_000})


async def copied_array(client: Attacker) -> int:
    """A copy beside it."""
    patch = [{"op": "copy", "from": "/a", "path": "/b"}]
    return await send(client, "PATCH", JSON_PATCH, patch, ".")


TABLE: tuple[Abuse, ...] = (
    Abuse("removes in 9 000 arrays", removes, (200, 404, 422), many_arrays),
    Abuse("wide merge", wide_merge, (200, 422), empty, bound_ms=ENLARGED_MS),
    Abuse("deep and wide merge", deep_merge, (200, 422), empty),
    Abuse("batch toggling a condition", toggling, (200, 422), open_items),
    Abuse("batch of 20 000 sets", many_sets, (200, 422), empty),
    Abuse("batch of 10 000 refusals", many_refusals, (200,), empty),
    Abuse("copy doubling the document", doubling, (422, 507), empty),
    Abuse("elements of a long array", shorter_by_one, (200,), long_array),
    Abuse("copy of a long array", copied_array, (200,), long_array_alone),
    Abuse("many wide arrays", putting(WIDE_ARRAYS), (200,), empty),
    Abuse("one wide array", putting(WIDE_ARRAY), (200, 422), empty),
    Abuse("one wide object", putting(WIDE_OBJECT), (200, 422), empty, bound_ms=ENLARGED_MS),
)
