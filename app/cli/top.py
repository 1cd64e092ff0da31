"""`triode top`: the server and its clients, those furthest behind first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import click
import trio
from rich.console import Console

from triode.app.cli.client import Target, server_options
from triode.app.cli.render import print_json
from triode.app.cli.screen import show
from triode.app.cli.tail import ADMIN_ADVICE
from triode.app.cli.top_scene import TopScene, tables
from triode.app.remote.http_client import CannotConnect, HttpClient, Refused

PIPE_WIDTH: Final = 160
# The server looks at each of its clients for this, and draws a portrait of so many.
MOST_CLIENTS: Final = 1000


@click.command(short_help="Show load, rates and clients, live.")
@click.option("--slow", is_flag=True, help="Only clients that are behind.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_CLIENTS),
    default=200,
    show_default=True,
    metavar="N",
    help="Show at most N clients.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between updates.",
)
@click.option(
    "--count",
    type=click.IntRange(0),
    metavar="N",
    help="Print N updates as text, then end; 0: never end.  [1 into a pipe or as JSON]",
)
@server_options
def top(target: Target, slow: bool, limit: int, interval: float, count: int | None) -> None:
    """Show the server's load, its rates and its clients, live; needs admin rights.

    The clients furthest behind come first: by bytes that wait, then by events lost.

    \b
      triode top
      triode top --slow --json --count 0 | jq -c '.clients[] | [.client, .queued_bytes]'
    """
    look = Look(slow=slow, limit=limit, interval_s=interval)
    if count is None and sys.stdout.isatty() and not target.as_json:
        target.run(lambda client: _picture(client, look, target.url), advice=ADMIN_ADVICE)
    else:
        show_one = _as_json if target.as_json else _as_tables(target.url)
        often = 1 if count is None else count
        target.run(lambda client: _print(client, look, often, show_one), advice=ADMIN_ADVICE)


@dataclass(frozen=True, slots=True)
class Look:
    """What is asked for, and how often."""

    slow: bool
    limit: int
    interval_s: float

    async def once(self, client: HttpClient) -> bytes:
        """The server's answer; raises as `HttpClient.request` does."""
        which = "slow" if self.slow else "all"
        params = [("clients", which), ("limit", str(self.limit))]
        return (await client.request("GET", "/stats", params=params)).content


async def _print(
    client: HttpClient, look: Look, count: int, show_one: Callable[[bytes], None]
) -> None:
    done = 0
    while True:
        show_one(await look.once(client))
        done += 1
        if done == count:
            return
        await trio.sleep(look.interval_s)


def _as_json(answer: bytes) -> None:
    print_json(answer, compact=True)


def _as_tables(url: str) -> Callable[[bytes], None]:
    scene = TopScene(url)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)

    def print_tables(answer: bytes) -> None:
        scene.take(answer)
        console.print(tables(scene, console.width))

    return print_tables


async def _picture(client: HttpClient, look: Look, url: str) -> None:
    scene = TopScene(url, slow=look.slow)
    scene.take(await look.once(client))  # a refusal is said before the terminal is taken

    async def poll() -> None:
        while True:
            await trio.sleep(look.interval_s)
            try:
                scene.take(await look.once(client))
            except (CannotConnect, Refused) as exc:
                if isinstance(exc, Refused) and exc.is_final:
                    raise
                scene.notice(str(exc))

    # Holds the looks; left when the picture is.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await show(scene)
        nursery.cancel_scope.cancel()
