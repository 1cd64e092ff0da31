"""What the commands that talk to a server have in common: their options, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import click
import httpx
import trio

from app.cli.render import DEFAULT_URL, explain
from app.http_client import CannotConnect, HttpClient, Refused

REFUSED: Final = 1
NO_ANSWER: Final = 3
INTERRUPTED: Final = 130
NO_ADVICE: Final[Mapping[int, str]] = {}


@dataclass(frozen=True, slots=True)
class Target:
    """The server to talk to, and how to print what it says."""

    url: str
    token: str | None
    as_json: bool
    transport: httpx.AsyncBaseTransport | None = None

    def run(
        self,
        work: Callable[[HttpClient], Awaitable[None]],
        *,
        advice: Mapping[int, str] = NO_ADVICE,
    ) -> None:
        """Do `work` with a client, and end the process as its outcome asks.

        `advice` says what to do about a refusal, by status.
        """
        try:
            trio.run(self._with_client, work)
        except Refused as exc:
            stop(explain(exc, has_token=self.token is not None, advice=advice), REFUSED)
        except CannotConnect as exc:
            stop(f"{exc}\nIs the server running? --url or TRIODE_URL says where.", NO_ANSWER)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    async def _with_client(self, work: Callable[[HttpClient], Awaitable[None]]) -> None:
        async with HttpClient(self.url, self.token, transport=self.transport) as client:
            await work(client)


def stop(message: str, code: int) -> NoReturn:
    """Say why on standard error, and end."""
    click.echo(message, err=True)
    sys.exit(code)


def note(message: str) -> None:
    """A remark that is not output: to standard error."""
    click.secho(message, err=True, dim=True)


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --url, --token and --json; it gets them as its argument `target`."""

    @click.option(
        "--url",
        envvar="TRIODE_URL",
        default=DEFAULT_URL,
        show_default=True,
        callback=_check_url,
        help="The server; or set TRIODE_URL.",
    )
    @click.option(
        "--token",
        envvar="TRIODE_TOKEN",
        callback=_check_token,
        metavar="TOKEN",
        help="Token to show; better in TRIODE_TOKEN, where `ps` does not see it.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one value a line.")
    @click.pass_context
    def wrapped(
        ctx: click.Context, /, url: str, token: str | None, as_json: bool, **arguments: Any
    ) -> None:
        transport = (ctx.obj or {}).get("transport")
        command(target=Target(url, token, as_json, transport), **arguments)

    return update_wrapper(wrapped, command)


def _check_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise click.BadParameter(f"{value!r} is not like http://127.0.0.1:8080", ctx, param)
    return value.rstrip("/")


def _check_token(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        # Not repeated: it may be most of a real one.
        raise click.BadParameter(
            "a token has printable ASCII characters only, no blanks", ctx, param
        )
    return value or None
