"""`triode cluster`: the Triodes that share a log, what is behind, and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from triode.app.cli.client import Target, server_options
from triode.app.cli.render import clean_line, print_json
from triode.app.cli.tail import ADMIN_ADVICE
from triode.app.service.cluster_words import is_behind, is_silent

if TYPE_CHECKING:
    from triode.app.remote.http_client import HttpClient

PIPE_WIDTH: Final = 120
NOT_SHARED: Final = (
    "This Triode has its document for itself. `triode serve --log valkey://HOST:PORT/0` shares one "
    "with others: docs/cluster.md."
)
# Something is to be done.
ATTENTION: Final = 1
_STATES: Final = {"open": "takes writes", "away": "is out of reach", "asking": "is being asked",
                  "recovering": "is being given back what it lost"}  # fmt: skip


@click.command(short_help="Show the Triodes that share a log, and what to do.")
@server_options
def cluster(target: Target) -> None:
    """Show the Triodes that share a log: where each stands, what is behind, what to do. Needs a
    token with admin rights. Exit code 1: there is something to do.

    \b
      triode cluster
      triode cluster --json | jq -r '.advice[]'
    """
    found: dict[str, Any] = {}

    async def ask(client: HttpClient) -> None:
        answer = (await client.request("GET", "/stats")).content
        found.update(msgspec.json.decode(answer).get("cluster", {}))

    target.run(ask, advice=ADMIN_ADVICE)
    if target.as_json:
        print_json(json.dumps(found or None).encode(), compact=True)
    elif not found:
        click.echo(NOT_SHARED)
    else:
        console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
        console.print(picture(found), soft_wrap=True)
    if found.get("advice"):
        sys.exit(ATTENTION)


def picture(facts: Mapping[str, Any]) -> RenderableType:
    """All of it in words."""
    return Group(_head(facts), Text(), node_table(facts), Text(), *advice_lines(facts))


def _head(facts: Mapping[str, Any]) -> Text:
    state = "open" if facts["live"] else facts["state"]
    nodes = facts["nodes"]
    saver = next((n["where"] for n in nodes if n["node"] == facts["saver"]), "nobody")
    text = Text("The log at ").append(clean_line(facts["server"]), style="cyan")
    text.append(f" {_STATES.get(state, state)}, in term {facts['term']}, up to {facts['seq']:,}.\n")
    count = "1 Triode shares" if len(nodes) == 1 else f"{len(nodes)} Triodes share"
    text.append(f"{count} it. None of them leads: the server has the order of all writes. ")
    return text.append(f"{clean_line(saver)} makes the snapshots.")


def node_table(facts: Mapping[str, Any]) -> Table:
    """A row for each Triode."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Triode", "node", "version"):
        table.add_column(name, no_wrap=True)
    for name in ("clients", "behind", "round trip", "rewinds", "given back", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for node in facts["nodes"]:
        mark, style = _mark(facts, node)
        table.add_row(
            Text().append(f"{mark} ", style=style).append(clean_line(node["where"])),
            Text(clean_line(node["node"]), style="dim"),
            Text(clean_line(node["version"]) + (", draining" if node["draining"] else "")),
            str(node["clients"]),
            _behind(node),
            f"{1000 * node['rtt_s']:.1f} ms",
            str(node["rewinds"] + node["reloads"] or "·"),
            str(node["given_back"] or "·"),
            Text(str(node["lost"] or "·"), style="red" if node["lost"] else ""),
        )
    return table


def _mark(facts: Mapping[str, Any], node: Mapping[str, Any]) -> tuple[str, str]:
    if node["node"] in facts["differ"]:
        return "≠", "red"
    return ("●", "yellow") if is_behind(node) or is_silent(node) else ("●", "green")


def _behind(node: Mapping[str, Any]) -> Text:
    if node["lag_s"] and not node["lag_ops"]:
        return Text(f"not known, {node['lag_s']:.1f} s", style="yellow")
    if is_behind(node):
        return Text(f"{node['lag_ops']:,} writes, {node['lag_s']:.1f} s", style="yellow")
    return Text("·" if not node["lag_ops"] else f"{node['lag_ops']:,}")


def advice_lines(facts: Mapping[str, Any]) -> list[RenderableType]:
    """What to do."""
    if not facts["advice"]:
        return [Text("All is well.", style="green")]
    return [Text(f"! {clean_line(line)}", style="yellow") for line in facts["advice"]]
