"""`triode serve`: its options, the start-up block, and the server."""

from __future__ import annotations

import errno
import faulthandler
import json
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from socket import gaierror
from typing import Any, Final

import click
import trio

from triode.app.cli.banner import OpenFiles, banner, url_of
from triode.app.config.loading import Faults, load_here
from triode.app.config.option_text import option_text
from triode.app.config.settings import DATA_HERE, DEFAULTS, OPTIONS, Settings
from triode.app.config.validation import warnings
from triode.app.net.inherited import CannotListen
from triode.app.runtime.build import version
from triode.app.runtime.machine import SPARE_FILES
from triode.app.runtime.worker import Worker, worker_here
from triode.app.service.reload import set_log_level

CANNOT_START: Final = 1
FAILED: Final = 1
WRONG_CONFIGURATION: Final = 2
# EX_SOFTWARE: started anew, it goes on from what is on the disk.
LOG_BROKEN: Final = 70

_BIND_ADVICE: Final = {
    errno.EADDRINUSE: "something else listens there; choose another --port, 0 takes a free one",
    errno.EACCES: "ports below 1024 need rights; choose another --port",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose another --host",
}

_DATA_ADVICE: Final = (
    "--data DIR keeps the document in another folder, --data memory keeps it in none."
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` a flag for every option of `Settings`; None is one that was not given."""
    for name, (field_name, spec) in reversed(list(OPTIONS.items())):
        flag = name.replace("_", "-")
        default = option_text(DEFAULTS, name)
        command = click.option(
            f"--{flag}" if spec.metavar else f"--{flag}/--no-{flag}",
            field_name,
            default=None,
            metavar=spec.metavar or None,
            help=spec.help + (f"  [{default}]" if default else ""),
        )(command)
    return command


@click.command()
@click.option("--config", metavar="FILE", help="Configuration file.  [./triode.toml if there]")
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as JSON, one line.")
@_with_options
def serve(config: str | None, as_json: bool, **flags: Any) -> None:
    """Run the server.

    Every option is also a variable, TRIODE_WRITE_DEADLINE=5s, and a key of triode.toml,
    write_deadline = "5s"; flags win over variables, variables over the file.
    """
    worker = worker_here(os.environ)
    reread = partial(_read, worker, partial(load_here, flags, config=config, data=Path(DATA_HERE)))
    try:
        settings = reread()
    except Faults as exc:
        for fault in exc.faults:
            click.echo(f"triode: {fault}", err=True)
        sys.exit(WRONG_CONFIGURATION)
    _log_to_stderr(worker)
    set_log_level(settings)
    files = raise_open_files(settings.max_clients + SPARE_FILES)

    def announce(addresses: Sequence[Any]) -> None:
        urls = [url_of(address, tls=settings.tls) for address in addresses]
        if as_json:
            for warning in warnings(settings):
                logging.getLogger("triode").warning("%s", warning)
            click.echo(json.dumps({"listening": urls, "version": version()}))
        else:
            color = False if os.environ.get("NO_COLOR") else None
            click.echo(banner(settings, urls, files, version=version()), color=color)
        sys.stdout.flush()  # a pipe's reader wants it now

    if settings.workers > 1 and worker is None:
        from triode.app.cli.workers import Workers, command_here

        with _said(settings):
            sys.exit(trio.run(Workers(settings, announce, command_here()).run))
    run(settings, _silent if worker else announce, reread, worker)


def _read(worker: Worker | None, load: Callable[[], Settings]) -> Settings:
    """A worker's port is what the one that started it has taken."""
    settings = load()
    return settings if worker is None else replace(settings, port=worker.port)


def _silent(_addresses: Sequence[Any]) -> None:
    """Who has started the workers announces them."""


def run(
    settings: Settings,
    announce: Callable[[Sequence[Any]], None],
    reread: Callable[[], Settings] | None = None,
    worker: Worker | None = None,
) -> None:
    """Serve until told to stop; `announce` gets the socket addresses as soon as they are bound.
    `reread` reads the settings anew, for SIGHUP. `worker` says which of several this one is.
    """
    from triode.app.lanes.hypercorn import LifespanEnded  # the client commands need none of it
    from triode.app.log.log import LogBroken, LogError
    from triode.app.serve import serve as serve_forever
    from triode.app.service.running import NotLoaded

    # A mapped file that somebody cut short (`triode.rooms`) ends the process: not without a word.
    faulthandler.enable(file=2)
    serving = partial(serve_forever, settings, bound=announce, reread=reread, worker=worker)
    try:
        with _said(settings):
            trio.run(serving)
    except NotLoaded as error:
        click.echo(f"triode: --load: {error}", err=True)
        sys.exit(CANNOT_START)
    except LogBroken as error:
        click.echo(
            f"triode: --data: {error}. All answered writes are on the disk. Look at the disk, and "
            "start Triode again",
            err=True,
        )
        sys.exit(LOG_BROKEN)
    except LogError as error:
        if settings.log is None:
            click.echo(f"triode: --data: {error}\n{_DATA_ADVICE}", err=True)
        else:
            click.echo(f"triode: --log: {error}", err=True)
        sys.exit(CANNOT_START)
    except BaseExceptionGroup as group:
        ended, others = group.split(LifespanEnded)
        if ended is None or others is not None:
            raise
        click.echo(
            "triode: stopped, because one of its services failed; the log says why", err=True
        )
        sys.exit(FAILED)


@contextmanager
def _said(settings: Settings) -> Iterator[None]:
    """In the block: why nothing can be listened on is said, and ends the process."""
    try:
        yield
    except CannotListen as error:
        click.echo(f"triode: {error}", err=True)
        sys.exit(CANNOT_START)
    except OSError as exc:
        advice = "no such host" if isinstance(exc, gaierror) else _BIND_ADVICE.get(exc.errno or 0)
        if advice is None:
            raise
        click.echo(
            f"triode: cannot listen on {settings.host}, port {settings.port}: {advice}", err=True
        )
        sys.exit(CANNOT_START)


def raise_open_files(wanted: int) -> OpenFiles:
    """Raise this process' soft limit of open files to the hard one; never fails."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The kernel has a ceiling of its own and refuses "no limit"; this is its usual one, and plenty.
    limit = max(before, 1_048_576) if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (ValueError, OSError):
        limit = before
    return OpenFiles(limit=limit, before=before, wanted=wanted)


def _log_to_stderr(worker: Worker | None) -> None:
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)-7s %(name)s{worker or ''}  %(message)s",
    )
