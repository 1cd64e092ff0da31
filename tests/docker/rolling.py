"""`python -m tests.docker.rolling`: clients watch a cluster while its Triodes are restarted, one
after the other. Exit status 1 when one of them missed an event, or saw one twice.

    docker compose -f docker/compose.cluster.yaml up -d
    python -m tests.docker.rolling --clients 1000 \\
        --restart 'docker compose -f docker/compose.cluster.yaml restart a' \\
        --restart 'docker compose -f docker/compose.cluster.yaml restart b'
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import click
import httpx
import trio

PAUSE_S: Final = 3.0
PATIENCE_S: Final = 90.0
PER_S: Final = 20


@dataclass
class Watcher:
    """What a native EventSource does: any status but 200 ends it for good."""

    port: int
    seen: list[int] = field(default_factory=list)
    came_back: int = 0
    anew: int = 0
    _last_id: str = ""
    _retry_s: float = 1.0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._connection()
            except (OSError, trio.BrokenResourceError):
                pass
            await trio.sleep(self._retry_s)

    async def _connection(self) -> None:
        last = f"Last-Event-ID: {self._last_id}\r\n" if self._last_id else ""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(
                f"GET /events?filter=.n HTTP/1.0\r\nHost: localhost\r\n{last}"
                "Accept: text/event-stream\r\n\r\n".encode()
            )
            data = b""
            async for some in stream:
                *blocks, data = (data + some).replace(b"\r\n", b"\n").split(b"\n\n")
                for block in blocks:
                    self._take(block.decode())

    def _take(self, block: str) -> None:
        if block.startswith("HTTP/"):
            assert block.split()[1] == "200", block
            return
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        self._last_id = fields.get("id", self._last_id)
        if "retry" in fields:
            self._retry_s = int(fields["retry"]) / 1000
        body = json.loads(fields.get("data", "{}"))
        match fields.get("event"):
            case "connected" if self.seen:
                self.came_back += 1
                self.anew += not body["resumed"]
            case "snapshot":
                self.seen += [item["value"] for item in body["items"]]
            case "update":
                self.seen.append(body["value"])


async def write(port: int, count: list[int]) -> None:
    """Numbers, one after the other; each with its key, until it is answered."""
    async with httpx.AsyncClient(timeout=10, verify=False) as client:
        while True:
            url = f"http://127.0.0.1:{port}/store?path=.n"
            headers = {"idempotency-key": f"rolling-{count[0]}", "content-type": "application/json"}
            try:
                answer = await client.put(url, content=str(count[0]), headers=headers)
                count[0] += answer.status_code < 300
                # 429: all clients of this machine are one address.
                code = answer.status_code
                assert code < 300 or code == 429 or code >= 500, answer.text
            except httpx.TransportError:
                pass
            await trio.sleep(1 / PER_S)


async def roll(port: int, clients: int, restarts: tuple[str, ...]) -> bool:
    """Restart all; whether everybody saw everything once."""
    count = [0]
    watchers = [Watcher(port) for _ in range(clients)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, port, count)
        await _until(lambda: count[0] > 0)
        for watcher in watchers:
            nursery.start_soon(watcher.run)
            await trio.sleep(random.expovariate(500))
        await _until(lambda: all(watcher.seen for watcher in watchers))
        for command in restarts:
            began = time.monotonic()
            await trio.run_process(command, shell=True, stdout=subprocess.DEVNULL)
            click.echo(f"{command}: {time.monotonic() - began:.1f} s")
            await trio.sleep(PAUSE_S)
        last = count[0]
        await _until(lambda: all(watcher.seen[-1] > last for watcher in watchers))
        nursery.cancel_scope.cancel()
    wrong = [
        w for w in watchers if w.seen != list(range(w.seen[0], w.seen[0] + len(w.seen))) or w.anew
    ]
    returns = sum(watcher.came_back for watcher in watchers)
    click.echo(f"{clients} clients, {count[0]} writes, {returns} times resumed, {len(wrong)} wrong")
    return not wrong


async def _until(done: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not done():  # noqa: ASYNC110 # other processes set no event
            await trio.sleep(0.05)


@click.command()
@click.option("--port", default=8080, show_default=True)
@click.option("--clients", default=1000, show_default=True)
@click.option("--restart", multiple=True, help="A command that restarts one of them.")
def main(port: int, clients: int, restart: tuple[str, ...]) -> None:
    """Watch a cluster while it is restarted."""
    raise SystemExit(not trio.run(roll, port, clients, restart))


if __name__ == "__main__":
    main()
