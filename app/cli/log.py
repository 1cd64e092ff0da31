"""`triode log`: what was written last, when, by whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import trio
from rich.text import Text

from triode.app.cli.client import Target, server_options
from triode.app.cli.offline_log import read_log
from triode.app.cli.render import LinePrinter, amount, clean_line, value_text

if TYPE_CHECKING:
    from triode.app.log.reader import Reader
    from triode.app.remote.http_client import HttpClient
    from triode.app.runtime.progress import Progress

LOOK_EVERY_S: Final = 0.5
# Of one answer.
MOST: Final = 1000
_FIRST: Final = ("id", "time", "who", "op", "path")
_ADVICE: Final = {404: "It keeps its document in memory, and no log; triode tail shows changes."}


@click.command("log", short_help="Show what was written, when, by whom.")
@click.option("-n", "count", type=click.IntRange(0), default=20, show_default=True, metavar="N",
              help="The last N entries.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on with new entries as they are written.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Read this folder or backup instead of a server. No server may be using it.",
)
@server_options
def log(target: Target, count: int, follow: bool, data: Path | None) -> None:
    """Show the last entries of a server's log: position, time, writer, operation. Needs a token
    with admin rights.

    It holds each write as it was asked for, also those that were refused later. Long values are
    left out, and so is all about tokens and rights.

    \b
      triode log -f
      triode log -n 1000 --json | jq 'select(.who == "shop")'
      triode log --data monday.db
    """
    show = partial(_show, LinePrinter(), as_json=target.as_json)
    if data is None:
        target.run(partial(_of_server, show, count, follow), advice=_ADVICE)
        return
    if follow:
        raise click.UsageError("-f is for a server that runs: leave --data out")

    async def work(reader: Reader, _progress: Progress) -> None:
        from triode.app.service.log_view import entries

        opened = reader.opened
        since = max(opened.last - count, opened.floor)
        while found := await entries(reader, opened.lineage.epoch, since, opened.last):
            for entry in found:
                show(entry)
            since += len(found)

    read_log(data, work)


async def _of_server(show: Any, count: int, follow: bool, client: HttpClient) -> None:
    async for entry in _entries(client, count, follow):
        show(entry)


async def _entries(client: HttpClient, count: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
    position = (await client.request("GET", "/log", params=[("limit", "1")])).json()["position"]
    epoch, _, seq = position.rpartition(":")
    params = [("since", f"{epoch}:{max(int(seq) - count, 0)}"), ("limit", str(MOST))]
    while True:
        answer = (await client.request("GET", "/log", params=params)).json()
        for entry in answer["entries"]:
            yield entry
        if answer["more"]:
            pass
        elif follow:
            await trio.sleep(LOOK_EVERY_S)
        else:
            return
        params = [("since", answer["next"]), ("limit", str(MOST))]


def _show(printer: LinePrinter, entry: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        printer.print_json(entry)
        return
    moment = datetime.fromtimestamp(entry["time"] / 1000, UTC).astimezone()
    line = Text(f"{entry['id']}  ", style="dim")
    line.append(f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3] + "  ", style="dim")
    line.append(f"{clean_line(entry['who']) or '-'}  ", style="cyan")
    line.append(entry["op"], style="bold")
    if "path" in entry:
        line.append(f" {clean_line(entry['path'])}", style="default")
    rest = {name: value for name, value in entry.items() if name not in (*_FIRST, "create")}
    if "bytes" in rest:
        line.append(f"  ({amount(rest['bytes'])})", style="dim")
    elif rest:
        only = rest["value"] if rest.keys() == {"value"} else rest
        line.append("  ").append_text(value_text(only))
    printer.print(line)
