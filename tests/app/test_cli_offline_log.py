"""The commands that read a log without a server, and backups."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from triode.app.cli import main
from triode.app.config.settings import Settings
from triode.app.log import tables
from triode.app.log.folder import Folder
from triode.app.service import running
from triode.app.service.saving import save
from triode.app.service.triode import Triode
from triode.limits.grant import Grant
from triode.limits.principal import Principal
from triode.store.change import Position
from triode.store.operation import Append, Batch, Delete, Increment, Operation, Set

OWN = Principal(key="me", name="", grant=Grant(read=("*",), write=("*",)), source="token")
SHOP = Principal(
    key="shop", name="shop", grant=Grant(read=(".",), write=(".shop",)), source="token"
)
LONG = "x" * 5000


def written(folder: Path, *steps: Operation | None) -> Any:
    """Carry out writes where a log is kept, None being a snapshot; the document."""

    async def work() -> Any:
        triode = Triode(Settings(data=folder))
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(running.run, triode))
            for step in steps:
                if step is None:
                    await save(triode)
                else:
                    await triode.write(step, SHOP if step.path[:1] == ("shop",) else OWN)
            nursery.cancel_scope.cancel()
        return triode.store.document.root

    return trio.run(work)


def triode(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "kept"
    written(
        path,
        Set(("a",), 1),
        Set(("shop",), {"n": 1}),
        None,
        Append(("list",), [True]),
        Set(("long",), LONG),
        None,
        Batch((Set(("b",), 2), Delete(("a",)))),
    )
    return path


DOCUMENT = {"shop": {"n": 1}, "list": [[True]], "long": LONG, "b": 2}


@pytest.fixture
def change(folder: Path) -> Callable[[str], None]:
    """Do something to the file that no Triode does, with checksums that fit."""

    def do(statement: str) -> None:
        with sqlite3.connect(folder / "triode.db") as db:
            db.execute(statement)
            for row in db.execute("SELECT last, first, data FROM batch").fetchall():
                db.execute("REPLACE INTO batch VALUES(?, ?, ?, ?)", tables.summed(*row))
            for row in db.execute("SELECT snapshot, number, data FROM piece").fetchall():
                db.execute("REPLACE INTO piece VALUES(?, ?, ?, ?)", tables.summed(*row))
        db.close()

    return do


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_sound_log(folder: Path) -> None:
    before = names(folder)
    done = triode("check", "--data", folder)
    assert done.exit_code == 0, done.stderr
    assert "sound" in done.stdout
    assert "after write 4, after write 2" in done.stdout, "not how many"
    assert ":5, written 20" in done.stdout
    told = json.loads(triode("check", "--data", folder, "--json").stdout)
    assert told["ok"] is True
    assert told["snapshots"] == [4, 2]
    assert names(folder) == before, "nothing is left behind"


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "UPDATE piece SET data=CAST(replace(data, '1', '2') AS BLOB) "
            "WHERE snapshot=2 AND number=1",
            "snapshot 3, at 4: the document is not what the log comes to",
        ),
        ("UPDATE piece SET data=X'7B' WHERE snapshot=3 AND number=1", "snapshot 3 is damaged"),
        ("DELETE FROM piece WHERE snapshot=3 AND number=0", "piece 0 of snapshot 3 is missing"),
        ("DELETE FROM batch WHERE last=5", "the entries 5 to 6 are not in the log"),
        ("UPDATE batch SET data=X'310A7B' WHERE last=4", "entries 4 to 4: a damaged batch"),
        ("UPDATE batch SET data=X'390A7B' WHERE last=4", "a batch of version '9'"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, change: Callable[[str], None], statement: str, fault: str
) -> None:
    if "last=5" in statement:
        change("UPDATE batch SET last=6, first=6 WHERE last=5")
        change("INSERT INTO batch SELECT 7, 7, data, sum FROM batch WHERE last=6")
        change("DELETE FROM batch WHERE last=6")
    change(statement)
    done = triode("check", "--data", folder)
    assert done.exit_code == 1
    assert "damaged" in done.stdout
    assert fault in done.stderr


def test_a_checksum_that_does_not_fit(folder: Path) -> None:
    with sqlite3.connect(folder / "triode.db") as db:
        db.execute("UPDATE batch SET data=replace(data, '1', '2') WHERE last=5")
    db.close()
    done = triode("check", "--data", folder)
    assert done.exit_code == 1
    assert "batch 5 is damaged: its checksum does not fit" in done.stderr


def test_a_file_with_a_hole_in_it(folder: Path) -> None:
    file = folder / "triode.db"
    content = bytearray(file.read_bytes())
    content[8192:8400] = bytes(208)
    file.write_bytes(content)
    done = triode("check", "--data", folder)
    assert done.exit_code in (1, 3)
    assert "triode: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "dump", "log", "backup"])
def test_a_folder_that_a_server_has_is_left_alone(folder: Path, command: str) -> None:
    taken = Folder(folder)
    try:
        file = [folder.parent / "new.db"] if command == "backup" else []
        done = triode(command, *file, "--data", folder)
        assert done.exit_code == 3
        assert "in use by another Triode" in done.stderr
        assert "triode backup FILE" in done.stderr
    finally:
        taken.close()


@pytest.mark.parametrize("command", ["check", "dump", "log"])
def test_where_there_is_none(tmp_path: Path, command: str) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        done = triode(command, "--data", path)
        assert done.exit_code == 3
        assert "holds no log" in done.stderr
    (tmp_path / "text").write_text("no database at all, but long enough to be read" * 20)
    done = triode(command, "--data", tmp_path / "text")
    assert done.exit_code == 3
    assert "text is not a log of Triode: it is no SQLite database" in done.stderr
    with closing(sqlite3.connect(tmp_path / "other")) as db:
        db.execute("CREATE TABLE other(a)")
        db.commit()
    done = triode(command, "--data", tmp_path / "other")
    assert done.exit_code == 3
    assert "other is a database of another program, not a log of Triode" in done.stderr
    assert not (tmp_path / "nowhere").exists()


def test_the_document_of_now_and_of_then(folder: Path) -> None:
    assert json.loads(triode("dump", "--data", folder).stdout) == DOCUMENT
    then = json.loads(triode("dump", "--data", folder, "--at", 3).stdout)
    assert then == {"a": 1, "shop": {"n": 1}, "list": [[True]]}
    for at in (1, 6):
        done = triode("dump", "--data", folder, "--at", at)
        assert done.exit_code == 3
        assert f"the write {at} is out of reach: there are those from 2 to 5" in done.stderr


def test_what_was_written_by_whom(folder: Path) -> None:
    lines = triode("log", "--data", folder, "--json").stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert [one["id"].partition(":")[2] for one in told] == ["3", "4", "5"]
    assert told[0]["op"] == "append"
    assert told[0]["value"] == [True]
    assert told[1] | {"id": "", "time": 0} == {
        "id": "", "time": 0, "who": "", "op": "set", "path": ".long", "bytes": told[1]["bytes"]
    }  # fmt: skip
    assert told[2]["ops"] == [
        {"op": "set", "path": ".b", "value": 2},
        {"op": "delete", "path": ".a"},
    ]
    last = triode("log", "--data", folder, "-n", 1).stdout
    assert "batch" in last
    assert len(last.splitlines()) == 1


def test_rights_are_in_no_line(tmp_path: Path) -> None:
    written(tmp_path / "kept", Set(("shop",), 1), Increment(("shop",), 3))
    text = triode("log", "--data", tmp_path / "kept", "--json").stdout
    assert '"who":"shop"' in text
    assert "grant" not in text
    last = json.loads(text.splitlines()[-1])
    assert (last["who"], last["op"], last["by"]) == ("shop", "increment", 3)


def test_a_backup_is_all_of_it_and_begins_a_new_epoch(folder: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "one.db", tmp_path / "new"
    before = names(folder)
    done = triode("backup", file, "--data", folder)
    assert done.exit_code == 0, done.stderr
    assert names(folder) == before
    assert names(tmp_path) == {"kept", "one.db"}, "one file"
    assert file.stat().st_mode & 0o077 == 0, "for nobody else"
    position = done.stdout.split()[-1]
    assert triode("check", "--data", file).exit_code == 0
    again = triode("backup", file, "--data", folder)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert triode("backup", file, "--data", folder, "--force").exit_code == 0
    assert triode("restore", file, "--data", new).exit_code == 0
    assert json.loads(triode("dump", "--data", new).stdout) == DOCUMENT
    assert written(new, Set(("c",), 3)) == DOCUMENT | {"c": 3}
    told = json.loads(triode("check", "--data", new, "--json").stdout)
    epoch, _, seq = position.partition(":")
    assert told["position"].partition(":")[0] != epoch
    assert told["position"].partition(":")[2] == str(int(seq) + 1)


def test_a_restored_log_knows_the_positions_of_before(folder: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "one.db", tmp_path / "new"
    position = triode("backup", file, "--data", folder).stdout.split()[-1]
    assert triode("restore", file, "--data", new).exit_code == 0
    epoch = position.partition(":")[0]

    async def look() -> list[int | None]:
        served = Triode(Settings(data=new))
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(running.run, served))
            nursery.cancel_scope.cancel()
        return [served.store.seq_of(Position(epoch, seq)) for seq in (5, 6)]

    assert trio.run(look) == [5, None]


def test_a_log_is_not_overwritten(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.db"
    triode("backup", file, "--data", folder)
    done = triode("restore", file, "--data", folder)
    assert done.exit_code == 3
    assert "holds a log already; move it away" in done.stderr


def test_a_damaged_backup_is_not_restored(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.db"
    triode("backup", file, "--data", folder)
    with file.open("r+b") as broken:
        broken.seek(4096)
        broken.write(b"\xff" * 4096)
    done = triode("restore", file, "--data", tmp_path / "new")
    assert done.exit_code in (1, 3)
    assert not (tmp_path / "new" / "triode.db").exists()
