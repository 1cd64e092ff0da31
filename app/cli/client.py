"""What the commands that talk to a server have in common: their options, and how they end."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import click
import httpx
import msgspec
import trio

from triode.app.cli import DEFAULT_URL
from triode.app.cli.render import clean, escape, explain
from triode.app.remote.http_client import CannotConnect, ClientError, HttpClient, Refused

REFUSED: Final = 1
NO_ANSWER: Final = 3
INTERRUPTED: Final = 130
NO_ADVICE: Final[Mapping[int, str]] = {}
_ADVICE_WHERE: Final = "Is the server running there? --url or TRIODE_URL says where."
_ADVICE_TRUST: Final = "If the certificate is your own, SSL_CERT_FILE=chain.pem says to trust it."
_ADVICE_START: Final = (
    "Start one with `triode serve`; if it runs elsewhere, --url or TRIODE_URL says where."
)


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
            with _alone():
                trio.run(self._with_client, work)
        except Refused as exc:
            text = explain(exc, has_token=self.token is not None, advice=advice)
            self._stop(text, exc.problem, REFUSED)
        except CannotConnect as exc:
            text = f"{clean(str(exc))}\n{self._where_to_look(exc)}"
            self._stop(text, {"title": "No answer", "detail": str(exc)}, NO_ANSWER)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)

    def _where_to_look(self, exc: CannotConnect) -> str:
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            return _ADVICE_TRUST
        return _ADVICE_START if self.url == DEFAULT_URL else _ADVICE_WHERE

    def _stop(self, text: str, problem: Mapping[str, Any], code: int) -> NoReturn:
        """Say why on standard error, in words or as JSON, and end."""
        stop(escape(msgspec.json.encode(problem).decode()) if self.as_json else text, code)

    async def _with_client(self, work: Callable[[HttpClient], Awaitable[None]]) -> None:
        async with HttpClient(self.url, self.token, transport=self.transport) as client:
            await work(client)


def stop(message: str, code: int) -> NoReturn:
    """Say why on standard error, and end."""
    click.echo(message, err=True)
    sys.exit(code)


@contextmanager
def _alone() -> Iterator[None]:
    """Take the one exception that matters out of the groups that nurseries wrap it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        every = list(_leaves(group))
        for kind in (KeyboardInterrupt, ClientError):
            found = next((exc for exc in every if isinstance(exc, kind)), None)
            if found is not None:
                raise found from None
        if len(every) == 1:
            raise every[0] from None
        raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc


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
        help="Token to use. Better set TRIODE_TOKEN, which `ps` does not show.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one value per line.")
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
