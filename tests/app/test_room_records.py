"""What rooms remember is there after a restart, as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect, say
from tests.app.test_journal import SlowLog, fresh, running_on
from triode.app.delivery import rooms
from triode.app.log.log import LogFull
from triode.app.log.memory import MemoryLog
from triode.app.log.ring import HEAD_BYTES, TAG_BYTES
from triode.app.service import boot, room_records
from triode.app.service.room_records import BODY_BYTES, LEAST_BYTES, RING
from triode.app.service.shutdown import say_goodbye
from triode.app.service.triode import Triode
from triode.limits.principal import OWNER
from triode.store.records import Record


def publish(triode: Triode, *names: str, data: Any, sender: Any = None) -> None:
    triode.publish(rooms=list(names), data=data, sender=sender)


async def answers(triode: Triode, lane: FakeLane) -> list[dict[str, Any]]:
    await trio.testing.wait_all_tasks_blocked(0.01)
    return lane.messages()[1:]


async def join(triode: Triode, **members: Any) -> tuple[Any, list[Any]]:
    """What `join` answers, and the messages that it brings."""
    lane = FakeLane()
    client = connect(triode, lane)
    await say(triode, client, type="join", **members)
    ok, *messages = await answers(triode, lane)
    assert ok["type"] == "ok", ok
    return ok, [(message["room"], message["data"]) for message in messages]


async def test_join_goes_on_where_it_was() -> None:
    log = fresh()
    async with running_on(log, {}) as triode:
        lane = FakeLane()
        client = connect(triode, lane, rooms=("a", "b", "silent"))
        publish(triode, "a", "b", data=1)
        at = {name: str(triode.hub.rooms.position(room)) for name, room in client.rooms.items()}
        publish(triode, "a", data=2)
        publish(triode, "b", "a", data=3)
        publish(triode, "b", data="mine", sender=client)
        was = client.id
    async with running_on(log) as triode:
        ok, missed = await join(triode, room=["a", "b", "silent"], since=at, was=was)
        assert ok["resumed"] == {"a": True, "b": True, "silent": True}
        # What went to both rooms comes once, and what it sent itself not at all.
        assert missed == [("a", 2), ("b", 3)] or missed == [("b", 3), ("a", 2)]
        assert len(triode.store.records) == 0
        publish(triode, "a", data=4)
        ok, missed = await join(triode, room="a", since=at["a"])
        assert [data for _, data in missed] == [2, 3, 4]


async def test_of_what_a_room_forgot_nothing_is_made_up() -> None:
    log = fresh()
    async with running_on(log, {}, room_history=2) as triode:
        client = connect(triode, FakeLane(), rooms=("a",))
        before = []
        for number in range(4):
            before.append(str(triode.hub.rooms.position(client.rooms["a"])))
            publish(triode, "a", data=number)
    async with running_on(log, room_history=2) as triode:
        resumed = [(await join(triode, room="a", since=since))[0]["resumed"] for since in before]
        assert resumed == [False, False, True, True]


async def test_many_rooms_are_kept_while_all_are_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rooms, "EMPTY_ROOMS", 2)
    log = fresh()
    names = [f"r{number}" for number in range(6)]
    async with running_on(log, {}) as triode:
        for name in names:
            connect(triode, FakeLane(), rooms=(name,))
            publish(triode, name, data=1)
        await say_goodbye(triode)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(triode.hub.rooms) == 0
    async with running_on(log) as triode:
        triode.hub.rooms.sweep(trio.current_time())
        assert [name for name, _ in triode.hub.rooms.kept()] == names
        triode.hub.rooms.sweep(trio.current_time() + rooms.EMPTY_S)
        assert [name for name, _ in triode.hub.rooms.kept()] == []


async def test_a_full_log_loses_rooms_and_nothing_else() -> None:
    log = SlowLog()
    log.open_up()
    async with running_on(log, {"a": 1}) as triode:
        connect(triode, FakeLane(), rooms=("r",))
        publish(triode, "r", data=1)
        log.fails_with = LogFull("the disk is full")
    log.fails_with = None
    async with running_on(log) as triode:
        assert triode.store.document.root == {"a": 1}
        assert [*triode.hub.rooms.kept()] == []


@pytest.mark.parametrize(
    "row", [{}, {"epoch": "e", "seq": "x", "log": []}, {"epoch": "e", "seq": 1, "log": [1]},
            {"epoch": "e", "seq": 1, "log": [[1, 2, None, ["r"]]]}],
)  # fmt: skip
async def test_what_cannot_be_read_begins_anew(row: dict[str, Any]) -> None:
    log: MemoryLog = fresh()
    async with running_on(log, {}) as triode:
        assert triode.journal is not None
        await triode.journal.write(Record("room/r", row), OWNER)
    async with running_on(log) as triode:
        assert [*triode.hub.rooms.kept()] == []
        assert len(triode.store.records) == 0


class TestKilled:
    """Nothing was written at the end; what is said was put into a file before."""

    @pytest.fixture(autouse=True)
    def no_orderly_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def killed(_: Triode) -> None:
            await trio.lowlevel.cancel_shielded_checkpoint()

        monkeypatch.setattr(boot, "keep_rooms", killed)

    async def test_rooms_go_on_where_they_were(self, tmp_path: Path) -> None:
        log = fresh()
        async with running_on(log, {}, data=tmp_path) as triode:
            client = connect(triode, FakeLane(), rooms=("a", "b", "silent"))
            publish(triode, "a", "b", data=1)
            at = {name: str(triode.hub.rooms.position(room)) for name, room in client.rooms.items()}
            publish(triode, "a", data=2)
            publish(triode, "b", data="mine", sender=client)
            was = client.id
        for _ in range(2):
            async with running_on(log, data=tmp_path) as triode:
                ok, missed = await join(triode, room=["a", "b", "silent"], since=at, was=was)
                assert ok["resumed"] == {"a": True, "b": True, "silent": True}
                assert missed == [("a", 2)]
        async with running_on(log, data=tmp_path) as triode:
            publish(triode, "a", data=3)
        async with running_on(log, data=tmp_path) as triode:
            ok, missed = await join(triode, room="a", since=at["a"])
            assert [data for _, data in missed] == [2, 3]

    async def test_after_an_orderly_end_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = fresh()
        with monkeypatch.context() as orderly:
            orderly.setattr(boot, "keep_rooms", room_records.keep_rooms)
            async with running_on(log, {}, data=tmp_path) as triode:
                client = connect(triode, FakeLane(), rooms=("a",))
                at = str(triode.hub.rooms.position(client.rooms["a"]))
                publish(triode, "a", data=1)
        async with running_on(log, data=tmp_path) as triode:
            publish(triode, "a", data=2)
        async with running_on(log, data=tmp_path) as triode:
            ok, missed = await join(triode, room="a", since=at)
            assert (ok["resumed"], missed) == (True, [("a", 1), ("a", 2)])

    @pytest.mark.parametrize("left", ["an older file", "no file"])
    async def test_after_an_orderly_end_the_log_is_what_holds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
    ) -> None:
        log, ring, old = fresh(), tmp_path / RING, tmp_path / "old"
        with monkeypatch.context() as orderly:
            orderly.setattr(boot, "keep_rooms", room_records.keep_rooms)
            async with running_on(log, {}, data=tmp_path) as triode:
                client = connect(triode, FakeLane(), rooms=("a",))
                at = str(triode.hub.rooms.position(client.rooms["a"]))
                publish(triode, "a", data=1)
                old.write_bytes(ring.read_bytes())
                publish(triode, "a", data=2)
        old.replace(ring) if left == "an older file" else ring.unlink()
        for _ in range(2):
            async with running_on(log, data=tmp_path) as triode:
                ok, missed = await join(triode, room="a", since=at)
                assert (ok["resumed"], missed) == (True, [("a", 1), ("a", 2)])

    async def test_before_a_large_message_nobody_resumes(self, tmp_path: Path) -> None:
        log = fresh()
        async with running_on(log, {}, data=tmp_path) as triode:
            client = connect(triode, FakeLane(), rooms=("a",))
            before = []
            for data in (1, "x" * BODY_BYTES, 3):
                before.append(str(triode.hub.rooms.position(client.rooms["a"])))
                publish(triode, "a", data=data)
        async with running_on(log, data=tmp_path) as triode:
            told = [await join(triode, room="a", since=since) for since in before]
            assert [ok["resumed"] for ok, _ in told] == [False, False, True]
            assert told[2][1] == [("a", 3)]

    async def test_what_another_run_of_the_machine_left_is_not_believed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = fresh()
        async with running_on(log, {}, data=tmp_path) as triode:
            client = connect(triode, FakeLane(), rooms=("a",))
            publish(triode, "a", data=1)
            since = str(triode.hub.rooms.position(client.rooms["a"]))
        other = tmp_path / "boot_id"
        other.write_text("another")
        monkeypatch.setattr(room_records, "_BOOT_ID", other)
        async with running_on(log, data=tmp_path) as triode:
            ok, _ = await join(triode, room="a", since=since)
            assert ok["resumed"] is False

    async def test_what_a_full_log_could_not_let_go_is_not_taken_for_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = SlowLog()
        log.open_up()
        with monkeypatch.context() as orderly:
            orderly.setattr(boot, "keep_rooms", room_records.keep_rooms)
            async with running_on(log, {}, data=tmp_path) as triode:
                client = connect(triode, FakeLane(), rooms=("a", "b"))
                at = str(triode.hub.rooms.position(client.rooms["a"]))
                publish(triode, "a", data=1)
        log.fails_with = LogFull("the disk is full")
        async with running_on(log, data=tmp_path) as triode:
            publish(triode, "a", data=2)
        log.fails_with = None
        async with running_on(log, data=tmp_path) as triode:
            ok, missed = await join(triode, room="a", since=at)
            assert (ok["resumed"], missed) == (True, [("a", 1), ("a", 2)])

    async def test_what_stayed_in_the_log_goes_with_the_next_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = SlowLog()
        log.open_up()
        monkeypatch.setattr(boot, "keep_rooms", room_records.keep_rooms)
        async with running_on(log, {}, data=tmp_path) as triode:
            connect(triode, FakeLane(), rooms=("a",))
        log.fails_with = LogFull("the disk is full")
        async with running_on(log, data=tmp_path) as triode:
            log.fails_with = None
            triode.hub.rooms.sweep(trio.current_time() + 2 * rooms.EMPTY_S)
        async with running_on(log) as triode:
            assert [*triode.hub.rooms.kept()] == []

    @pytest.mark.parametrize("size", [2 * LEAST_BYTES, 4 * LEAST_BYTES])
    async def test_rooms_go_on_with_a_file_of_another_size(self, tmp_path: Path, size: int) -> None:
        log = fresh()
        async with running_on(log, {}, data=tmp_path, room_history_bytes=3 * LEAST_BYTES) as triode:
            client = connect(triode, FakeLane(), rooms=("a",))
            at = str(triode.hub.rooms.position(client.rooms["a"]))
            publish(triode, "a", data=1)
        for _ in range(2):
            async with running_on(log, data=tmp_path, room_history_bytes=size) as triode:
                ok, missed = await join(triode, room="a", since=at)
                assert (ok["resumed"], missed) == (True, [("a", 1)])
        assert (tmp_path / RING).stat().st_size == HEAD_BYTES + size

    async def test_a_file_that_is_cut_short_while_in_use_is_given_up(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It killed the process (SIGBUS). What it lacks nobody may resume from."""
        log = fresh()
        async with running_on(log, {}, data=tmp_path) as triode:
            client = connect(triode, FakeLane(), rooms=("a",))
            publish(triode, "a", data=1)
            at = str(triode.hub.rooms.position(client.rooms["a"]))
            os.truncate(tmp_path / RING, HEAD_BYTES)
            publish(triode, "a", data=2)
            publish(triode, "a", data=3)
            ok, missed = await join(triode, room="a", since=at)
            assert (ok["resumed"], missed) == (True, [("a", 2), ("a", 3)])
        assert "triode.rooms was made shorter or longer while in use" in caplog.text
        async with running_on(log, data=tmp_path) as triode:
            ok, _ = await join(triode, room="a", since=at)
            assert ok["resumed"] is False

    @pytest.mark.parametrize("at", [HEAD_BYTES + 4, TAG_BYTES + 14])
    async def test_a_damaged_file_is_none(self, tmp_path: Path, at: int) -> None:
        log = fresh()
        async with running_on(log, {}, data=tmp_path) as triode:
            connect(triode, FakeLane(), rooms=("a",))
        with (tmp_path / RING).open("r+b") as file:
            file.seek(at)
            file.write(b"\xc1\xc1")
        for names in ([], ["b"]):
            async with running_on(log, data=tmp_path) as triode:
                assert [name for name, _ in triode.hub.rooms.kept()] == names
                connect(triode, FakeLane(), rooms=("b",))
