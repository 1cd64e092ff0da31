"""The demo's data: this machine's own counters, written to `.host` every second.

    .host.cpu[n]       busy, user, system, iowait               percent of the last second
    .host.load         m1, m5, m15
    .host.memory       total, used, available (bytes), percent
    .host.swap         total, used, percent
    .host.disks["/"]   device, total, used, percent, read_bytes_s, write_bytes_s
    .host.net.NAME     received_bytes, sent_bytes, received_bytes_s, sent_bytes_s
    .host.processes[]  the ten busiest: pid, name, cpu (percent of one processor), rss (bytes)

Each section is one write a second, so that a filter on one hears of that one only. psutil blocks (a
mount whose server has gone does so for minutes), hence the thread, with a limiter of its own: the
demo must not use up the threads of others.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import psutil
import trio

from triode.app.wire.refusal import Refusal
from triode.store.operation import Operation, Set, WriteError

log = logging.getLogger("triode.demo")

TOP: Final = 10
Section = dict[str, Any] | list[Any]
Sample = dict[str, Section]
Counts = dict[str, tuple[int, ...]]


class Meter:
    """Reads the machine. Rates and percentages are about the time since the reading before."""

    def __init__(self) -> None:
        self._cpu: list[dict[str, float]] = []
        self._net: Counts = {}
        self._io: Counts = {}
        self._then_s = 0.0

    def sample(self, now_s: float) -> Sample:
        """All sections that can be read here; blocks. `now_s` is seconds of any one clock.

        What a system does not tell, or not to us, is left out.
        """
        elapsed_s = now_s - self._then_s
        self._then_s = now_s
        readers: dict[str, Callable[[], Section]] = {
            "cpu": self._read_cpu,
            "load": lambda: _rounded(zip(("m1", "m5", "m15"), psutil.getloadavg(), strict=True)),
            "memory": _memory,
            "swap": _swap,
            "disks": lambda: self._read_disks(elapsed_s),
            "net": lambda: self._read_net(elapsed_s),
            "processes": _processes,
        }
        found: Sample = {}
        for name, read in readers.items():
            try:
                found[name] = read()
            except (OSError, RuntimeError, AttributeError, psutil.Error) as exc:
                log.debug("no %s: %r", name, exc)
        return found

    def _read_cpu(self) -> Section:
        now = [times._asdict() for times in psutil.cpu_times(percpu=True)]
        # A machine that gained or lost a processor begins anew.
        same = len(self._cpu) == len(now)
        before = self._cpu if same else [dict.fromkeys(times, 0.0) for times in now]
        self._cpu = now
        return [_shares(old, new) for old, new in zip(before, now, strict=True)]

    def _read_net(self, elapsed_s: float) -> Section:
        now: Counts = {
            name: (io.bytes_recv, io.bytes_sent)
            for name, io in psutil.net_io_counters(pernic=True).items()
        }
        before, self._net = self._net, now
        return {
            name: {"received_bytes": count[0], "sent_bytes": count[1]}
            | _rates(("received_bytes_s", "sent_bytes_s"), before.get(name), count, elapsed_s)
            for name, count in now.items()
        }

    def _read_disks(self, elapsed_s: float) -> Section:
        counters = psutil.disk_io_counters(perdisk=True) or {}
        now: Counts = {name: (io.read_bytes, io.write_bytes) for name, io in counters.items()}
        before, self._io = self._io, now
        disks: dict[str, Any] = {}
        for mount, device in _mounts().items():
            try:
                usage = psutil.disk_usage(mount)
            except OSError:
                continue
            disk, mount = device.rpartition("/")[2], _text(mount)
            space = {"total": usage.total, "used": usage.used, "percent": usage.percent}
            count = now.get(disk)
            names = ("read_bytes_s", "write_bytes_s")
            io = _rates(names, before.get(disk), count, elapsed_s) if count else {}
            disks[mount] = {"device": device} | space | io
        return disks


async def run(submit: Callable[[Operation], Awaitable[Any]], *, interval_s: float = 1.0) -> None:
    """Write a sample every `interval_s`, forever; `submit` applies one operation.

    Somebody may have put something else at `.host` or above: what the document refuses is logged
    and tried again next time. Cancellation does not wait for a reading that hangs.
    """
    meter = Meter()
    limiter = trio.CapacityLimiter(1)
    due_s = trio.current_time()
    while True:
        sample = await trio.to_thread.run_sync(
            meter.sample, trio.current_time(), abandon_on_cancel=True, limiter=limiter
        )
        try:
            for name, section in sample.items():
                await submit(Set(path=("host", name), value=section, create=True))
        except (Refusal, WriteError) as exc:
            log.warning("cannot write .host: %s", exc)
        # From the plan, not from now, or a second would be a bit longer each time; but a machine
        # that slept does not catch up.
        due_s = max(due_s + interval_s, trio.current_time())
        await trio.sleep_until(due_s)


def _shares(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    # guest time is part of user time already.
    spent = {k: max(0.0, new[k] - old[k]) for k in new if not k.startswith("guest")}
    total = sum(spent.values()) or 1.0

    def share(*names: str) -> float:
        return round(100 * sum(spent.get(name, 0.0) for name in names) / total, 1)

    idle = share("idle", "iowait")
    return {
        "busy": round(100 - idle, 1) if any(spent.values()) else 0.0,
        "user": share("user", "nice"),
        "system": share("system", "irq", "softirq"),
        "iowait": share("iowait"),
    }


def _rates(
    names: tuple[str, ...], old: tuple[int, ...] | None, new: tuple[int, ...], elapsed_s: float
) -> dict[str, float]:
    """Bytes a second; 0 at first sight, and when a counter began anew."""
    if old is None or elapsed_s <= 0:
        return dict.fromkeys(names, 0)
    return {
        name: round(max(0, after - before) / elapsed_s)
        for name, before, after in zip(names, old, new, strict=True)
    }


def _mounts() -> dict[str, str]:
    """Mount point → device. In a container the root is on no device, and still of interest."""
    mounts = {part.mountpoint: part.device for part in psutil.disk_partitions(all=False)}
    return {"/": ""} | mounts


def _memory() -> Section:
    memory = psutil.virtual_memory()
    return {
        "total": memory.total,
        "used": memory.used,
        "available": memory.available,
        "percent": memory.percent,
    }


def _swap() -> Section:
    swap = psutil.swap_memory()
    return {"total": swap.total, "used": swap.used, "percent": swap.percent}


def _processes() -> Section:
    rows = []
    for process in psutil.process_iter(["pid", "name", "cpu_percent", "memory_info"]):
        info = process.info
        memory = info["memory_info"]
        rows.append(
            {
                "pid": info["pid"],
                "name": _text(info["name"] or "?"),
                "cpu": info["cpu_percent"] or 0.0,
                "rss": memory.rss if memory else 0,
            }
        )
    rows.sort(key=lambda row: (-row["cpu"], -row["rss"], row["pid"]))
    return rows[:TOP]


def _text(name: str) -> str:
    """Processes and mounts may be called anything, also bytes that are no text."""
    return name.encode(errors="replace").decode()


def _rounded(pairs: Any) -> dict[str, float]:
    return {name: round(number, 2) for name, number in pairs}
