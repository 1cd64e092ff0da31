"""The `triode` command.

Exit codes: 0 done, 1 the server refused, 2 the command line or the configuration is wrong, 3 there
was no answer, 130 interrupted.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from importlib import import_module
from typing import Any, Final

import click

from triode.limits.known import did_you_mean

# Where `triode serve` listens if nobody says otherwise, and where the other commands look for it.
DEFAULT_URL: Final = "http://127.0.0.1:8080"

# Command → where it is. Imported when it is run: the HTTP client is 13 MB that a server never
# needs.
COMMANDS: Final = {
    "serve": ("triode.app.cli.serve", "serve"),
    "watch": ("triode.app.cli.watch", "watch"),
    "tail": ("triode.app.cli.tail", "tail"),
    "top": ("triode.app.cli.top", "top"),
    "get": ("triode.app.cli.document", "get"),
    "set": ("triode.app.cli.document", "set_"),
    "merge": ("triode.app.cli.document", "merge"),
    "delete": ("triode.app.cli.document", "delete"),
    "publish": ("triode.app.cli.publish", "publish"),
    "load": ("triode.app.cli.load", "load"),
    "token": ("triode.app.cli.token", "token"),
    "log": ("triode.app.cli.log", "log"),
    "cluster": ("triode.app.cli.cluster", "cluster"),
    "backup": ("triode.app.cli.backup", "backup"),
    "restore": ("triode.app.cli.backup", "restore"),
    "check": ("triode.app.cli.check", "check"),
    "dump": ("triode.app.cli.check", "dump"),
    "completion": ("triode.app.cli.complete", "completion"),
}


# Of a write to standard output: the disk is full, the pipe has nobody at its end.
UNWRITABLE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command. What the terminal's encoding lacks is shown as an escape."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        if not args and not kwargs and sys.argv[1:2] == ["serve"]:
            # For a process of its own: what comes from now on waits for `Reload.on_hangup`.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        try:
            result = super().main(*args, **kwargs)
            sys.stdout.flush()
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            # Python would try to write the rest once more at its end, and complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            click.echo(f"triode: the output cannot be written: {error.strerror}", err=True)
            sys.exit(1)
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order in which people meet them."""
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As of any group; of an unknown one the nearest is named."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}{did_you_mean(name, list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None when there is none."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command: click.Command = getattr(import_module(place[0]), place[1])
        return command


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="triode", prog_name="triode")
def main() -> None:
    """Triode: one JSON document, live, over Server-Sent Events and WebSocket.

    `triode serve` runs a server; most other commands talk to one. restore, check and dump work
    on the folder of a server that is not running.
    """
