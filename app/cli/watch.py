"""`triode watch`: what filters select, live, and every change of it.

At a terminal it is a picture of the values (`app.cli.watch_scene`), into a pipe a line a change.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import trio

from triode.app.cli.client import Target, server_options
from triode.app.cli.complete import complete_filter
from triode.app.cli.diff_line import diff_line, now_line
from triode.app.cli.event_line import EventPrinter, body_of
from triode.app.cli.render import LinePrinter, note
from triode.app.cli.screen import show
from triode.app.cli.view import Views
from triode.app.cli.watch_scene import WatchScene
from triode.app.remote.http_client import HttpClient, Watch
from triode.app.wire.max_event import LEAST, MOST
from triode.app.wire.sse_parser import StreamEvent
from triode.store.change import Edit


@click.command(short_help="Show what filters select, live.")
@click.argument("filters", nargs=-1, shell_complete=complete_filter, metavar="[FILTER]...")
@click.option("--lines", is_flag=True, help="One line per change, also at a terminal.")
@click.option("--changes", is_flag=True, help="As lines: only changes, not the present values.")
@click.option("--since", metavar="POSITION", help="Begin with the changes after this position.")
@click.option(
    "--max-event",
    type=click.IntRange(LEAST, MOST),
    metavar="BYTES",
    help="Of a value that makes an event longer, say only where it is.",
)
@server_options
def watch(
    target: Target,
    filters: tuple[str, ...],
    lines: bool,
    changes: bool,
    since: str | None,
    max_event: int | None,
) -> None:
    """Watch what the FILTERs select (none: everything), and what changes in it.

    After a lost connection it goes on where it was. For messages and raw events: triode tail.

    \b
      triode watch .host.net
      triode watch '.positions[trader=abc]' --json | jq .value
    """
    params = [("filter", text) for text in filters] + ([("since", since)] if since else [])
    params += [("max_event", str(max_event))] if max_event is not None else []
    if target.as_json:
        if changes:
            params.append(("snapshot", "none"))
        printer = EventPrinter(as_json=True)
        target.run(lambda client: Watch(client, params, notice=note).run(printer.take))
    elif lines or changes or not sys.stdout.isatty():
        differ = DiffPrinter(silent_at_first=changes)
        target.run(lambda client: Watch(client, params, notice=note).run(differ.take))
    else:
        target.run(lambda client: _picture(client, params, filters))


async def _picture(
    client: HttpClient, params: list[tuple[str, str]], filters: Sequence[str]
) -> None:
    scene = WatchScene(filters or (".",), clock=trio.current_time)
    # A picture needs no values that are no longer true.
    stream = Watch(client, [*params, ("policy", "latest")], notice=scene.notice)
    # Holds the stream; left when the picture is.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run, scene.take)
        await show(scene)
        nursery.cancel_scope.cancel()


class DiffPrinter:
    """Prints what events change, a line a leaf: the first snapshot of a filter as it is, all that
    comes later as a difference. `silent_at_first` leaves out those first snapshots.
    """

    def __init__(self, *, silent_at_first: bool) -> None:
        self._views = Views()
        self._known: set[str] = set()
        self._silent = silent_at_first
        self._lines = LinePrinter()

    def take(self, event: StreamEvent) -> None:
        """Print what one event changes."""
        body = body_of(event)
        leaves = self._views.take(event.type, body)
        if event.type == "snapshot" and body["filter"] not in self._known:
            if not body.get("more"):
                self._known.add(body["filter"])
            if not self._silent:
                self._print_now(leaves)
        else:
            for leaf in leaves:
                self._lines.print(diff_line(leaf, body.get("time")))
        if event.type in ("gap", "expiring", "closing"):
            note(f"{event.type}: {event.data}")

    def _print_now(self, leaves: Sequence[Edit]) -> None:
        for leaf in leaves:
            self._lines.print(now_line(leaf))
