"""`triode watch`: what a filter selects, now and from now on."""

from __future__ import annotations

import click

from app.cli.client import Target, note, server_options
from app.cli.render import EventPrinter
from app.http_client import HttpClient, Watch


@click.command()
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@click.option("--room", "rooms", multiple=True, help="Messages of this room too; repeatable.")
@click.option("--since", metavar="POSITION", help="Begin with the changes after this position.")
@click.option("--changes", is_flag=True, help="Leave out what is there now.")
@server_options
def watch(
    target: Target,
    filters: tuple[str, ...],
    rooms: tuple[str, ...],
    since: str | None,
    changes: bool,
) -> None:
    """Watch what the FILTERs select (none: everything), until interrupted.

    Reconnects by itself, and goes on where it was.

    \b
      triode watch .host.net
      triode watch '.positions[trader=abc]' --json | jq .value
    """
    params = [("filter", text) for text in filters] + [("room", name) for name in rooms]
    if since:
        params.append(("since", since))
    if changes:
        params.append(("snapshot", "none"))
    printer = EventPrinter(as_json=target.as_json)

    async def work(client: HttpClient) -> None:
        await Watch(client, params, notice=note).run(printer.take)

    target.run(work)
