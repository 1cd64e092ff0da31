"""The whole product at once: random writes, subscriptions, cuts and resumes; at every calm the
views are the selections.

Seeded; the seed is in the test's id and `TRIODE_SEED` sets another. Clients of both transports keep
an `Assembler` each. Cut ones come back with the last id they saw and go on with the view they had,
if the server says `resumed`. A cut may come in the middle of a change, which is then sent again as
a whole. Every second client is one that applies a change only when it is whole (the frame with the
id), strictly; the others apply every frame at once, as a browser does.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import deque
from typing import Any

import httpx
import pytest
import trio

from .assembler import Assembler, items_view, same
from .clients import Api, Fence, Frame, Held, Watch, hold, watch
from .server import Server

pytestmark = pytest.mark.trio

SEED = int(os.environ.get("TRIODE_SEED", "20260"))
RUN_S = 6.0

FILTERS = [
    ".rows",
    ".rows[*]",
    ".rows[*].n",
    ".rows[0]",
    ".rows[-1].n",
    ".rows[1:3]",
    ".rows[on=true]",
    ".rows[on=true].n",
    ".rows[n>4][on=true].tags[*]",
    ".rows[n!=3].n",
    ".map.*",
    ".map.*.n",
    ".map.a.n",
    ".map.*[on=true].tags",
    '.map["k-1"]',
    ".map",
    "..tags",
    "..n",
    "$.rows[?@.n > 3].tags",
    "$.rows[?@.on == true && @.n].n",
    "$.map[?@.tags[0]]",
    "$..n",
    "/map/a",
    "/rows/0/n",
]


def random_row(rng: random.Random) -> Any:
    row: dict[str, Any] = {
        "n": rng.choice([1, 2, 3, 4, 5, 6, "3", True, None, 4.5, {"n": {"n": 1}}])
    }
    if rng.random() < 0.8:
        row["on"] = rng.choice([True, False, 1, "true"])
    if rng.random() < 0.7:
        row["tags"] = [rng.randint(0, 3) for _ in range(rng.randint(0, 3))]
    return rng.choice([row, row, row, row, row, [], 7])


def random_document(rng: random.Random) -> dict[str, Any]:
    return {
        "rows": [random_row(rng) for _ in range(rng.randint(0, 5))],
        "map": {key: random_row(rng) for key in ("a", "b", "k-1") if rng.random() < 0.8},
        "fence": "",
    }


class Journal(Api):
    """Remembers the last requests that changed something, to tell what led to a fault."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        super().__init__(client)
        self.last: deque[str] = deque(maxlen=25)

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        response = await super().request(method, url, **options)
        if method != "GET":
            path = options.get("params", {}).get("path")
            answer = response.text if response.status_code == 200 else response.status_code
            self.last.append(f"{method} {path} {options.get('content')!r}: {answer}")
        return response


async def random_write(api: Api, rng: random.Random) -> None:
    """One write of any kind; many are refused, which must not be seen by anybody."""
    document = await api.get(".")
    rows, members = document.get("rows"), document.get("map")
    index = rng.randint(0, len(rows) if isinstance(rows, list) else 0)
    names = [*members, "new"] if isinstance(members, dict) else ["new"]
    place = rng.choice([f".rows[{index}]", f'.map["{rng.choice(names)}"]'])
    member = place + rng.choice([".n", ".on", ".tags", ".tags[0]", ".tags[1]"])
    json_type, value = "application/json", random_row(rng)
    kind = rng.randint(0, 11)
    with contextlib.suppress(AssertionError):  # `position` refuses a refusal
        if kind <= 2:
            await api.put(member, rng.choice([value, 1, 5, True, [1, 2], "x", {"n": 2}]))
        elif kind <= 4:
            await api.put(place, value)
        elif kind == 5:
            await api.delete(rng.choice([member, place]))
        elif kind == 6:
            await api.merge(place, {"n": rng.choice([None, 4, 5]), "on": rng.choice([None, True])})
        elif kind == 7:
            await api.patch(
                ".rows",
                {"op": "add", "path": f"/{index}", "value": value},
                {"op": "move", "from": "/0", "path": f"/{rng.randint(0, 2)}"},
            )
        elif kind == 8:
            await api.patch(".", {"op": "copy", "from": f"/rows/{index}", "path": "/map/a"})
        elif kind == 9:
            rows = [random_row(rng) for _ in range(rng.randint(0, 4))]
            await api.put(".rows", rng.choice([rows, rows, {}, None]))
        elif kind == 10 and rng.random() < 0.3:
            await api.merge(".", {**random_document(rng), "fence": ""})
        else:
            await api.write("PUT", ".map", b'{"a":{"n":6,"on":true,"tags":[1]}}', json_type)


class Client:
    """A connection with its views, which outlive it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        server: Server,
        transport: str,
        filters: list[str],
        by_change: bool,
    ) -> None:
        self.nursery = nursery
        self.server = server
        self.transport = transport
        self.filters = filters
        self.by_change = by_change
        self.views = Assembler(strict=by_change)
        self._part: list[Frame] = []
        self.last_id = ""
        self.watch: Watch | None = None
        self._held: Held[Watch] | None = None
        self.resumes = 0

    async def connect(self) -> None:
        options: dict[str, Any] = {"since": self.last_id} if self.last_id else {}
        context = watch(self.server, self.transport, *self.filters, ".fence", **options)
        self._held = await hold(self.nursery, context)
        self.watch = self._held.value
        if self.watch.connected["resumed"]:
            self.resumes += 1
            self.watch.last_id = self.last_id
        else:
            self.views = Assembler(strict=self.by_change)

    async def cut(self) -> None:
        assert self.watch is not None
        assert self._held is not None
        self.last_id = self.watch.last_id
        await self._held.release()
        self.watch = None
        self._part = []

    def take(self, frame: Frame) -> None:
        """Apply the frame, or the whole change when this is its last."""
        self._part.append(frame)
        if "id" in frame or not self.by_change:
            for one in self._part:
                self.views.take(one)
            self._part = []

    async def read_some(self, rng: random.Random) -> None:
        """Take a few frames, so that a cut may come anywhere between them."""
        assert self.watch is not None
        for _ in range(rng.randint(0, 4)):
            try:
                self.take(await self.watch.next(0.01))
            except trio.TooSlowError:
                return


async def catch_up(api: Api, fence: Fence, clients: list[Client]) -> None:
    """Calm: everybody reads to the fence; then every view must be what a read selects."""
    watchers = [client.watch for client in clients if client.watch is not None]
    for client, frames in zip(clients, await fence.pass_through(*watchers), strict=True):
        for frame in frames:
            client.take(frame)
    selected = {
        one: items_view(await api.select(one))
        for one in sorted({one for client in clients for one in client.filters})
    }
    for client in clients:
        for one in client.filters:
            view, wanted = client.views.views[one], selected[one]
            context = f"{client.transport} {one}: {view} is not {wanted}"
            assert view.keys() == wanted.keys(), context
            assert all(same(view[path], wanted[path]) for path in wanted), context


@pytest.mark.parametrize("seed", [SEED])
async def test_views_are_selections(server: Server, api: Api, seed: int) -> None:
    journal = Journal(api.client)
    try:
        await run(server, journal, random.Random(seed))
    except BaseException:
        print("seed", seed, *journal.last, sep="\n")
        raise


async def run(server: Server, api: Api, rng: random.Random) -> None:
    """Writes, cuts and calms for `RUN_S` seconds."""
    fence = Fence(api)
    await api.reset(random_document(rng))
    async with trio.open_nursery() as nursery:
        clients = [
            Client(nursery, server, transport, rng.sample(FILTERS, 5), by_change)
            for transport in ("sse", "ws", "sse")
            for by_change in (True, False)
        ]
        for client in clients:
            await client.connect()
        until = time.monotonic() + RUN_S
        rounds = 0
        while time.monotonic() < until:
            rounds += 1
            for _ in range(rng.randint(1, 8)):
                await random_write(api, rng)
                client = rng.choice(clients)
                if client.watch is None:
                    await client.connect()
                elif rng.random() < 0.3:
                    await client.read_some(rng)
                    await client.cut()
            for client in clients:
                if client.watch is None:
                    await client.connect()
            await catch_up(api, fence, clients)
        assert rounds >= 5
        assert sum(client.resumes for client in clients) > 0
        for client in clients:
            await client.cut()
