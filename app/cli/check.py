"""`triode check` and `triode dump`: is a log sound, and what is the document in it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from triode.app.cli.offline_log import DAMAGED, data_option, read_log
from triode.app.cli.render import amount

if TYPE_CHECKING:
    from triode.app.log.reader import Reader
    from triode.app.runtime.progress import Progress
    from triode.app.service.checking import Checked


@click.command(short_help="Check a log. No server may be using it.")
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line.")
def check(data: Path | None, as_json: bool) -> None:
    """Read all of a log: SQLite's file, each snapshot, each entry. What follows a snapshot is
    carried out again, and has to give the next snapshot. Nothing is changed.

    Exit status: 0 it is sound; 1 something is wrong, and it says what; 3 it cannot be read: a
    server uses it, or there is none.

    \b
      triode check --data /srv/triode
      triode check --data backup.db
    """

    async def work(reader: Reader, progress: Progress) -> None:
        from triode.app.service.checking import check as look

        checked = await look(reader, progress)
        click.echo(
            msgspec.json.encode(_facts(reader, checked)) if as_json else _text(reader, checked)
        )
        for fault in () if as_json else checked.faults:
            click.echo(f"triode: {fault}", err=True)
        if checked.faults:
            sys.exit(DAMAGED)

    read_log(data, work)


def _facts(reader: Reader, checked: Checked) -> dict[str, Any]:
    store = checked.store
    return {
        "ok": not checked.faults,
        "faults": checked.faults,
        "position": str(store.position),
        "time": checked.time_ms,
        "document_bytes": store.bytes,
        "log_bytes": reader.log_bytes,
        "snapshots": [snapshot.seq for snapshot in reader.opened.snapshots],
        "oldest": reader.opened.floor + 1,
    }


def _text(reader: Reader, checked: Checked) -> str:
    opened, store = reader.opened, checked.store
    at = f"{datetime.fromtimestamp(checked.time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    count = opened.last - opened.floor
    rows = {
        "position": f"{store.position}" + (f", written {at}" if checked.time_ms else ""),
        "document": amount(store.bytes),
        "log": f"{count:,} writes".replace(",", " ")
        + (f", from {opened.floor + 1} on" if count else ""),
        "snapshots": ", ".join(f"after write {one.seq}" for one in opened.snapshots) or "none",
    }
    verdict = f"{reader.file}: {'damaged' if checked.faults else 'sound'}"
    return "\n".join([verdict, *(f"  {name:<10} {text}" for name, text in rows.items())])


@click.command(short_help="Print the document of a log. No server may be using it.")
@data_option
@click.option(
    "--at",
    type=click.IntRange(min=0),
    metavar="N",
    help="The document after write N; `triode check` says which there are.",
)
def dump(data: Path | None, at: int | None) -> None:
    """Print the document that a log holds, as JSON. (From a running server: triode get .)

    \b
      triode dump --data /srv/triode > document.json
      triode serve --data /srv/new --load document.json
    """

    async def work(reader: Reader, progress: Progress) -> None:
        from triode.app.log.log import LogRefused
        from triode.app.service.boot import rebuild
        from triode.app.service.checking import blank
        from triode.store.value import encode_steps

        opened, store = reader.opened, blank()
        until = opened.last if at is None else at
        snapshot = next((one for one in opened.snapshots if one.seq <= until <= opened.last), None)
        if snapshot is None:
            oldest = opened.snapshots[-1].seq if opened.snapshots else opened.last + 1
            raise LogRefused(
                f"the write {until} is out of reach: there are those from {oldest} to {opened.last}"
            )
        await rebuild(store, reader, opened, snapshot, until_seq=until, progress=progress)
        progress.begin("writing", store.bytes, "bytes")
        output = sys.stdout.buffer
        for piece in encode_steps(store.document.root):
            output.write(piece)
            progress.step(len(piece))
        output.write(b"\n")

    read_log(data, work)
