"""What the terminal shows. Results go to standard output, everything about them to standard error.

At a terminal output is laid out and coloured; into a pipe it is plain and complete. What a server
sends is never passed to the terminal with control characters in it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from app.settings import Settings, option_text
from app.sse_parser import StreamEvent
from app.units import format_duration

if TYPE_CHECKING:
    from app.http_client import Refused

# DEL and C1, and what reorders text (bidirectional overrides): inside JSON strings they can be
# written as escapes without changing the value. C0 is escaped in any JSON already.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]|" + _UNSAFE.pattern)
# Laying out and colouring is for eyes; beyond this it only costs time.
_PRETTY_CHARS: Final = 500_000
DEFAULT_URL: Final = "http://127.0.0.1:8080"
_highlight = JSONHighlighter()


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


def escape(json_text: str) -> str:
    """JSON that is safe at a terminal, and is still the same JSON."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def clean(text: str) -> str:
    """Any text, made safe for a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def print_json(data: bytes, *, compact: bool) -> None:
    """A JSON document: laid out at a terminal, else or when asked as it came, on one line."""
    if compact or not sys.stdout.isatty():
        click.echo(data)
        return
    text = escape(msgspec.json.format(data, indent=2).decode())
    if len(text) > _PRETTY_CHARS:
        click.echo(text)
    else:
        Console().print(_highlight(Text(text)), soft_wrap=True)


def print_tokens(rows: Sequence[dict[str, Any]]) -> None:
    """A table of tokens."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "label", "ends", "read", "write", "rooms", "admin"):
        table.add_column(column, overflow="fold")
    for row in rows:
        grant = row["grant"]
        scopes = [_scope(grant.get(name)) for name in ("read", "write", "rooms")]
        admin = "yes" if grant.get("admin") else ""
        table.add_row(
            *map(Text, (row["id"], clean(row["label"]), _when(row["expires_at"]), *scopes, admin))
        )
    Console().print(table if rows else Text("no tokens", style="dim"))


def _scope(names: list[str] | None) -> str:
    if names is None:
        return "all"
    return clean(" ".join(names)) if names else "-"


def _when(unix_s: float | None) -> str:
    if unix_s is None:
        return "never"
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def explain(refused: Refused, *, has_token: bool, advice: Mapping[int, str]) -> str:
    """A refusal for people: what was refused, where the fault is, and what can be done.

    `advice` is the command's own, by status; it wins.
    """
    problem = refused.problem
    lines = [clean(str(refused))]
    lines += _pointer(problem)
    remedy = advice.get(refused.status) or _advice(refused, has_token=has_token)
    if remedy:
        lines.append(remedy)
    return "\n".join(lines)


def _pointer(problem: dict[str, Any]) -> list[str]:
    """The text at fault with a mark under its column, if the server told both."""
    column = problem.get("column")
    texts = [problem.get(name) for name in ("text", "filter", "path")]
    text = next((clean(found) for found in texts if isinstance(found, str)), None)
    if not isinstance(column, int) or text is None or not 1 <= column <= len(text) + 1:
        return []
    return [f"  {text}", f"  {' ' * (column - 1)}^"]


def _advice(refused: Refused, *, has_token: bool) -> str:
    if refused.retry_after_s is not None:
        return f"Try again in {format_duration(refused.retry_after_s)}."
    if refused.status == 401:
        return (
            "Get a new token: this one does not hold."
            if has_token
            else "Give a token: --token or TRIODE_TOKEN."
        )
    return {
        403: "Use a token that is allowed to.",
        412: "Somebody changed it meanwhile: get it again, and decide again.",
    }.get(refused.status, "")


class EventPrinter:
    """Prints the events of a stream, one line each.

    As JSON the line is the object that a WebSocket would have carried: type, id, and the members.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console() if sys.stdout.isatty() else None

    def take(self, event: StreamEvent) -> None:
        """Print one event."""
        try:
            body = msgspec.json.decode(event.data)
        except msgspec.DecodeError:
            body = None
        if not isinstance(body, dict):
            body = {"data": event.data}
        if self._as_json:
            whole = {"type": event.type, **({"id": event.id} if event.id else {}), **body}
            click.echo(escape(msgspec.json.encode(whole).decode()))
            return
        for line in _lines(event.type, body):
            if self._console is None:
                click.echo(line.plain)
            else:
                self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)


def _lines(kind: str, body: dict[str, Any]) -> list[Text]:
    if kind == "snapshot":
        return [_place("now", "cyan", item["path"], item["value"]) for item in body["items"]]
    if kind == "update":
        return [_place(_clock(body), "dim", body["path"], body["value"])]
    if kind == "delete":
        line = _place(_clock(body), "dim", body["path"])
        return [line.append("gone", style="red")]
    if kind == "message":
        line = _place(_clock(body), "dim", str(body.get("room") or "to you"))
        line.append(f"{clean(str(body.get('event')))} ", style="magenta")
        return [line.append_text(_value(body.get("data")))]
    style = {"gap": "bold yellow", "expiring": "yellow", "error": "bold red"}.get(kind, "dim")
    return [Text().append(f"{kind:<12} ", style=style).append_text(_value(body))]


def _place(mark: str, style: str, path: str, *value: Any) -> Text:
    line = Text().append(f"{mark:<12} ", style=style).append(f"{clean(path)} ", style="bold")
    for each in value:
        line.append_text(_value(each))
    return line


def _value(value: Any) -> Text:
    return _highlight(Text(escape(msgspec.json.encode(value).decode()), style="default"))


def _clock(body: dict[str, Any]) -> str:
    moment = datetime.fromtimestamp(body.get("time", 0) / 1000, UTC).astimezone()
    return moment.strftime("%H:%M:%S.%f")[:-3]


def banner(
    settings: Settings, addresses: Sequence[str], files: OpenFiles, *, version: str
) -> RenderableType:
    """The start-up block: the URLs, how they are served, and what limits are in force."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for address in addresses:
        rows.add_row("listening", Text(address, style="bold cyan"))
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
    warnings = list(settings.warnings)
    if not files.enough:
        warnings.append(
            f"{files.limit} open files are too few for {settings.max_clients} clients: raise the "
            f"hard limit to {files.wanted} (ulimit -Hn, LimitNOFILE= of systemd), or lower "
            "--max-clients."
        )
    return warnings


def _reachable(url: str) -> str:
    """A URL to connect to from here: the unspecified addresses are for listening only."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _hint(settings: Settings, address: str) -> Text:
    selection = ".host.cpu[*].busy" if settings.demo else "."
    text = Text("\nWatch it:  ", style="dim")
    text.append(f"curl -gN '{address}/events?filter={selection}'", style="default")
    text.append("\n           ", style="dim")
    url = "" if address == DEFAULT_URL else f"--url {address} "
    return text.append(
        f"triode watch {url}'{'.host.net' if settings.demo else '.'}'", style="default"
    )
