"""Hostile filters."""

from __future__ import annotations

import secrets
from typing import Any

import trio

from tests.abuse.attacker import Abuse, Attacker


def put(document: Any) -> Any:
    """A preparation that writes the document."""

    async def prepare(client: Attacker) -> None:
        await client.put_document(document)

    return prepare


def get(filter: str) -> Any:
    """An attack that reads with a filter over HTTP."""

    async def attack(client: Attacker) -> int:
        return await client.get(filter=filter)

    return attack


def get_over_ws(filter: str) -> Any:
    """An attack that reads with a filter over WebSocket."""

    async def attack(client: Attacker) -> int:
        async with client.ws() as ws:
            answer = await ws.ask("get", filter=filter)
            return int(answer.get("status", 200))

    return attack


def subscribed(filters: list[str], path: str, value: Any) -> Any:
    """An attack that subscribes to filters and then writes one thing."""

    async def attack(client: Attacker) -> int:
        async with client.ws() as ws, trio.open_nursery() as nursery:

            async def read() -> None:
                while True:
                    await ws.next()

            for text in filters:
                await ws.ask("subscribe", filter=text, snapshot=False)
            status = await client.set(path, value)
            nursery.start_soon(read)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        return status

    return attack


async def many_long(client: Attacker) -> int:
    """An event stream with 100 filters of 4 KB, none of them known."""
    filters = [f"$['{secrets.token_hex(8)}']" + "['a'" + ",'a'" * 950 + "]" for _ in range(100)]
    async with client.http.stream("POST", "/events", json={"filter": filters}) as answer:
        return answer.status_code


def deep(depth: int, inside: Any) -> Any:
    """Objects `a` in each other."""
    for _ in range(depth):
        inside = {"a": inside}
    return inside


OBJECTS = {"a": [{"x": i} for i in range(20_000)], "b": 0}
RANGED = range(0x100, 0x100 + 450)
RANGES = "".join(f"{chr(0x100 + 3 * i)}-{chr(0x101 + 3 * i)}" for i in range(150))

TABLE = (
    Abuse(
        "repeated names, GET",
        get("$" + ("['" + "','".join("a" * 300) + "']") * 3),
        (422,),
        put({"a": {"a": {"a": 1}}}),
    ),
    Abuse(
        "repeated names, get",
        get_over_ws("$" + ("['" + "','".join("a" * 250) + "']") * 4),
        (422,),
        put({"a": {"a": {"a": {"a": 1}}}}),
    ),
    Abuse(
        "own descents",
        get("..a" * 60 + "..zz"),
        (422,),
        put(deep(60, [[]] * 400_000)),
    ),
    Abuse(
        "pattern of many ranges",
        get(f"$[?search(@.s, '[{RANGES}]{{0,450}}[0]')]"),
        (422,),
        put({f"k{i}": {"s": "".join(map(chr, RANGED)) * 13} for i in range(20)}),
    ),
    Abuse(
        "a pattern for each object",
        get("$[?search('aaaa', @.p)]"),
        (422,),
        put({f"k{i}": {"p": f"(a|b{i}){{1,100}}"} for i in range(20_000)}),
    ),
    Abuse(
        "descent over scalars",
        get("$[" + ",".join(f"'k{i}'" for i in range(100)) + "][" + "?@..a," * 19 + "?@..a]"),
        (422,),
        put({f"k{i}": [[1] * 10_000] for i in range(100)}),
    ),
    Abuse("many wildcards", get(",".join([".*"] * 2000)), (400, 422), put({"a": [1] * 10_000})),
    Abuse("100 long filters", many_long, (200,)),
    Abuse(
        "100 slices, one small write",
        subscribed([f".a[0:][x>{i}]" for i in range(90)], ".a[0].x", 5),
        (200,),
        put(OBJECTS),
        settle_s=2,
    ),
    Abuse(
        "100 JSONPaths, one small write",
        subscribed([f"$.a[?@.x>{i}]" for i in range(90)], ".a[0].x", 5),
        (200,),
        put(OBJECTS),
        settle_s=2,
    ),
    Abuse(
        "quadratic count, a write beside it",
        subscribed(["$.a[?count($.a[*]) > 1]"], ".b", 1),
        (200,),
        put({"a": [*range(2200)], "b": 0}),
    ),
    Abuse(
        "100 conditions, the array anew",
        subscribed([f".a[x>{i}]" for i in range(90)], ".a", OBJECTS["a"]),
        (200,),
        put(OBJECTS),
        settle_s=2,
    ),
)
