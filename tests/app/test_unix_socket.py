"""A Unix socket to listen on: its file, its mode, and who may be replaced."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from triode.app.config.loading import Faults, load
from triode.app.config.settings import Settings
from triode.app.net.inherited import CannotListen
from triode.app.net.listening import open_listeners


@contextmanager
def listening(path: Path, mode: str = "660") -> Iterator[socket.socket]:
    with ExitStack() as held:
        [sock] = open_listeners(Settings(unix=path, unix_mode=mode), held)
        yield sock


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("mode", ["600", "660", "666"])
def test_the_file_has_its_mode_and_is_taken_away(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "t.sock"
    umask = os.umask(0o077)
    try:
        with listening(path, mode):
            assert f"{stat.S_IMODE(path.stat().st_mode):o}" == mode
            assert connects(path)
    finally:
        os.umask(umask)
    assert not path.exists()


def test_what_a_killed_server_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert not connects(path)
    with listening(path):
        assert connects(path)


def test_where_somebody_listens_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    with listening(path):
        with pytest.raises(CannotListen, match="something listens there"), listening(path):
            pass
        assert connects(path)


def test_one_with_a_full_backlog_listens_too(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        while True:
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(path)):
                break
        with pytest.raises(CannotListen), listening(path):
            pass
        assert path.exists()


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    path.write_text("mine")
    with pytest.raises(CannotListen, match="no socket"), listening(path):
        pass
    assert path.read_text() == "mine"


def test_the_file_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.sock"
    with listening(path):
        path.unlink()
        successor = socket.socket(socket.AF_UNIX)
        # Keeps the number of the first file from being given to the second.
        successor.bind(str(tmp_path / "another"))
        (tmp_path / "another").rename(path)
        successor.listen()
    with successor:
        assert connects(path)


@pytest.mark.parametrize(
    ("path", "said"), [("no/such/folder/t.sock", "No such file"), ("x" * 200, "path too long")]
)
def test_a_path_that_cannot_be(tmp_path: Path, path: str, said: str) -> None:
    with pytest.raises(CannotListen, match=said), listening(tmp_path / path):
        pass


def test_two_places_are_a_fault() -> None:
    with pytest.raises(Faults, match="choose one"):
        load({"unix": "/a", "fd": "3"}, {})


@pytest.mark.parametrize("mode", ["rw", "68", "999", "10660", True])
def test_a_mode_that_is_none(mode: object) -> None:
    with pytest.raises(Faults, match="must be the mode of a file, such as 660"):
        load({"unix_mode": mode}, {})


def test_a_mode_as_it_may_be_written() -> None:
    for written in ("600", "0600", "0o600", 600):
        assert load({"unix_mode": written}, {}).unix_mode == "600"
