"""The ring: the last that was put into it is there after a kill, and nothing else."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from triode.app.log.ring import HEAD_BYTES, RECORD_HEAD_BYTES, Ring, RingDamaged


def test_it_holds_the_newest_whatever_their_sizes(tmp_path: Path) -> None:
    rng = random.Random(3)
    ring = Ring(tmp_path / "ring", 1000, b"tag")
    expected: deque[bytes] = deque()
    for _ in range(3000):
        record = rng.randbytes(rng.choice((0, 1, 7, 100, 400, 992)))
        ring.put(record)
        expected.append(record)
        while sum(RECORD_HEAD_BYTES + len(each) for each in expected) > 1000:
            expected.popleft()
        if rng.random() < 0.1:
            # Nobody closed it: as after a kill.
            ring = Ring(tmp_path / "ring", 1000, b"tag")
        assert list(ring.records()) == list(expected)


def test_what_does_not_fit_leaves_nothing_that_is_older(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", 100, b"tag")
    ring.put(b"before")
    ring.put(bytes(97))
    assert list(ring.records()) == []
    ring.put(b"after")
    assert list(ring.records()) == [b"after"]


@pytest.mark.parametrize(("size", "tag"), [(100, b"other"), (200, b"tag"), (50, b"tag")])
def test_what_is_of_something_else_is_thrown_away(tmp_path: Path, size: int, tag: bytes) -> None:
    ring = Ring(tmp_path / "ring", 100, b"tag")
    ring.put(b"one")
    ring.close()
    assert not list(Ring(tmp_path / "ring", size, tag).records())
    assert (tmp_path / "ring").stat().st_size == HEAD_BYTES + size


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path, bit: int) -> None:
    """In a record it gave a message that nobody had sent."""
    path = tmp_path / "ring"
    ring = Ring(path, 60, b"tag")
    for number in range(10):
        ring.put(b"%d" % number * 5)
    ring.close()
    whole = path.read_bytes()
    ring = Ring(path, 60, b"tag")
    records = list(ring.records())
    unused = 60 - sum(RECORD_HEAD_BYTES + len(each) for each in records)
    ring.close()
    unnoticed = 0
    for at in range(HEAD_BYTES, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        ring = Ring(path, 60, b"tag")
        try:
            assert list(ring.records()) == records
            unnoticed += 1
        except RingDamaged:
            # It goes on all the same.
            ring.clear()
            ring.put(b"after")
            assert list(ring.records()) == [b"after"]
        ring.close()
    assert unnoticed == unused


def test_a_head_that_lies_is_noticed(tmp_path: Path) -> None:
    """All of a ring that was never written to would be millions of empty records."""
    path = tmp_path / "ring"
    Ring(path, 1000, b"tag").close()
    with path.open("r+b") as file:
        file.seek(HEAD_BYTES - 8)
        file.write((1000).to_bytes(8, "little"))
    with pytest.raises(RingDamaged):
        list(Ring(path, 1000, b"tag").records())


WRITER = """
import sys
from pathlib import Path
from triode.app.log.ring import Ring
ring = Ring(Path(sys.argv[1]), 1000, b"tag")
for number in range(1_000_000):
    ring.put(b"%d" % number)
    print(f"{number:7}", end="", flush=True)
"""


def test_a_process_that_is_killed_leaves_what_it_had_put_in(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "ring")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.read(7 * 500)
        writer.kill()
        rest = writer.stdout.read()
    said = int(rest[len(rest) // 7 * 7 - 7 :][:7]) if len(rest) >= 7 else 499
    numbers = list(map(int, Ring(tmp_path / "ring", 1000, b"tag").records()))
    assert numbers[-1] in (said, said + 1)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_without_room_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="full"):
        Ring(tmp_path / "ring", 1000, b"tag")
    assert not (tmp_path / "ring").exists()


def test_on_a_small_disk_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too full"):
        Ring(tmp_path / "ring", shutil.disk_usage(tmp_path).free // 3, b"tag")
    assert not (tmp_path / "ring").exists()
