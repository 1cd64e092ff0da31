"""`triode token new`, `list` and `revoke`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
import msgspec

from triode.app.cli.client import Target, server_options
from triode.app.cli.render import note, print_json, print_tokens
from triode.app.config.readers import duration, format_duration
from triode.app.remote.http_client import HttpClient


@click.group(short_help="Issue, list and revoke tokens.")
def token() -> None:
    """Issue, list and revoke the server's tokens; needs a token with admin rights."""


@token.command()
@click.option("--read", multiple=True, metavar="FILTER", help="May read this; repeatable.")
@click.option("--write", multiple=True, metavar="FILTER", help="May write this; repeatable.")
@click.option("--room", multiple=True, metavar="GLOB", help="May use these rooms; repeatable.")
@click.option("--metrics", is_flag=True, help="May read /metrics.")
@click.option("--admin", is_flag=True, help="May issue tokens and operate the server.")
@click.option("--all", "everything", is_flag=True, help="May read, write and use all rooms.")
@click.option(
    "--ttl", default="24h", show_default=True, help="How long it is valid: 15m, 24h, 30d."
)
@click.option("--label", default="", help="A name for it, shown in lists.")
@server_options
def new(
    target: Target,
    read: tuple[str, ...],
    write: tuple[str, ...],
    room: tuple[str, ...],
    metrics: bool,
    admin: bool,
    everything: bool,
    ttl: str,
    label: str,
) -> None:
    """Issue a token and print it, only once. It may do what you allow here, and nothing else.

    \b
      triode token new --read .prices --label ticker
      TRIODE_TOKEN=$(triode token new --all) triode watch .
    """
    ttl_s = _seconds(ttl)
    flags = {"admin": admin} | ({"metrics": True} if metrics else {})
    grant = _grant(read, write, room, flags, everything=everything)
    body = msgspec.json.encode({"grant": grant, "ttl_s": ttl_s, "label": label})

    async def work(client: HttpClient) -> None:
        response = await client.request("POST", "/tokens", content=body)
        if target.as_json:
            print_json(response.content, compact=True)
            return
        issued = response.json()
        # The secret alone on standard output, so that $(triode token new …) is just that.
        note(f"token {issued['id']}, ends in {format_duration(ttl_s)}; not shown again:")
        click.echo(issued["token"])

    target.run(work)


@token.command("list")
@server_options
def list_(target: Target) -> None:
    """List the valid tokens, without their secrets."""

    async def work(client: HttpClient) -> None:
        tokens: list[dict[str, Any]] = []
        params: list[tuple[str, str]] | None = []
        while params is not None:
            page = (await client.request("GET", "/tokens", params=params)).json()
            tokens += page["tokens"]
            after = page.get("next")
            params = None if after is None else [("after", after)]
        if target.as_json:
            print_json(msgspec.json.encode({"tokens": tokens}), compact=True)
        else:
            print_tokens(tokens)

    target.run(work)


@token.command()
@click.argument("token_id", metavar="ID")
@server_options
def revoke(target: Target, token_id: str) -> None:
    """End the token with this ID, and all its connections."""

    async def work(client: HttpClient) -> None:
        await client.request("DELETE", f"/tokens/{quote(token_id, safe='')}")
        if target.as_json:
            print_json(msgspec.json.encode({"revoked": token_id}), compact=True)
        else:
            click.echo(f"revoked {token_id}")

    target.run(work)


def _grant(
    read: tuple[str, ...],
    write: tuple[str, ...],
    room: tuple[str, ...],
    flags: dict[str, bool],
    *,
    everything: bool,
) -> dict[str, Any]:
    """The grant to ask for."""
    if everything:
        if read or write or room:
            raise click.UsageError("--all and --read, --write or --room exclude each other")
        return {"read": "*", "write": "*", "rooms": "*", **flags}
    if not (read or write or room or any(flags.values())):
        raise click.UsageError(
            "say what it may do: --read, --write, --room, --metrics, --admin or --all"
        )
    return {"read": read, "write": write, "rooms": room, **flags}


def _seconds(text: str) -> float:
    try:
        return duration(1.0)(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--ttl") from None
