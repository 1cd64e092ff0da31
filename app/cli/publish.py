"""`triode publish`: a message to a room, to one client, or to all that carry a tag."""

from __future__ import annotations

import click
import msgspec

from triode.app.cli.client import Target, server_options
from triode.app.cli.render import note, print_json
from triode.app.cli.value import read_value
from triode.app.remote.http_client import HttpClient


@click.command(
    short_help="Send a message to a room or a client.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("words", nargs=-1, metavar="ROOM EVENT [DATA]")
@click.option("--to", metavar="CLIENT", help="Send to this client only; leave out ROOM.")
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="NAME=VALUE",
    help="To all that carry this tag, repeatable (all of them); then without ROOM. Admins only.",
)
@server_options
def publish(target: Target, words: tuple[str, ...], to: str | None, tags: tuple[str, ...]) -> None:
    """Send a message: EVENT is its name, DATA is JSON, or else a text; - reads standard input.

    \b
      triode publish chat say '{"text": "hello"}'
      triode publish --to c_3k9… restart
      uptime | triode publish ops uptime -
    """
    if to and tags:
        raise click.UsageError("--to and --tag exclude each other")
    message = _addressee(list(words), to, tags)

    async def work(client: HttpClient) -> None:
        response = await client.request("POST", "/publish", content=message)
        if target.as_json:
            print_json(response.content, compact=True)
            return
        reached = response.json()["reached"]
        click.echo(f"reached {reached}")
        if not reached:
            note("nobody received it; triode top shows who is connected")

    target.run(work)


def _addressee(words: list[str], to: str | None, tags: tuple[str, ...]) -> bytes:
    """The body: to whom, the event, its data."""
    members: dict[str, object] = {}
    if to:
        members["to"] = to
    elif tags:
        members["tags"] = dict(map(_tag, tags))
    elif len(words) > 1:
        members["room"] = words.pop(0)
    if not 1 <= len(words) <= 2 or not members:
        raise click.UsageError("say ROOM EVENT [DATA], or with --to or --tag just EVENT [DATA]")
    if words[0].startswith("-"):
        raise click.UsageError(f"no such option: {words[0]}")
    members["event"] = words[0]
    members["data"] = msgspec.Raw(read_value(words[1]) if len(words) > 1 else b"null")
    return msgspec.json.encode(members)


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--tag")
    return name, value
