"""What the commands have in common that read a log without a server: where it is, how far they
have come, and how they end.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from triode.app.cli.client import INTERRUPTED, stop
from triode.app.config.loading import Faults, load_here
from triode.app.config.settings import DATA_HERE
from triode.app.log.log import LogError, LogInUse
from triode.app.runtime.progress import Progress

if TYPE_CHECKING:
    from triode.app.log.reader import Reader

DAMAGED: Final = 1
UNREADABLE: Final = 3
_IN_USE: Final = (
    "A server is using it. `triode backup FILE` copies it while the server runs; then use the copy."
)

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help=f"The folder, or a backup.  [that of the configuration here, else {DATA_HERE}]",
)


def folder_here() -> Path:
    """Where `triode serve` would keep the document if it were started here."""
    try:
        found = load_here({}, data=Path(DATA_HERE)).data
    except Faults as faults:
        stop("\n".join(f"triode: {fault}" for fault in faults.faults), 2)
    return Path(DATA_HERE) if found is None else found


def read_log(path: Path | None, work: Callable[[Reader, Progress], Awaitable[None]]) -> None:
    """Do `work` with a log that no server has, and end the process as its outcome asks."""
    from triode.app.log.reader import Reader

    with ending(), shown() as progress, Reader(path or folder_here()) as reader:
        trio.run(partial(work, reader, progress))


@contextmanager
def ending() -> Iterator[None]:
    """Say in a sentence why a log could not be used, and end."""
    try:
        yield
    except LogInUse as error:
        stop(f"triode: {error}\n{_IN_USE}", UNREADABLE)
    except LogError as error:
        stop(f"triode: {error}", UNREADABLE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@contextmanager
def shown() -> Iterator[Progress]:
    """A bar at a terminal, on standard error; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Progress()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Bar(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("")
        yield Progress(partial(_tell, bar, task))


def _tell(bar: Bar, task: TaskID, progress: Progress) -> None:
    total = progress.total or None
    bar.update(task, description=progress.phase, total=total, completed=progress.done)
