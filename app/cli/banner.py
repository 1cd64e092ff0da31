"""The start-up block of `triode serve`: where it listens, and what limits are in force.

Not with `rich`, as all else that the terminal shows: a server would keep its 3 MB for ever.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from triode.app.cli import DEFAULT_URL
from triode.app.config.option_text import option_text
from triode.app.config.settings import Settings
from triode.app.config.validation import warnings
from triode.app.log.folder import VOLATILE, file_system

# Begins the address of a Unix socket.
UNIX: Final = "unix:"
_LABEL_CHARS: Final = 12


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


def banner(settings: Settings, addresses: Sequence[str], files: OpenFiles, *, version: str) -> str:
    """The start-up block: the URLs, how they are served, and what limits are in force. Coloured,
    which `click.echo` takes out again where it has no place.
    """
    lines = [click.style(f"Triode {version}", bold=True)]
    for address in addresses:
        lines.append(_row("listening", _address(address)))
    if addresses and not addresses[0].startswith(UNIX):
        lines.append(_row("console", _address(f"{_reachable(addresses[0])}/")))
    lines.append(_row("document", _kept(settings)))
    lines.append(_row("lanes", _lanes(settings)))
    lines += [_row(label, text) for label, text in _limits(settings)]
    lines.append(_row("open files", _files(files)))
    lines.append(_row("access", _access(settings)))
    for warning in _all_warnings(settings, files):
        lines.append(click.style(f"! {warning}", fg="yellow"))
    if addresses:
        lines += ["", *_hint(settings, _reachable(addresses[0]))]
    return "\n".join([*lines, ""])


def _row(label: str, text: str) -> str:
    return click.style(f"{label:{_LABEL_CHARS}}", dim=True) + text


def _address(text: str) -> str:
    return click.style(text, fg="cyan", bold=True)


def url_of(address: Any, *, tls: bool) -> str:
    """The URL of a socket address: (host, port) or, for IPv6, (host, port, flow, scope). That of a
    Unix socket, which is its path, is `unix:PATH`.
    """
    if not isinstance(address, tuple):
        return f"{UNIX}{os.fsdecode(address)}"
    host, port = str(address[0]), address[1]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _kept(settings: Settings) -> str:
    if settings.log is not None:
        return f"shared, in {settings.log}"
    if settings.data is None:
        return "in memory: it ends with this process (--data DIR keeps it)"
    promise = {
        "full": "what is answered outlives a power failure",
        "relaxed": "what is answered outlives a crash, not a power failure",
    }
    where = f"kept in {settings.data.absolute()}"
    if file_system(settings.data) in VOLATILE:
        return f"{where}, which is in memory: it ends with a restart of the machine"
    return f"{where}; {promise[settings.durability]}"


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


def _files(files: OpenFiles) -> str:
    text = f"{files.limit:,}".replace(",", " ")
    if not files.enough:
        text = click.style(text, fg="yellow", bold=True)
    if files.limit != files.before:
        text += click.style(f" (raised from {files.before})", dim=True)
    return text


def _access(settings: Settings) -> str:
    if not settings.auth:
        who = "everyone on this machine" if settings.loopback else "everyone"
        return f"no token needed: {who} may read and write"
    kinds = [name for name, on in (("tokens", True), ("JWT", settings.jwt_key is not None)) if on]
    text = f"{' or '.join(kinds)} needed"
    if settings.anonymous_read:
        text += f"; without one, read {' '.join(settings.anonymous_read)}"
    return text + (", over TLS" if settings.tls else "")


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


def _hint(settings: Settings, address: str) -> list[str]:
    selection = ".host.cpu[*].busy" if settings.demo else "."
    # The terminal's commands read the variable by themselves.
    token = '-H "Authorization: Bearer $TRIODE_TOKEN" ' if settings.auth else ""
    label = click.style("Watch it:  ", dim=True)
    if address.startswith(UNIX):
        path = shlex.quote(address.removeprefix(UNIX))
        url = f"http://localhost/events?filter={selection}"
        return [f"{label}curl -gN --unix-socket {path} {token}'{url}'"]
    url = "" if address == DEFAULT_URL else f"--url {address} "
    watched = ".host.net" if settings.demo else "."
    return [
        f"{label}curl -gN {token}'{address}/events?filter={selection}'",
        f"           {_program()} watch {url}'{watched}'",
    ]


def _program() -> str:
    """What to type for `triode` here: `make` starts one that is not on the path."""
    is_elsewhere = Path(sys.argv[0]).name == "triode" and shutil.which("triode") is None
    return shlex.quote(sys.argv[0]) if is_elsewhere else "triode"
