"""The demo's data: shapes, rates, and a loop that nothing stops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import trio
import trio.testing

from triode.app.service.demo import TOP, Meter, run
from triode.app.wire.refusal import bad_request
from triode.store.operation import Operation, Set
from triode.store.value import check


def test_a_sample_is_json_with_every_section() -> None:
    sample: Any = Meter().sample(0.0)
    check(sample)
    assert {"cpu", "load", "memory", "swap", "disks", "net", "processes"} <= set(sample)
    assert len(sample["cpu"]) == psutil.cpu_count()
    assert set(sample["cpu"][0]) == {"busy", "user", "system", "iowait"}
    assert "/" in sample["disks"]
    assert 0 < len(sample["processes"]) <= TOP
    assert set(sample["processes"][0]) == {"pid", "name", "cpu", "rss"}


def test_percentages_are_percentages() -> None:
    meter = Meter()
    for second in range(3):
        sample: Any = meter.sample(float(second))
        for cpu in sample["cpu"]:
            assert all(0 <= share <= 100 for share in cpu.values())


def test_rates_are_over_the_time_that_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Io:
        bytes_recv = 1000
        bytes_sent = 0

    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: {"eth0": Io})
    meter = Meter()
    rates = []
    for second, received in ((0, 1000), (2, 5000), (3, 10)):
        Io.bytes_recv = received
        sample: Any = meter.sample(float(second))
        rates.append(sample["net"]["eth0"]["received_bytes_s"])
    # Nothing at first sight; a counter that began anew is no negative rate.
    assert rates == [0, 2000, 0]


def test_what_cannot_be_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise PermissionError

    monkeypatch.setattr(psutil, "swap_memory", fail)
    sample = Meter().sample(0.0)
    assert "swap" not in sample
    assert "memory" in sample


def test_names_that_are_no_text_become_text(monkeypatch: pytest.MonkeyPatch) -> None:
    part = SimpleNamespace(device="/dev/x", mountpoint="/\udcff")
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [part])
    usage = psutil.disk_usage("/")
    monkeypatch.setattr(psutil, "disk_usage", lambda mount: usage)
    sample: Any = Meter().sample(0.0)
    assert set(sample["disks"]) == {"/", "/?"}


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock does not wait for threads, so what they do is done at once."""

    async def run_sync(work: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


async def test_a_section_is_one_write(
    no_threads: None, autojump_clock: trio.testing.MockClock
) -> None:
    written: list[tuple[float, Operation]] = []

    async def submit(op: Operation) -> None:
        await trio.lowlevel.checkpoint()
        written.append((trio.current_time(), op))

    with trio.move_on_after(2.5):
        await run(submit)
    operations = [op for _, op in written if isinstance(op, Set)]
    assert len(operations) == len(written)
    assert {op.path[0] for op in operations} == {"host"}
    cpu = [at for at, op in written if isinstance(op, Set) and op.path == ("host", "cpu")]
    assert cpu == pytest.approx([0, 1, 2], abs=0.01)


async def test_a_refusal_stops_nothing(
    no_threads: None,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def submit(op: Operation) -> None:
        await trio.lowlevel.checkpoint()
        raise bad_request("the root is a number")

    with trio.move_on_after(1.5):
        await run(submit)
    assert len(caplog.records) == 2


async def test_a_reading_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release = threading.Event(), threading.Event()

    def hang(meter: Meter, now_s: float) -> None:
        begun.set()
        release.wait(10)

    async def submit(op: Operation) -> None:
        raise AssertionError("nothing was read")

    monkeypatch.setattr(Meter, "sample", hang)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, submit)
            assert await trio.to_thread.run_sync(begun.wait, 10)
            nursery.cancel_scope.cancel()
    finally:
        release.set()
