"""`triode tail`: events as they come, one per line."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import click
import trio

from triode.app.cli.client import Target, server_options
from triode.app.cli.complete import complete_filter
from triode.app.cli.event_line import EventPrinter
from triode.app.cli.render import note
from triode.app.remote.http_client import CannotConnect, HttpClient, Refused, Watch

POLL_S: Final = 1.0
# As `tail` does: so many of the ends before now.
EARLIER: Final = 10
ADMIN_ADVICE: Final = {
    403: "This needs a token with admin rights; an admin issues one: triode token new --admin."
}


@click.command(short_help="Print events and messages, one per line.")
@click.argument("filters", nargs=-1, shell_complete=complete_filter, metavar="[FILTER]...")
@click.option("--room", "rooms", multiple=True, help="The messages of this room; repeatable.")
@click.option("--ends", is_flag=True, help="Connections that end, and why; needs admin rights.")
@click.option("--since", metavar="POSITION", help="Begin with the changes after this position.")
@click.option("--changes", is_flag=True, help="Only changes: leave out the present values.")
@click.option(
    "--policy",
    type=click.Choice(["drop-newest", "drop-oldest", "latest", "disconnect"]),
    help="What the server does when this reader is too slow.  [drop-newest]",
)
@server_options
def tail(
    target: Target,
    filters: tuple[str, ...],
    rooms: tuple[str, ...],
    ends: bool,
    since: str | None,
    changes: bool,
    policy: str | None,
) -> None:
    """Print the events of FILTERs and rooms as they come, one per line, until interrupted.

    Without FILTER and --room: the whole document. After a lost connection it goes on where it was.

    \b
      triode tail .orders --room alarms
      triode tail --ends
      triode tail --room chat --json | jq -r .data.text
    """
    params = [("filter", text) for text in filters] + [("room", name) for name in rooms]
    params += [("since", since)] if since else []
    params += [("snapshot", "none")] if changes else []
    params += [("policy", policy)] if policy else []
    printer = EventPrinter(as_json=target.as_json)

    async def work(client: HttpClient) -> None:
        # Holds the stream and the log of ends; ends with the first that fails.
        async with trio.open_nursery() as nursery:
            if ends:
                nursery.start_soon(follow_ends, client, printer)
            if filters or rooms or not ends:
                watch = Watch(client, params, notice=note)
                nursery.start_soon(partial(watch.run, printer.take))

    target.run(work, advice=ADMIN_ADVICE if ends else {})


async def follow_ends(client: HttpClient, printer: EventPrinter) -> None:
    """Print the server's log of ends: the last few, then each as it happens.

    The server keeps a bounded log, so of a stampede between two looks only the last are seen.
    Raises as `HttpClient.request` does, but not for what passes after a first answer.
    """
    seen: list[dict[str, Any]] | None = None
    while True:
        try:
            stats = (await client.request("GET", "/stats")).json()
        except (CannotConnect, Refused) as exc:
            if seen is None or (isinstance(exc, Refused) and exc.is_final):
                raise
            note(f"{exc}; trying again")
        else:
            log: list[dict[str, Any]] = stats.get("ends_log", [])
            new = log[:EARLIER] if seen is None else newer(log, seen)
            for end in reversed(new):
                printer.take_end(end)
            seen = log
        await trio.sleep(POLL_S)


def newer(log: list[dict[str, Any]], seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands in `log`, newest first, before the newest entry of the log `seen` earlier."""
    newest = seen[0]["client"] if seen else None  # a client ends once
    clients = [end["client"] for end in log]
    return log[: clients.index(newest)] if newest in clients else log
