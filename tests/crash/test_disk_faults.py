"""A running server whose disk fails, or is full: what was answered stays, and reading goes on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.behaviour.server import ROOT

PATIENCE_S = 60.0
MOST_WRITES = 200
STRACE = shutil.which("strace")


class Serve:
    """`triode serve` on a folder; `before` is put before its command line."""

    def __init__(
        self, data: Path, *before: str, in_child: Callable[[], None] | None = None
    ) -> None:
        command = [*before, sys.executable, "-m", "triode", "serve", "--port", "0", "--json"]
        options = ["--data", str(data), "--http-rate", "0"]
        self._errors = (data.parent / "errors").open("w+")
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=data.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=in_child,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        url = json.loads(line)["listening"][0] if line else ""
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_S)

    def said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def put(self, path: str, value: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return self.http.put(
            "/store", params={"path": path}, content=json.dumps(value), headers=headers
        )

    def get(self, path: str) -> Any:
        return self.http.get("/store", params={"path": path}).json()

    def put_until(self, status: int, value: Callable[[int], Any]) -> list[Any]:
        """Write until this is the answer, which is the last of those that come back; before it
        the values that were answered.
        """
        done: list[Any] = []
        for number in range(MOST_WRITES):
            answer = self.put(f".k{number}", value(number))
            if answer.status_code == status:
                return [*done, answer]
            assert answer.status_code == 200, answer.text
            done.append(value(number))
        raise AssertionError(f"{MOST_WRITES} writes, and none was answered {status}")

    def end(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            # With strace before it, it is the child of that.
            one = psutil.Process(self.process.pid)
            (one.children() or [one])[0].terminate()
        self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()


@contextmanager
def serve(data: Path, *before: str, **options: Any) -> Iterator[Serve]:
    one = Serve(data, *before, **options)
    try:
        yield one
    finally:
        one.end()


def injected(fault: str) -> list[str]:
    """A command before a command: strace, with a fault. Skips where that is not allowed."""
    if STRACE is None:
        pytest.skip("strace is not installed")
    call = fault.partition(":")[0]
    command = [STRACE, "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e"]
    tried = subprocess.run([*command, f"inject={fault}", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode()[:100]}")
    return [*command, f"inject={fault}"]


def ends_with_one_sentence(one: Serve) -> None:
    """With the status that tells a supervisor."""
    assert one.process.wait(PATIENCE_S) == 70
    last = one.said().splitlines()[-1]
    assert last.startswith("triode: --data: ")
    assert "start Triode again" in last


def is_there_again(data: Path, done: list[Any]) -> None:
    """Another process finds all that was answered."""
    with serve(data) as one:
        root = one.get(".")
        for number, value in enumerate(done):
            assert root[f"k{number}"] == value
        assert one.put(".after", 1).status_code == 200


def test_a_sync_that_fails_ends_the_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve(data, *injected("fdatasync:error=EIO:when=25")) as one:
        *done, answer = one.put_until(503, lambda number: number)
        assert answer.json()["title"] == "Outcome unknown"
        ends_with_one_sentence(one)
    # Written back it would be from pages that the system may have dropped.
    assert (data / "triode.db-wal").stat().st_size
    is_there_again(data, done)


def test_a_write_that_fails_ends_the_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    most = 3 << 20

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    with serve(data, in_child=bounded) as one:
        *done, answer = one.put_until(503, lambda number: f"{number}" * 20_000)
        assert answer.json()["title"] == "Outcome unknown"
        ends_with_one_sentence(one)
    assert done
    is_there_again(data, done)


def test_a_write_without_room_is_refused_and_reading_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serve(data, *injected("pwrite64:error=ENOSPC:when=80+")) as one:
        *done, answer = one.put_until(507, lambda number: number)
        assert answer.json()["title"] == "Log full"
        assert one.put(".more", 1).status_code == 507
        assert one.get(".") == {f"k{number}": value for number, value in enumerate(done)}
    is_there_again(data, done)


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of that size. Skips where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    tried = subprocess.run(mount, capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_that_has_room_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 120) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(60 << 20))
        with serve(disk / "data") as one:
            *done, _ = one.put_until(507, lambda number: f"{number % 10}" * 1_000_000)
            assert one.get(".k0") == done[0]
            assert one.get(".k1") == done[1]
            filler.unlink()
            answer = one.put(".after", 0)
            assert answer.status_code == 200, answer.text
        is_there_again(disk / "data", done)
