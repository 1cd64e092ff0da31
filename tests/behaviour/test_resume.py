"""Resuming from a position, on both transports: exactly the missed changes, or an honest snapshot.

A position of this epoch that is still in the log gives `resumed: true` and what was missed; every
other position, however wrong, gives `resumed: false` and a snapshot. `Last-Event-ID` wins over
`since`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .assembler import Assembler, items_view, same
from .clients import TRANSPORTS, Api, Fence, open_api, open_ws, position, query, sequence, watch
from .conftest import ServerFactory
from .server import Server
from .sse import EventSource

pytestmark = pytest.mark.trio

DOCUMENT: dict[str, Any] = {"a": {"x": 0, "y": 0}, "b": 0, "list": [1, 2, 3], "fence": ""}


@pytest.fixture
async def start(api: Api) -> str:
    """The position from which the tests resume."""
    return await api.reset(DOCUMENT)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_exactly_the_missed_changes_follow(
    server: Server, api: Api, fence: Fence, start: str, transport: str
) -> None:
    changes = [await api.put(".a.x", 1), await api.put(".b", 1), await api.delete(".a.y")]
    changes.append(await api.put(".a.x", 2))
    async with watch(server, transport, ".a", ".fence", since=start) as one:
        assert one.connected["resumed"] is True
        [frames] = await fence.pass_through(one)
    assert [(f["type"], f["path"], f.get("value"), f["id"]) for f in frames] == [
        ("update", ".a.x", 1, changes[0]),
        ("delete", ".a.y", None, changes[2]),
        ("update", ".a.x", 2, changes[3]),
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_missed_is_nothing_sent(
    server: Server, api: Api, fence: Fence, start: str, transport: str
) -> None:
    async with watch(server, transport, ".a", ".fence", since=start) as one:
        assert one.connected["resumed"] is True
        assert await fence.pass_through(one) == [[]]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_live_changes_follow_the_missed_ones(
    server: Server, api: Api, start: str, transport: str
) -> None:
    missed = await api.put(".b", 1)
    async with watch(server, transport, ".b", since=start) as one:
        live = await api.put(".b", 2)
        frames = await one.take(2)
    assert [(f["value"], f["id"]) for f in frames] == [(1, missed), (2, live)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_last_event_id_wins_over_since(
    server: Server, api: Api, fence: Fence, start: str, transport: str
) -> None:
    first = await api.put(".b", 1)
    await api.put(".b", 2)
    headers = [("Last-Event-ID", first)]
    filters = (".b", ".fence")
    async with watch(server, transport, *filters, since=start, headers=headers) as one:
        assert one.connected["resumed"] is True
        [frames] = await fence.pass_through(one)
    assert [f["value"] for f in frames] == [2]


WRONG: dict[str, Callable[[str, int], str]] = {
    "another epoch": lambda epoch, seq: f"{epoch[::-1]}x:{seq}",
    "future": lambda epoch, seq: f"{epoch}:{seq + 1_000_000}",
    "no colon": lambda epoch, seq: f"{epoch}{seq}",
    "no epoch": lambda epoch, seq: f":{seq}",
    "no number": lambda epoch, seq: f"{epoch}:",
    "negative": lambda epoch, seq: f"{epoch}:-{seq}",
    "words": lambda epoch, seq: f"{epoch}:latest",
    "huge": lambda epoch, seq: f"{epoch}:{'9' * 400}",
    "other digits": lambda epoch, seq: f"{epoch}:\u0661\u0662",
    "exponent": lambda epoch, seq: f"{epoch}:1e1",
    "garbage": lambda epoch, seq: "\x7f%00''\"<>",
}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_wrong_position_gives_a_snapshot(
    server: Server, api: Api, start: str, transport: str
) -> None:
    epoch, _, seq = start.rpartition(":")
    for name, make in WRONG.items():
        async with watch(server, transport, ".b", since=make(epoch, int(seq))) as one:
            assert one.connected["resumed"] is False, name
            assert await one.snapshot() == [{"path": ".b", "value": 0}], name


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_unknown_last_event_id_gives_a_snapshot(
    server: Server, api: Api, start: str, transport: str
) -> None:
    for wrong in ("nosuch:5", "5", f"{start}0000000"):
        headers = [("Last-Event-ID", wrong)]
        async with watch(server, transport, ".b", headers=headers) as one:
            assert one.connected["resumed"] is False, wrong
            assert await one.snapshot() == [{"path": ".b", "value": 0}], wrong


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_position_that_left_the_log_gives_a_snapshot(
    make_server: ServerFactory, transport: str
) -> None:
    server = make_server(history_items=10, heartbeat=0.3)
    async with open_api(server) as api:
        start = await api.reset({"b": 0, "fence": ""})
        for value in range(1, 11):
            recent = await api.put(".b", value)
        latest = await api.put(".b", 11)
        async with watch(server, transport, ".b", since=start) as one:
            assert one.connected["resumed"] is False
            assert await one.snapshot() == [{"path": ".b", "value": 11}]
        async with watch(server, transport, ".b", since=recent) as one:
            assert one.connected["resumed"] is True
            frame = await one.next()
            assert (frame["value"], frame["id"]) == (11, latest)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cut_anywhere_in_a_change_of_many_frames_loses_nothing(
    server: Server, api: Api, start: str, transport: str
) -> None:
    """The id that a client holds when it is cut must not stand for frames that it has not got."""
    await api.reset({"rows": [{"v": 0} for _ in range(6)], "fence": ""})
    filter_text = ".rows[*].v"
    async with watch(server, transport, filter_text) as one:
        before = await one.next()
        await api.put(".rows", [{"v": i + 1} for i in range(6)])
        frames = await one.take(6)
    assert [f["path"] for f in frames] == [f".rows[{i}].v" for i in range(6)]
    expected = items_view(await api.select(filter_text))
    for cut in range(len(frames) + 1):
        views = Assembler()
        views.take(before)
        last_id = before["id"]
        for frame in frames[:cut]:
            views.take(frame)
            last_id = frame.get("id", last_id)
        fence = Fence(api)
        await api.put(".fence", "")
        async with watch(server, transport, filter_text, ".fence", since=last_id) as again:
            assert again.connected["resumed"] is True
            [missed] = await fence.pass_through(again)
        for frame in missed:
            if frame["filter"] == filter_text:
                views.take(frame)
        assert same(list(views.views[filter_text].values()), list(expected.values())), cut
        assert views.views[filter_text].keys() == expected.keys()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cut_in_a_change_that_two_filters_see(
    server: Server, api: Api, start: str, transport: str
) -> None:
    async with watch(server, transport, ".a", ".a.x", snapshot="none") as one:
        change = await api.put(".a.x", 5)
        first, second = await one.take(2)
    assert "id" not in first or first["id"] == start, "one of two frames must not end the change"
    assert second["id"] == change


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_cut_in_a_snapshot_of_many_frames(
    server: Server, api: Api, start: str, transport: str
) -> None:
    """A resume from the middle of a snapshot must not take the rest of it for known."""
    await api.reset({"rows": ["x" * 100 for _ in range(20_000)]})
    async with watch(server, transport, ".rows[*]") as one:
        frame = await one.next()
        if not frame["more"]:
            pytest.skip("a snapshot of 2 MB comes in one frame here")
        while frame["more"]:
            assert "id" not in frame
            frame = await one.next()
        assert "id" in frame


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_id_before_the_state_of_every_filter_is_there(
    server: Server, api: Api, start: str, transport: str
) -> None:
    """Whoever is cut between two snapshots must not resume as if it had both."""
    async with watch(server, transport, ".a", ".b", ".list") as one:
        assert "id" not in one.connected
        frames = await one.take(3)
    assert [frame["type"] for frame in frames] == ["snapshot"] * 3
    assert ["id" in frame for frame in frames] == [False, False, True]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_changes_of_every_kind_are_replayed(
    server: Server, api: Api, start: str, transport: str
) -> None:
    """What was missed, applied to what was known, is the document: also when elements moved and the
    root was replaced.
    """
    known = items_view(await api.select("."))
    await api.delete(".list[0]")
    await api.merge(".a", {"x": None, "z": {"q": 1}})
    await api.patch(".", {"op": "move", "from": "/b", "path": "/list/1"})
    await api.put(".list[3]", "end")
    middle = await api.reset({**DOCUMENT, "list": []})
    await api.put(".list[0]", 1)
    async with watch(server, transport, ".", ".list", since=start) as one:
        assert one.connected["resumed"] is True
        views = Assembler()
        views.assume(".", known)
        views.assume(".list", {("list",): DOCUMENT["list"]})
        last = await api.put(".list[1]", 2)
        frame: dict[str, Any] = {}
        ids = []
        while frame.get("id") != last:
            frame = await one.next()
            ids.append(frame.get("id"))
            views.take(frame)
    assert same(views.views["."][()], await api.get("."))
    assert same(views.views[".list"][("list",)], [1, 2])
    numbers = [sequence(text) for text in ids if text is not None]
    assert numbers == sorted(numbers)
    assert sequence(middle) in numbers


async def test_subscribe_command_resumes(
    server: Server, api: Api, fence: Fence, start: str
) -> None:
    missed = await api.put(".b", 1)
    async with open_ws(server, "/ws" + query([".fence"], snapshot="none")) as ws:
        await ws.ok("subscribe", filter=".b", since=start)
        frame = await ws.next()
        assert (frame["type"], frame["value"], frame["id"]) == ("update", 1, missed)
        await ws.ok("subscribe", filter=".a.x", since="nosuch:3")
        frame = await ws.next()
        assert (frame["type"], frame["filter"]) == ("snapshot", ".a.x")


async def test_event_source_loses_nothing_over_many_cuts(
    server: Server, api: Api, start: str, nursery: Any
) -> None:
    source = EventSource(server.port, "/events" + query([".b"]), retry_ms_at_most=10)
    await nursery.start(source.run)
    values: list[Any] = []
    snapshots = 0

    async def collect(until: int) -> None:
        nonlocal snapshots
        while not values or values[-1] != until:
            frame = (await source.next()).frame()
            snapshots += frame["type"] == "snapshot"
            if frame["type"] == "update":
                values.append(frame["value"])

    for value in range(1, 31):
        await api.put(".b", value)
        if value % 5 == 0:
            await collect(value)
        if value % 3 == 0:
            source.cut()
    await collect(30)
    assert values == list(range(1, 31))
    assert snapshots == 1, "every reconnect resumed"
    assert len(source.sent_ids) >= 5


async def test_a_room_message_does_not_spoil_the_resume(
    server: Server, api: Api, start: str, nursery: Any
) -> None:
    """A browser resumes with the last id it saw, also when a message came after the last change."""
    source = EventSource(server.port, "/events" + query([".b"], room="r-resume"))
    await nursery.start(source.run)
    assert [(await source.next()).event for _ in range(2)] == ["connected", "snapshot"]
    await api.put(".b", 1)
    assert (await source.next()).frame()["value"] == 1
    message = {"room": "r-resume", "event": "e", "data": None}
    assert (await api.request("POST", "/publish", json=message)).json() == {"reached": 1}
    assert (await source.next()).event == "message"
    source.cut()
    await api.put(".b", 2)
    connected = (await source.next()).frame()
    assert connected["type"] == "connected"
    assert connected["resumed"] is True
    frame = (await source.next()).frame()
    assert (frame["type"], frame["value"]) == ("update", 2)


async def test_the_epoch_is_the_servers(server: Server, api: Api, start: str) -> None:
    epoch = start.rpartition(":")[0]
    later = position(await api.request("POST", "/store", json=DOCUMENT))
    assert later == f"{epoch}:{sequence(start) + 1}", "SEQ counts changes"
