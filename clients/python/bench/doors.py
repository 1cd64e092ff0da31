"""What one change costs a program, in processor time, by the way in which it uses the client.

    python clients/python/bench/doors.py

It starts a server of its own and takes about 40 s. Each way runs in a process of its own, in turn,
and what counts is the median over the rounds. Two loads: changes that come one by one, and as fast
as they can. Every change has to arrive: none may be skipped.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CLIENT))

from triode_client import Triode, connect, op  # noqa: E402 # the checkout's, not an installed one

DOORS = ("trio", "asyncio", "sync")
ROUNDS = 3
# Name, changes, how many at once, and the pause after them in seconds.
LOADS = (("one by one", 800, 1, 0.001), ("as fast as they can", 10_000, 200, 0.0))


def main() -> None:
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("triode")), "serve", "--port", "0", "--data", "memory",
         "--ws-rate", "0", "--queue-items", "100000", "--queue-bytes", "64MiB"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        url = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        try:
            measure(url)
        finally:
            server.terminate()


def measure(url: str) -> None:
    print(f"{'µs of processor time a change':32}" + "".join(f"{door:>10}" for door in DOORS))
    for name, changes, at_once, pause_s in LOADS:
        took: dict[str, list[float]] = {door: [] for door in DOORS}
        for turn in range(ROUNDS):
            for door in DOORS if turn % 2 else reversed(DOORS):
                took[door].append(one_round(url, door, changes, at_once, pause_s))
        middle = {door: statistics.median(each) for door, each in took.items()}
        print(f"{name:32}" + "".join(f"{1e6 * middle[door]:10.1f}" for door in DOORS))
        print(f"{'':32}" + "".join(f"{middle[door] / middle['trio']:9.2f}x" for door in DOORS))


def one_round(url: str, door: str, changes: int, at_once: int, pause_s: float) -> float:
    """The seconds of processor time that one change took the watching process."""
    with Triode(url) as writer:
        writer.set(".", {"n": 0})
        with subprocess.Popen(
            [sys.executable, __file__, door, url, str(changes)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            for first in range(1, changes + 1, at_once):
                writer.batch([op.set(".n", first + more) for more in range(at_once)])
                if pause_s:
                    time.sleep(pause_s)
            return float(child.stdout.readline()) / changes


class Count:
    """Counts what arrives, and the time from the first to the last."""

    def __init__(self, changes: int) -> None:
        self.left = changes
        self.began_s = 0.0

    def take(self, skipped: int, value: int) -> bool:
        """Whether it was the last."""
        if not value:
            print("ready", flush=True)
            self.began_s = time.process_time()
            return False
        assert not skipped, "too slow"
        self.left -= 1
        if not self.left:
            print(time.process_time() - self.began_s)
        return not self.left


def watch(url: str, count: Count) -> None:
    with Triode(url) as t:
        for change in t.watch(".n", buffer=100_000):
            if count.take(change.skipped, change.value):
                return


async def watch_async(url: str, count: Count) -> None:
    async with connect(url) as t:
        async for change in t.watch(".n", buffer=100_000):
            if count.take(change.skipped, change.value):
                return


def child(door: str, url: str, changes: str) -> None:
    count = Count(int(changes))
    if door == "sync":
        watch(url, count)
    elif door == "asyncio":
        asyncio.run(watch_async(url, count))
    else:
        import trio

        trio.run(watch_async, url, count)


if __name__ == "__main__":
    arguments: Iterable[str] = sys.argv[1:]
    child(*arguments) if sys.argv[1:] else main()
