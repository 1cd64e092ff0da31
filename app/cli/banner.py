"""The start-up block of `triode serve`: where it listens, and what limits are in force."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from triode.app.cli.render import DEFAULT_URL
from triode.app.config.settings import Settings, option_text
from triode.app.config.validation import warnings


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """How many files this process may have open, and how many it could before we asked for more."""

    limit: int
    before: int
    wanted: int

    @property
    def enough(self) -> bool:
        """Whether every client that is allowed in finds a descriptor."""
        return self.limit >= self.wanted


def banner(
    settings: Settings, addresses: Sequence[str], files: OpenFiles, *, version: str
) -> RenderableType:
    """The start-up block: the URLs, how they are served, and what limits are in force."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for address in addresses:
        rows.add_row("listening", Text(address, style="bold cyan"))
    if addresses:
        rows.add_row("console", Text(f"{_reachable(addresses[0])}/", style="bold cyan"))
    rows.add_row("document", _kept(settings))
    rows.add_row("lanes", _lanes(settings))
    for label, text in _limits(settings):
        rows.add_row(label, text)
    rows.add_row("open files", _files(files))
    rows.add_row("access", _access(settings))
    parts: list[RenderableType] = [Text(f"Triode {version}", style="bold"), rows]
    parts += [Text(f"! {warning}", style="yellow") for warning in _all_warnings(settings, files)]
    if addresses:
        parts.append(_hint(settings, _reachable(addresses[0])))
    return Group(*parts, Text())


def url_of(address: tuple[Any, ...], *, tls: bool) -> str:
    """The URL of a socket address: (host, port) or, for IPv6, (host, port, flow, scope)."""
    host, port = str(address[0]), address[1]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _kept(settings: Settings) -> str:
    if settings.data is None:
        return "in memory: it ends with this process (--data DIR keeps it)"
    promise = {
        "full": "what is answered outlives a power failure",
        "relaxed": "what is answered outlives a crash, not a power failure",
    }
    return f"kept in {settings.data.absolute()}; {promise[settings.durability]}"


def _lanes(settings: Settings) -> str:
    rest = "TLS, HTTP/2 and all else" if settings.tls else "all else"
    return f"event streams and WebSockets: native; {rest}: Hypercorn"


def _limits(settings: Settings) -> list[tuple[str, str]]:
    """Label and text of each row about limits; every number as the option would be written."""

    def shown(name: str) -> str:
        return option_text(settings, name)

    clients = f"{settings.max_clients:,} at once".replace(",", " ")
    for name, whose in (("max_clients_per_ip", "address"), ("max_clients_per_token", "token")):
        if getattr(settings, name):
            clients += f", {shown(name)} of one {whose}"
    rates = f"HTTP {_rate(shown('http_rate'))}; WebSocket {_rate(shown('ws_rate'))}"
    sizes = (
        f"request {shown('max_body_bytes')}, message {shown('max_message_bytes')}, "
        f"depth {settings.max_depth}"
    )
    queue = f"{settings.queue_items} events or {shown('queue_bytes')} of a slow client"
    times = (
        f"heartbeat {shown('heartbeat')}, idle {shown('idle')}; "
        f"deadlines: write {shown('write_deadline')}, head {shown('head_deadline')}"
    )
    history = f"{settings.history_items:,} changes or {shown('history_bytes')}".replace(",", " ")
    return [
        ("clients", clients),
        ("rates", rates),
        ("sizes", sizes),
        ("queue", queue),
        ("times", times),
        ("history", history),
    ]


def _rate(text: str) -> str:
    if text == "0":
        return "without limit"
    rps, _, burst = text.partition("/")
    return f"{rps}/s, bursts of {burst}"


def _files(files: OpenFiles) -> Text:
    text = Text(f"{files.limit:,}".replace(",", " "), style="" if files.enough else "bold yellow")
    if files.limit != files.before:
        text.append(f" (raised from {files.before})", style="dim")
    return text


def _access(settings: Settings) -> Text:
    if not settings.auth:
        who = "everyone on this machine" if settings.loopback else "everyone"
        return Text(f"no token needed: {who} may read and write")
    kinds = [name for name, on in (("tokens", True), ("JWT", settings.jwt_key is not None)) if on]
    text = f"{' or '.join(kinds)} needed"
    if settings.anonymous_read:
        text += f"; without one, read {' '.join(settings.anonymous_read)}"
    return Text(text + (", over TLS" if settings.tls else ""))


def _all_warnings(settings: Settings, files: OpenFiles) -> list[str]:
    advice = list(warnings(settings))
    if not files.enough:
        advice.append(
            f"{files.limit} open files are too few for {settings.max_clients} clients: raise the "
            f"hard limit to {files.wanted} (ulimit -Hn, LimitNOFILE= of systemd), or lower "
            "--max-clients."
        )
    return advice


def _reachable(url: str) -> str:
    """A URL to connect to from here: the unspecified addresses are for listening only."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _hint(settings: Settings, address: str) -> Text:
    selection = ".host.cpu[*].busy" if settings.demo else "."
    text = Text("\nWatch it:  ", style="dim")
    # The terminal's commands read the variable by themselves.
    token = '-H "Authorization: Bearer $TRIODE_TOKEN" ' if settings.auth else ""
    text.append(f"curl -gN {token}'{address}/events?filter={selection}'", style="default")
    text.append("\n           ", style="dim")
    url = "" if address == DEFAULT_URL else f"--url {address} "
    return text.append(
        f"{_program()} watch {url}'{'.host.net' if settings.demo else '.'}'", style="default"
    )


def _program() -> str:
    """What to type for `triode` here: `make` starts one that is not on the path."""
    is_elsewhere = Path(sys.argv[0]).name == "triode" and shutil.which("triode") is None
    return shlex.quote(sys.argv[0]) if is_elsewhere else "triode"
