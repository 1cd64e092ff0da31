"""`/log` and `/backup` of a server that runs: what was written, and a copy of all that is kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.app.web import ADMIN, Answer, Web, serving
from triode.app.log import backup as backups
from triode.app.log.log import LogRefused
from triode.app.log.reader import Reader
from triode.app.log.sqlite import SqliteLog
from triode.app.runtime.progress import Progress
from triode.app.service import log_view
from triode.app.service.checking import check
from triode.store.path import format_path


async def put(web: Web, name: str, value: Any) -> str:
    answer = await web.json("PUT", f"/store?path=.{name}", value)
    return str(answer["id"])


async def numbers(web: Web, query: str = "") -> list[int]:
    told = await web.json("GET", f"/log{query}")
    return [int(entry["id"].partition(":")[2]) for entry in told["entries"]]


async def test_what_was_written(tmp_path: Path) -> None:
    async with serving({}, data=tmp_path) as web:
        for number in range(5):
            at = await put(web, f"k{number}", number)
        assert await numbers(web) == [1, 2, 3, 4, 5]
        assert await numbers(web, "?limit=2") == [4, 5]
        epoch = at.partition(":")[0]
        told = await web.json("GET", f"/log?since={epoch}:1&limit=2")
        assert [entry["path"] for entry in told["entries"]] == [".k1", ".k2"]
        assert (told["next"], told["more"], told["position"]) == (f"{epoch}:3", True, at)
        told = await web.json("GET", f"/log?since={at}")
        assert (told["entries"], told["next"], told["more"]) == ([], at, False)
        for wrong in ("x:1", "no", f"{epoch}:6"):
            answer = await web.ask("GET", f"/log?since={wrong}")
            assert answer.status == 400
            assert "no position of this log" in answer.json()["detail"]
        await put(web, "long", ["y" * 2000] * 1000)
        [entry] = (await web.json("GET", "/log?limit=1"))["entries"]
        assert entry["bytes"] > 2_000_000
        assert "value" not in entry


async def test_a_long_batch_is_not_made_readable_to_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def counted(path: Any) -> str:
        made.append(path)
        return format_path(path)

    monkeypatch.setattr(log_view, "format_path", counted)
    async with serving({}, data=tmp_path) as web:
        ops = [{"type": "set", "path": ".a", "value": number} for number in range(1000)]
        for some in (ops, ops[:2]):
            batch = {"type": "batch", "atomic": True, "ops": some}
            await web.json("POST", "/store/batch", [batch])
        long, short = (await web.json("GET", "/log"))["entries"]
        assert long["bytes"] > 10_000
        assert "ops" not in long
        assert [op["path"] for op in short["ops"]] == [".a", ".a"]
        assert len(made) == 2


async def test_only_admins_and_only_where_there_is_one(tmp_path: Path) -> None:
    async with serving({}) as web:
        for route in ("/log", "/backup"):
            assert (await web.ask("GET", route)).status == 404
    async with serving({}, ADMIN, data=tmp_path, admin_token=ADMIN) as web:
        issued = await web.json("POST", "/tokens", {"grant": {"read": "*", "write": "*"}})
        for route in ("/log", "/backup"):
            assert (await web.with_token(None).ask("GET", route)).status == 401
            assert (await web.with_token(issued["token"]).ask("GET", route)).status == 403
            assert (await web.ask("GET", route)).status == 200


async def test_a_copy_made_while_others_write_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "PAGES", 4)
    async with serving({"n": 0}, data=tmp_path / "kept") as web:
        await put(web, "big", ["x" * 1000] * 1000)
        done = trio.Event()
        answers: list[Answer] = []
        during = 0

        async def fetch() -> None:
            answers.append(await web.ask("GET", "/backup"))
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            while not done.is_set():
                await put(web, f"k{during % 10}", during)
                during += 1
        last = web.triode.store.seq
        assert {path.name for path in (tmp_path / "kept").iterdir()} >= {"triode.db"}
        assert not (tmp_path / "kept" / "triode.copy").exists()
    [answer] = answers
    file = tmp_path / "copy.db"
    file.write_bytes(answer.body)
    assert during > 20, "nobody waits for it"
    with Reader(file) as kept:
        assert 1 < kept.opened.last <= last
        checked = await check(kept, Progress())
        assert checked.faults == []
        assert checked.store.seq == kept.opened.last
        root: Any = checked.store.document.root
        assert len(root["big"]) == 1000


async def test_one_at_a_time_and_the_room_is_given_back(tmp_path: Path) -> None:
    async with serving({}, data=tmp_path) as web:
        begun, go_on = trio.Event(), trio.Event()

        async def take(_answer: Answer) -> None:
            begun.set()
            await go_on.wait()

        async def read() -> None:
            await web.run(web.exchange("GET", "/backup", take=take))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await begun.wait()
            refused = await web.ask("GET", "/backup")
            assert refused.status == 503
            assert refused.headers["Retry-After"] == "10"
            go_on.set()
        assert (await web.ask("GET", "/backup")).status == 200
        assert (await web.ask("HEAD", "/backup")).body == b""


async def test_without_room_it_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving({}, data=tmp_path) as web:
        monkeypatch.setattr("triode.app.log.folder.Folder.free_bytes", lambda _: 1 << 20)
        refused = await web.ask("GET", "/backup")
        assert refused.status == 507
        assert "no room for a copy" in refused.json()["detail"]
        monkeypatch.undo()
        assert (await web.ask("GET", "/backup")).status == 200


async def test_a_copy_that_is_cancelled_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "PAGES", 1)
    monkeypatch.setattr("triode.app.log.sqlite.PAUSE_S", 0.02)
    kept = SqliteLog(tmp_path)
    await kept.open()
    snapshot = await kept.begin_snapshot(0)
    await kept.add_piece(snapshot, bytes(400_000))
    with trio.move_on_after(0.1) as scope:
        await kept.backup()
    assert scope.cancelled_caught
    assert not (tmp_path / "triode.copy").exists()
    await kept.add_piece(snapshot, b"it goes on")

    # The end of the server does not wait for one either.
    async def copy() -> None:
        with pytest.raises(Exception, match="the server ends"):
            await kept.backup()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(copy)
        await trio.sleep(0.05)
        with trio.fail_after(2):
            await kept.aclose()
    assert not (tmp_path / "triode.copy").exists()


def test_a_copy_of_a_closed_file_is_one_sentence(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as db:
        target = tmp_path / "there"
        target.touch()
        with pytest.raises(LogRefused, match="cannot be written: File exists"):
            backups.copy(db, target, lambda _done, _total: None)
        assert target.exists()
