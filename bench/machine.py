"""Where things are measured: the C programs, the pinning, and the servers under test.

A server runs on core `SERVER_CORE`, the load generator on `LOAD_CORE`, both for all servers alike.
A machine with one core runs both on it, and says so.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent
CACHE: Final = Path(os.environ.get("BENCH_CACHE", str(Path.home() / ".cache" / "triode-bench")))
CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = CORES[0]
LOAD_CORE: Final = CORES[1] if len(CORES) > 1 else CORES[0]
START_S: Final = 15.0
PROGRAMS: Final = {"load": ("load.c", "stream.c", "http.c"), "limit": ("limit.c",)}
TRIODE_FLAGS: Final = (
    "--http-rate",
    "0",
    "--ws-rate",
    "0",
    "--cpu-share",
    "0",
    "--max-heads",
    "20000",
    "--data",
    "memory",
)


def build() -> None:
    """Compile the C programs into the cache, those whose source is newer. Raises SystemExit without
    a compiler.
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("bench needs a C compiler (cc) for its load generator")
    CACHE.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in (HERE / "load").iterdir())
    for name, sources in PROGRAMS.items():
        target = CACHE / name
        if not target.exists() or target.stat().st_mtime < newest:
            paths = [str(HERE / "load" / source) for source in sources]
            subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", target, *paths], check=True)


def about() -> dict[str, Any]:
    """The machine and the versions, for the results."""
    packages = ("trio", "hypercorn", "quart-trio", "msgspec", "websockets")
    return {
        "cpu": _cpu_name(),
        "cores": len(CORES),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Usage:
    """What a server used between two marks of the load generator."""

    cpu: float = 0.0
    rss_mb: float = 0.0


@dataclass
class Server:
    """A server under test: its process, and those it has started."""

    port: int
    process: psutil.Process
    at: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def family(self) -> list[psutil.Process]:
        """The process and its descendants, those that are still there."""
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def sample(self, mark: str) -> None:
        """Remember time, CPU seconds and resident MB under a name."""
        cpu_s = rss = 0.0
        for process in self.family():
            try:
                times = process.cpu_times()
                cpu_s += times.user + times.system
                rss += process.memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                pass
        self.at[mark] = (time.monotonic(), cpu_s, rss)

    def usage(self, start: str = "begin", end: str = "end") -> Usage:
        """CPU (1.0 is a core) between two marks, and memory at the second."""
        if start not in self.at or end not in self.at:
            return Usage()
        (t0, c0, _), (t1, c1, rss) = self.at[start], self.at[end]
        return Usage((c1 - c0) / max(t1 - t0, 1e-9), rss)


@contextmanager
def serving(
    command: Sequence[str | Path], port: int, *, env: dict[str, str] | None = None
) -> Iterator[Server]:
    """Run a server, pinned, from when it accepts until the block is left. Raises RuntimeError with
    its last words when it does not come up.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | (env or {}),
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        )
    try:
        _wait(process, port, log)
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.1)
            return
    raise RuntimeError(f"did not start: {log.read_text(errors='replace')[-600:]}")


def triode(*flags: str) -> tuple[list[str | Path], int]:
    """The command line of `triode serve` for a benchmark, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "triode", "serve", "--port", str(port)]
    return [*command, "--max-clients", "19000", *TRIODE_FLAGS, *flags], port


def load(mode: str, server: Server, **options: Any) -> dict[str, Any]:
    """Run the load generator against a server; what it printed, with the server's usage as `cpu`
    and `rss_mb`.

    An option `pub_text="…"` becomes `--pub-text …`; None leaves it out, True is a flag. Raises
    RuntimeError when the generator fails.
    """
    command = ["taskset", "-c", str(LOAD_CORE), str(CACHE / "load"), mode]
    for name, value in ({"port": server.port} | options).items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            command.append(flag)
        elif value is not None and value is not False:
            command += [flag, str(value)]
    server.at.clear()
    result: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("# "):
                server.sample(line[2:].strip())
            elif line.startswith("{"):
                result = json.loads(line)
    if process.returncode or not result:
        raise RuntimeError(f"the load generator failed with {process.returncode}: {command}")
    if result.get("clients") and not (result.get("healthy", 1) and result.get("connected", 1)):
        raise RuntimeError(f"no client got in: {command}")
    used = server.usage()
    result["cpu"], result["rss_mb"] = round(used.cpu, 3), round(used.rss_mb, 1)
    return result
