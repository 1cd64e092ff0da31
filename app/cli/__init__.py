"""The `triode` command.

Exit codes: 0 done, 1 the server refused, 2 the command line or the configuration is wrong, 3 there
was no answer, 130 interrupted.
"""

from __future__ import annotations

import click

from app.cli.document import delete, get, merge, set_
from app.cli.serve import serve
from app.cli.token import token
from app.cli.watch import watch


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="triode", prog_name="triode")
def main() -> None:
    """Triode: one JSON document, live, over Server-Sent Events and WebSocket.

    `triode serve` runs a server; the other commands talk to one.
    """


for command in (serve, get, set_, merge, delete, watch, token):
    main.add_command(command)
