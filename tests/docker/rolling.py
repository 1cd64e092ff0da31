"""`python -m tests.docker.rolling`: clients watch a cluster while its Triodes are restarted, one
after the other. Exit status 1 when one of them missed an event, or saw one twice.

    docker compose -f docker/compose.cluster.yaml up -d
    python -m tests.docker.rolling --clients 1000 \\
        --restart 'docker compose -f docker/compose.cluster.yaml restart a' \\
        --restart 'docker compose -f docker/compose.cluster.yaml restart b'
"""

from __future__ import annotations

import random
import subprocess
import time
from typing import Final

import click
import httpx
import trio

from tests.cluster.event_source import EventSource
from tests.cluster.waiting import until

PAUSE_S: Final = 3.0
PATIENCE_S: Final = 90.0
PER_S: Final = 20


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
    watchers = [EventSource(port) for _ in range(clients)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, port, count)
        await until(lambda: count[0] > 0, PATIENCE_S)
        for watcher in watchers:
            nursery.start_soon(watcher.run)
            await trio.sleep(random.expovariate(500))
        await until(lambda: all(watcher.values for watcher in watchers), PATIENCE_S)
        for command in restarts:
            began = time.monotonic()
            await trio.run_process(command, shell=True, stdout=subprocess.DEVNULL)
            click.echo(f"{command}: {time.monotonic() - began:.1f} s")
            await trio.sleep(PAUSE_S)
        last = count[0]
        await until(lambda: all(watcher.values[-1] > last for watcher in watchers), PATIENCE_S)
        nursery.cancel_scope.cancel()
    wrong = [watcher for watcher in watchers if not _is_exact(watcher)]
    returns = sum(len(watcher.resumed) - 1 for watcher in watchers)
    click.echo(f"{clients} clients, {count[0]} writes, {returns} times resumed, {len(wrong)} wrong")
    return not wrong


def _is_exact(watcher: EventSource) -> bool:
    """Each number once, in order, and resumed each time."""
    first, count = watcher.values[0], len(watcher.values)
    return watcher.values == list(range(first, first + count)) and all(watcher.resumed[1:])


@click.command()
@click.option("--port", default=8080, show_default=True)
@click.option("--clients", default=1000, show_default=True)
@click.option("--restart", multiple=True, help="A command that restarts one of them.")
def main(port: int, clients: int, restart: tuple[str, ...]) -> None:
    """Watch a cluster while it is restarted."""
    raise SystemExit(not trio.run(roll, port, clients, restart))


if __name__ == "__main__":
    main()
