"""`triode backup` and `triode restore`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio

from triode.app.cli.client import Target, server_options, stop
from triode.app.cli.offline_log import ending, folder_here, read_log, shown
from triode.app.cli.render import amount

if TYPE_CHECKING:
    from triode.app.log.reader import Reader
    from triode.app.remote.http_client import HttpClient
    from triode.app.runtime.progress import Progress

WRONG: Final = 2
_ADVICE: Final = {
    404: "Its document is only in memory: there is no log to copy. triode get . prints it."
}


@click.command(short_help="Copy all that a server keeps into a file, while it runs.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Copy this folder instead of a server's data. No server may be using it.",
)
@server_options
def backup(target: Target, file: Path, force: bool, data: Path | None) -> None:
    """Copy all that a server keeps into FILE, while it runs: the document, its log, its snapshots.
    Needs a token with admin rights. FILE gets its name when it is complete and on disk.

    \b
      triode backup monday.db
      triode check --data monday.db
      triode restore monday.db --data /srv/triode
    """
    if file.exists() and not force:
        stop(f"triode: {file} is there already; --force replaces it", WRONG)
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        if data is not None:
            read_log(data, partial(_copy, part))
        else:
            with shown() as progress:
                target.run(partial(_fetch, part, progress), advice=_ADVICE)
        position = _finish(part, file)
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{file}: {amount(file.stat().st_size)}, up to {position}")


async def _copy(part: Path, reader: Reader, progress: Progress) -> None:
    await trio.to_thread.run_sync(reader.copy, part, _pages(progress))


def _pages(progress: Progress) -> Callable[[int, int], None]:
    progress.begin("copying")

    def told(done: int, total: int) -> None:
        progress.total = total
        progress.step(done - progress.done)

    return told


async def _fetch(part: Path, progress: Progress, client: HttpClient) -> None:
    progress.begin("the server copies its log")
    async with client.download("/backup") as (size, pieces):
        progress.begin("fetching", size, "bytes")
        async with await trio.open_file(part, "xb", opener=_private) as file:
            async for piece in pieces:
                await file.write(piece)
                progress.step(len(piece))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _finish(part: Path, file: Path) -> str:
    """Look whether it is whole, and give it its name. Its position."""
    from triode.app.log.backup import sync
    from triode.app.log.reader import Reader
    from triode.store.change import Position

    with ending(), Reader(part) as reader:
        position = Position(reader.opened.lineage.epoch, reader.opened.last)
    sync(part)
    part.replace(file)
    sync(file.absolute().parent)
    return str(position)


@click.command(short_help="Make a data folder from a backup.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to make. One that has a log already is not touched.  [as for triode check]",
)
def restore(file: Path, data: Path | None) -> None:
    """Make a data folder from the backup FILE, for triode serve --data DIR.

    The server goes on from where the backup was made, in a new epoch. Clients that have seen later
    changes are told so and get a snapshot; all others resume.

    \b
      mv /srv/triode /srv/triode.before
      triode restore monday.db --data /srv/triode
    """
    folder = folder_here() if data is None else data

    async def work(reader: Reader, progress: Progress) -> None:
        from triode.app.log.backup import restore as make

        faults = await trio.to_thread.run_sync(reader.faults)
        if faults:
            stop(f"triode: {file} is damaged: {faults[0]}; triode check --data {file}", 1)
        await trio.to_thread.run_sync(make, folder, partial(reader.copy, told=_pages(progress)))
        click.echo(f"{folder}: up to {reader.opened.lineage.epoch}:{reader.opened.last}")

    read_log(file, work)
