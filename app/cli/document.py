"""`triode get`, `set`, `merge` and `delete`: the document from the command line."""

from __future__ import annotations

from collections.abc import Mapping

import click

from triode.app.cli.client import NO_ADVICE, Target, server_options
from triode.app.cli.complete import complete_filter
from triode.app.cli.render import print_json
from triode.app.cli.value import read_value
from triode.app.remote.http_client import HttpClient

# Or -5 would be taken for an option; `read_value` sees to the options that were mistyped.
NEGATIVE_NUMBERS = {"ignore_unknown_options": True}
IF_HELP = "Only if the place has not changed since this position."
AT_HELP = "Wait until the server has come to this position, as a write printed it."
KEY_HELP = "A name for this write: sent again with the same name, it is done only once."


@click.command(short_help="Print what a path or filter selects.")
@click.argument("path", default=".", shell_complete=complete_filter)
@click.option("--at", metavar="POSITION", help=AT_HELP)
@server_options
def get(target: Target, path: str, at: str | None) -> None:
    """Print the value at PATH, or every place a filter selects.

    \b
      triode get .host.memory
      triode get '.host.cpu[*].busy'
      triode get '$..[?@.pid == 1]'
    """

    async def work(client: HttpClient) -> None:
        params = [("path", path)] if at is None else [("path", path), ("at", at)]
        response = await client.request("GET", "/store", params=params)
        print_json(response.content, compact=target.as_json)

    target.run(work)


@click.command("set", short_help="Set a place.", context_settings=NEGATIVE_NUMBERS)
@click.argument("path", shell_complete=complete_filter)
@click.argument("value")
@click.option("--create", is_flag=True, help="Make missing parents.")
@click.option("--ttl", type=float, metavar="SECONDS", help="The place ends after that time.")
@click.option("--if", "position", metavar="POSITION", help=IF_HELP)
@click.option("--key", metavar="TEXT", help=KEY_HELP)
@server_options
def set_(
    target: Target,
    path: str,
    value: str,
    create: bool,
    ttl: float | None,
    position: str | None,
    key: str | None,
) -> None:
    """Set PATH to VALUE: JSON, or else a text. - reads standard input.

    \b
      triode set .greeting hello
      triode set '.users[0]' '{"name": "Ada"}'
      triode set . - < document.json
      triode set .online.ada true --ttl 30
    """
    params = [("path", path)] + ([("create", "true")] if create else [])
    params += [] if ttl is None else [("ttl", f"{ttl:g}")]
    advice = {} if create else {404: "--create makes what is missing on the way."}
    body = read_value(value)
    _write(target, "PUT", params, body, position=position, key=key, advice=advice)


@click.command(short_help="Merge members into a place.", context_settings=NEGATIVE_NUMBERS)
@click.argument("path", shell_complete=complete_filter)
@click.argument("value")
@click.option("--if", "position", metavar="POSITION", help=IF_HELP)
@click.option("--key", metavar="TEXT", help=KEY_HELP)
@server_options
def merge(target: Target, path: str, value: str, position: str | None, key: str | None) -> None:
    """Merge VALUE into PATH (RFC 7396): members replace, null removes. - reads standard input.

    \b
      triode merge .config '{"theme": "dark", "old": null}'
    """
    kind = "application/merge-patch+json"
    params, body = [("path", path)], read_value(value)
    _write(target, "PATCH", params, body, content_type=kind, position=position, key=key)


@click.command(short_help="Remove a place.")
@click.argument("path", shell_complete=complete_filter)
@click.option("--if", "position", metavar="POSITION", help=IF_HELP)
@click.option("--key", metavar="TEXT", help=KEY_HELP)
@server_options
def delete(target: Target, path: str, position: str | None, key: str | None) -> None:
    """Remove PATH."""
    _write(target, "DELETE", [("path", path)], None, position=position, key=key)


def _write(
    target: Target,
    method: str,
    params: list[tuple[str, str]],
    body: bytes | None,
    *,
    content_type: str = "application/json",
    position: str | None,
    key: str | None,
    advice: Mapping[int, str] = NO_ADVICE,
) -> None:
    headers = {"If-Match": f'"{position}"'} if position else {}
    if key is not None:
        headers["Idempotency-Key"] = key

    async def work(client: HttpClient) -> None:
        response = await client.request(
            method,
            "/store",
            params=params,
            content=body,
            content_type=content_type,
            headers=headers,
        )
        if target.as_json:
            print_json(response.content, compact=True)
        else:
            click.echo(f"ok, at {response.json()['id']}")

    target.run(work, advice=advice)
