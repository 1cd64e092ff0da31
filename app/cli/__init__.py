"""The `triode` command.

Exit codes: 0 done, 1 the server refused, 2 the command line or the configuration is wrong, 3 there
was no answer, 130 interrupted.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

# Command → where it is. Imported when it is run: the HTTP client is 13 MB that a server never
# needs.
COMMANDS: Final = {
    "serve": ("app.cli.serve", "serve"),
    "watch": ("app.cli.watch", "watch"),
    "tail": ("app.cli.tail", "tail"),
    "top": ("app.cli.top", "top"),
    "get": ("app.cli.document", "get"),
    "set": ("app.cli.document", "set_"),
    "merge": ("app.cli.document", "merge"),
    "delete": ("app.cli.document", "delete"),
    "publish": ("app.cli.publish", "publish"),
    "load": ("app.cli.load", "load"),
    "token": ("app.cli.token", "token"),
    "completion": ("app.cli.complete", "completion"),
}


class Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order in which people meet them."""
        return list(COMMANDS)

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

    `triode serve` runs a server; the other commands talk to one.
    """
