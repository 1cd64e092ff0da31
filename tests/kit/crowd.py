"""The crowd: a thousand clients over both transports, some frozen, some at 2 KB/s, for a minute.

    python -m tests.kit.crowd [--clients N] [--frozen N] [--slow N] [--rate N] [--seconds S]
                              [--json] [-- FLAGS OF THE SERVER]

It starts a server with default settings on one core, is all its clients on another, and checks
what each of them got. Exit status 1 when a promise was not kept.

Python cannot parse 400 000 events a second, and need not (`reference`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import click
import httpx
import psutil
from rich.console import Console

from tests.behaviour.websocket import RawWs, upgrade

from .crowd_result import Result, show
from .reference import Broken, Reader, Reference

ROOT: Final = Path(__file__).resolve().parents[2]
TICK_S: Final = 0.02
SLOW_TICK_S: Final = 0.1
LOOK_S: Final = 0.5
READ_BYTES: Final = 256 * 1024
START_S: Final = 30.0


@dataclass
class Client:
    """A connection, and what it is for: `healthy`, `slow` or `frozen`."""

    role: str
    transport: str
    sock: socket.socket
    reader: Reader
    id: str = ""
    fault: str = ""
    is_reference: bool = False
    is_over: bool = False
    opened: bool = False
    full_at: float = 0.0  # when the server was first seen to drop something for it
    gone_at: float = 0.0
    pongs: int = 0
    head: bytearray = field(default_factory=bytearray)

    def read(self, max_bytes: int = READ_BYTES) -> int:
        """Read what is there; says how much. Never waits."""
        try:
            data = self.sock.recv(max_bytes)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self.is_over = True
            return 0
        if not self.opened:
            data = self._open(data)
        if data and not self.fault:
            try:
                if self.is_reference:
                    self.reader.reference.feed(data)
                    self.reader.at = len(self.reader.reference.data)
                else:
                    self.reader.feed(data)
            except Broken as fault:
                self.fault = str(fault)
            self._pong()
        return len(data)

    def _pong(self) -> None:
        """Answer pings, as every WebSocket does."""
        if self.transport == "sse":
            return
        reader = self.reader
        due = reader.reference.heartbeats if self.is_reference else reader.heartbeats
        while self.pongs < due:
            self.pongs += 1
            with contextlib.suppress(OSError):
                self.sock.send(RawWs.frame(0xA, b""))

    def _open(self, data: bytes) -> bytes:
        """The head, `connected` and the first snapshot, which are each client's own."""
        self.head += data
        events = self.head.find(b"\r\n\r\n") + 4
        if events < 4:
            return b""
        if b" 200 " not in self.head[:20] and b" 101 " not in self.head[:20]:
            raise SystemExit(f"refused: {bytes(self.head[:300])!r}")
        rest = bytearray(self.head[events:])
        for event in self.reader.reference.split(rest):
            if found := re.search(rb'"client":"([^"]+)"', event):
                self.id = found[1].decode()
            if b"snapshot" in event[:40]:
                self.opened = True
                break
        if not self.opened:
            return b""
        return bytes(rest)

    def is_reset(self) -> bool:
        """Whether the server has dropped it; the system knows, without reading."""
        return self.is_over or self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1


class Crowd:
    """Server, publisher and clients of one run; one thread, one epoll."""

    def __init__(
        self,
        roles: dict[str, int],
        rate: float,
        size: int,
        seconds: float,
        slow_bytes_s: int,
        flags: list[str],
        say: Callable[[str], None],
    ) -> None:
        self.roles, self.rate, self.size, self.seconds = roles, rate, size, seconds
        self.slow_bytes_s = slow_bytes_s
        self.flags = flags
        self.say = say
        self.result = Result(roles)
        self.clients: list[Client] = []
        self.references = {kind: Reference(kind) for kind in ("sse", "ws")}
        self.published = 0
        self._epoll = select.epoll()
        self._by_fd: dict[int, Client] = {}
        self._publisher: socket.socket | None = None
        self._out = bytearray()
        self._answers = bytearray()
        self._refused = ""

    # ── the whole ───────────────────────────────────────────────────────────────────────────────

    def run(self) -> Result:
        """All of it. The server is stopped whatever happens."""
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1]})
        self.port = _free_port()
        command = [sys.executable, "-m", "triode", "serve", "--port", str(self.port)]
        command += ["--data", "memory", *self.flags]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=None,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores[0]}),
        )
        self.server = psutil.Process(self.process.pid)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        try:
            self._wait_ready()
            self.settings = self.http.get("/stats").json()
            self._connect_all()
            self._load()
            self._catch_up()
            self._judge()
            self._terminate()
        finally:
            self.process.kill()
            self.process.wait()
            self.http.close()
            for client in self.clients:
                client.sock.close()
        return self.result

    def _wait_ready(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise SystemExit("the server did not start")

    # ── connecting ──────────────────────────────────────────────────────────────────────────────

    def _connect_all(self) -> None:
        self.say(f"connecting {sum(self.roles.values())}")
        self._publisher = self._socket(0)
        self._publisher.sendall(upgrade("/ws?snapshot=none"))
        self._publisher.setblocking(False)
        self._publish([f'"{"":8}"'])  # so that there is something to see
        until = time.monotonic() + START_S
        while b'"positions"' not in self._answers:
            if time.monotonic() > until:
                raise SystemExit("the server does not answer")
            self._flush()
            time.sleep(0.01)
        for role in ("healthy", "slow", "frozen"):
            for _ in range(self.roles[role]):
                self._connect(role)
        until = time.monotonic() + START_S
        while not all(client.opened for client in self.clients):
            self._poll(0.05)
            for client in self.clients:
                if client.role != "healthy" and not client.opened:
                    client.read(4096)
            if time.monotonic() > until:
                raise SystemExit("not all clients could connect")

    def _connect(self, role: str) -> None:
        number = len(self.clients)
        transport = ("sse", "ws")[number % 2]
        sock = self._socket(number + 1, small=role != "healthy")
        if transport == "ws":
            sock.sendall(upgrade("/ws?filter=.crowd"))
        else:
            # Without chunks: all readers are to get the same bytes, however they were flushed.
            sock.sendall(b"GET /events?filter=.crowd HTTP/1.0\r\nHost: localhost\r\n\r\n")
        sock.setblocking(False)
        client = Client(role, transport, sock, Reader(self.references[transport]))
        client.is_reference = number < 2
        self.clients.append(client)
        if role == "healthy":
            self._by_fd[sock.fileno()] = client
            self._epoll.register(sock, select.EPOLLIN)
        if number % 50 == 49:
            self._poll(0)

    def _socket(self, number: int, *, small: bool = False) -> socket.socket:
        """A connection from an address of its own: the default rates are each address's."""
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((f"127.1.{number // 250}.{1 + number % 250}", 0))
        sock.connect(("127.0.0.1", self.port))
        return sock

    # ── load ────────────────────────────────────────────────────────────────────────────────────

    def _load(self) -> None:
        """Publish at the rate, read as each reads, look at the server now and then."""
        self.say(f"{self.rate:g} events/s for {self.seconds:g} s")
        result = self.result
        result.rss_before_mb = self._rss_mb()
        cpu, own_cpu = self._cpu_s(), time.process_time()
        began = time.monotonic()
        next_tick = next_slow = next_look = began
        total = int(self.rate * self.seconds)
        slow = [client for client in self.clients if client.role == "slow"]
        while self.published < total:
            now = time.monotonic()
            if now >= next_tick:
                due = min(total, int((now - began + TICK_S) * self.rate))
                lag_s = now - next_tick
                result.lag_ms = max(result.lag_ms, lag_s * 1000)
                next_tick += TICK_S * (1 + int(lag_s / TICK_S))
                self._publish([self._value() for _ in range(due - self.published)])
            if now >= next_slow:
                next_slow += SLOW_TICK_S
                for client in slow:
                    client.read(int(self.slow_bytes_s * SLOW_TICK_S))
            if now >= next_look:
                next_look = now + LOOK_S
                self._look(now)
            self._flush()
            self._poll(max(0.0, min(next_tick, next_slow) - time.monotonic()))
        took = time.monotonic() - began
        result.published, result.seconds = self.published, round(took, 2)
        result.rate = round(self.published / took, 1)
        result.own_cpu = round((time.process_time() - own_cpu) / took, 2)
        result.server_cpu = round((self._cpu_s() - cpu) / took, 2)

    def _value(self) -> str:
        text = f'"{self.published:08d}{"x" * (self.size - 8)}"'
        self.published += 1
        return text

    def _publish(self, values: list[str]) -> None:
        """A batch of writes: one command, within the default rate of commands."""
        if not values:
            return
        ops = ",".join(
            f'{{"type":"set","path":".crowd","value":{value},"create":true}}' for value in values
        )
        self._out += RawWs.frame(1, f'{{"type":"batch","ops":[{ops}]}}'.encode())

    def _flush(self) -> None:
        assert self._publisher is not None
        while self._out:
            try:
                sent = self._publisher.send(self._out[:65536])
            except BlockingIOError:
                break
            del self._out[:sent]
        with contextlib.suppress(BlockingIOError):
            self._answers += self._publisher.recv(65536)
            if b'"type":"error"' in self._answers and not self._refused:
                self._refused = repr(bytes(self._answers[-300:]))
            if b'"errors":' in self._answers and not self._refused:
                self._refused = repr(bytes(self._answers[-300:]))
            del self._answers[:-100]

    def _poll(self, timeout_s: float) -> None:
        """Read from the healthy ones what is there."""
        for fd, _ in self._epoll.poll(timeout_s, 2000):
            client = self._by_fd[fd]
            client.read()
            if client.is_over:
                self._epoll.unregister(fd)

    def _look(self, now: float) -> None:
        """What the server says of those who are slow, and who of them has gone."""
        self.result.rss_peak_mb = max(self.result.rss_peak_mb, self._rss_mb())
        frozen = [c for c in self.clients if c.role == "frozen" and not c.gone_at]
        if not frozen:
            return
        listed = self.http.get("/stats", params={"clients": "slow", "limit": 1000}).json()
        dropped = {one["client"]: one["dropped"] for one in listed.get("clients", ())}
        for client in frozen:
            if not client.full_at and dropped.get(client.id):
                client.full_at = now
            if client.is_reset():
                client.gone_at = now

    # ── afterwards ──────────────────────────────────────────────────────────────────────────────

    def _catch_up(self) -> None:
        """The healthy ones are there at once; the slow ones read as fast as they can now."""
        self.say("reading what is left")
        until = time.monotonic() + 15
        while time.monotonic() < until and not all(map(self._has_all, self._role("healthy"))):
            self._flush()
            self._poll(0.02)
        for role in ("slow", "frozen"):
            for client in self._role(role):
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        until = time.monotonic() + 60
        left = [c for c in self.clients if c.role == "slow"]
        # A frozen one that was dropped still has what had reached it.
        left += [c for c in self._role("frozen") if c.is_reset()]
        while left and time.monotonic() < until:
            got = sum(client.read() for client in left)
            left = [c for c in left if not c.is_over and not c.fault and not self._has_all(c)]
            self._poll(0 if got else 0.02)

    def _has_all(self, client: Client) -> bool:
        reader = client.reader
        return reader.number + (reader.announced - reader.lost) >= self.published

    def _role(self, role: str) -> list[Client]:
        return [client for client in self.clients if client.role == role]

    def _judge(self) -> None:
        result = self.result
        if self._refused:
            result.check("every write was accepted", holds=False, detail=self._refused)
        for client in self.clients:
            if client.fault:
                result.faults.append(f"{client.role} {client.transport}: {client.fault}")
        result.check("nobody got a wrong, late or doubled event", not result.faults)
        healthy = self._role("healthy")
        bad = [c for c in healthy if c.reader.sent != self.published or c.reader.gaps or c.is_over]
        result.check(
            "every healthy client got every event, in order",
            not bad,
            f"{len(bad)} did not: {_state(bad[0]) if bad else ''}",
        )
        result.deliveries = sum(client.reader.sent for client in healthy)
        self._judge_sums()
        self._judge_frozen()
        self._judge_memory()

    def _judge_sums(self) -> None:
        """sent + announced = matched: for who is there, of all; for who is gone, up to its end."""
        result = self.result
        wrong: list[Client] = []
        for role in ("healthy", "slow", "frozen"):
            sums = {"matched": 0, "sent": 0, "announced": 0, "gaps": 0, "ended": 0}
            for client in self._role(role):
                reader = client.reader
                ended = client.is_over or client.is_reset()
                if not ended and role != "frozen":
                    reader.after_repair(self.published)
                matched = reader.number if ended or role == "frozen" else self.published
                if reader.sent + reader.announced != matched:
                    wrong.append(client)
                sums["matched"] += matched
                sums["sent"] += reader.sent
                sums["announced"] += reader.announced
                sums["gaps"] += reader.gaps
                sums["ended"] += ended
            result.sums[role] = sums
        result.slow_ended = result.sums["slow"]["ended"]
        # Their kernel tells of what they read in steps that take seconds; a deadline shorter than
        # these ends them too. In a short run all that they are owed may fit into what waits.
        slow = self._role("slow")
        if slow and float(_flag(self.flags, "--write-deadline", "10").rstrip("s")) >= 10:
            unhealed = [
                c
                for c in slow
                if c.is_over or (c.reader.sent < self.published and not c.reader.gaps)
            ]
            result.check(
                "every slow client was told of its gaps and healed, and none was ended",
                not unhealed,
                f"{len(unhealed)} of {len(slow)} were not",
            )
        result.check(
            "for every client sent + announced = matched",
            not wrong,
            f"{len(wrong)} are wrong: {_state(wrong[0]) if wrong else ''}",
        )

    def _judge_frozen(self) -> None:
        result = self.result
        frozen = self._role("frozen")
        if not frozen:
            return
        deadline_s = float(_flag(self.flags, "--write-deadline", "10").rstrip("s"))
        full = [client for client in frozen if client.full_at]
        gone = [client.gone_at - client.full_at for client in full if client.gone_at]
        result.frozen_gone_s = sorted(round(s, 2) for s in gone)
        result.check("frozen clients' queues were full", len(full) == len(frozen), len(full))
        late = [s for s in gone if s > deadline_s + 1 + LOOK_S]
        stay = [c for c in full if not c.gone_at and time.monotonic() > c.full_at + deadline_s + 1]
        result.check(
            "frozen clients were gone within the write deadline + 1 s",
            not late and not stay,
            f"late: {late[:3]}, still there: {len(stay)}",
        )

    def _judge_memory(self) -> None:
        """Growth against the bounds: each client's queue, and the history."""
        result = self.result
        queue = _bytes(_flag(self.flags, "--queue-bytes", "64KiB"))
        history = _bytes(_flag(self.flags, "--history-bytes", "64MiB"))
        result.bound_mb = (queue * len(self.clients) + history) / 1e6
        grown = result.rss_peak_mb - result.rss_before_mb
        result.check(
            "memory grew by less than the sum of the bounds",
            grown < result.bound_mb,
            f"{grown:.1f} MB of {result.bound_mb:.1f}",
        )

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def _terminate(self) -> None:
        """SIGTERM with clients that do not read, and whose queues are full."""
        self.say("SIGTERM with frozen clients")
        count = max(1, self.roles["frozen"] // 2)
        frozen = [self._freeze(number) for number in range(count)]
        until = time.monotonic() + 20
        blocked = 0
        while time.monotonic() < until and blocked < count:
            self._publish(['"' + "y" * 15_000 + '"'] * 20)
            while self._out:
                self._flush()
                self._poll(0.005)
            blocked = self.http.get("/stats").json()["gauges"]["clients_slow"]
        drain_s = float(_flag(self.flags, "--drain", "30").rstrip("s"))
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None and time.monotonic() < began + drain_s + 5:
            self._poll(0.05)
        result = self.result
        result.exit_s = round(time.monotonic() - began, 2)
        result.exit_status = self.process.poll()
        result.check("frozen clients were there at SIGTERM", blocked >= count, blocked)
        result.check(
            "SIGTERM ended it within the drain + 1 s, with status 0",
            result.exit_status == 0 and result.exit_s <= drain_s + 1,
            f"{result.exit_status} after {result.exit_s} s",
        )
        for sock in frozen:
            sock.close()

    def _freeze(self, number: int) -> socket.socket:
        sock = self._socket(10_000 + number, small=True)
        sock.sendall(b"GET /events?filter=.crowd HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return sock

    def _rss_mb(self) -> float:
        return float(self.server.memory_info().rss) / 1e6

    def _cpu_s(self) -> float:
        times = self.server.cpu_times()
        return float(times.user + times.system)


def _state(client: Client) -> str:
    r = client.reader
    return (
        f"{client.role} {client.transport} {client.id}: {r.sent} sent, {r.announced} announced, "
        f"{r.gaps} gaps, {r.snapshots} snapshots, at {r.number}, over {client.is_over}"
    )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _flag(flags: list[str], name: str, default: str) -> str:
    return flags[flags.index(name) + 1] if name in flags else default


def _bytes(text: str) -> int:
    for unit, factor in (("KiB", 1024), ("MiB", 1024**2), ("KB", 1000), ("MB", 1000**2)):
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--clients", default=1000, show_default=True, help="All of them.")
@click.option("--frozen", default=100, show_default=True, help="Those of them that never read.")
@click.option("--slow", default=100, show_default=True, help="Those that read at --slow-bytes.")
@click.option("--slow-bytes", default=2000, show_default=True, help="Bytes a second.")
@click.option("--rate", default=500.0, show_default=True, help="Events a second.")
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--size", default=100, show_default=True, help="Bytes of a value.")
@click.option("--json", "as_json", is_flag=True)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def main(
    clients: int,
    frozen: int,
    slow: int,
    slow_bytes: int,
    rate: float,
    seconds: float,
    size: int,
    as_json: bool,
    flags: tuple[str, ...],
) -> None:
    """A crowd of clients, some of them bad ones, and what each got. FLAGS go to the server."""
    console = Console(stderr=as_json, highlight=False)
    roles = {"healthy": clients - frozen - slow, "slow": slow, "frozen": frozen}
    if roles["healthy"] < 2:
        raise click.UsageError("there must be healthy clients of both transports")
    with console.status("starting") as status:
        crowd = Crowd(roles, rate, size, seconds, slow_bytes, [*flags], status.update)
        result = crowd.run()
    if as_json:
        click.echo(json.dumps(asdict(result)))
    else:
        show(console, result)
    if result.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
