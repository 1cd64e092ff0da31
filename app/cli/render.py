"""What the terminal shows. Results go to standard output, everything about them to standard error.

At a terminal output is laid out and coloured; into a pipe it is plain and complete. What a server
sends is never passed to the terminal with control characters in it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

from triode.app.config.readers import format_duration

if TYPE_CHECKING:
    from triode.app.remote.http_client import Refused

# DEL and C1, and what reorders text (bidirectional overrides): inside JSON strings they can be
# written as escapes without changing the value. C0 is escaped in any JSON already.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]|" + _UNSAFE.pattern)
# Laying out and colouring is for eyes; beyond this it only costs time.
_PRETTY_CHARS: Final = 500_000
_highlight = JSONHighlighter()


def escape(json_text: str) -> str:
    """JSON that is safe at a terminal, and is still the same JSON."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def clean(text: str) -> str:
    """Any text, made safe for a terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def clean_line(text: str) -> str:
    """Any text, made safe for one line of a terminal."""
    return clean(text).replace("\n", " ").replace("\t", " ")


def note(message: str) -> None:
    """A remark that is not output: to standard error."""
    dim = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    click.secho(message, err=True, dim=dim or None)


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


class LinePrinter:
    """Prints lines: coloured and cut to its width at a terminal, plain and whole into a pipe."""

    def __init__(self) -> None:
        self._console = Console() if sys.stdout.isatty() else None

    def print(self, line: Text) -> None:
        """One line."""
        if self._console is None:
            click.echo(line.plain)
        else:
            self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)

    def print_json(self, value: Any) -> None:
        """One value as a line of JSON."""
        click.echo(escape(msgspec.json.encode(value).decode()))


def value_text(value: Any) -> Text:
    """A value as compact JSON, coloured by its kind."""
    return _highlight(Text(escape(msgspec.json.encode(value).decode()), style="default"))


def amount(size: float) -> str:
    """Bytes, as people read them: `950 B`, `12.3 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def clock_text(unix_ms: float) -> str:
    """The local time of day, to the millisecond."""
    moment = datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone()
    return moment.strftime("%H:%M:%S.%f")[:-3]


def print_tokens(rows: Sequence[dict[str, Any]]) -> None:
    """A table of tokens."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "label", "ends", "read", "write", "rooms", "may"):
        table.add_column(column, overflow="fold")
    for row in rows:
        grant = row["grant"]
        scopes = [_scope(grant.get(name, [])) for name in ("read", "write", "rooms")]
        flags = " ".join(name for name in ("metrics", "admin") if grant.get(name))
        table.add_row(
            *map(Text, (row["id"], clean(row["label"]), _when(row["expires_at"]), *scopes, flags))
        )
    Console().print(table if rows else Text("no tokens", style="dim"))


def _scope(names: list[str]) -> str:
    if names == ["*"]:
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
            "Get a new token: this one is not valid."
            if has_token
            else "Give a token: --token or TRIODE_TOKEN."
        )
    return {
        403: "Use a token that may do this.",
        412: "Somebody has changed it since. Read it again, and decide again.",
    }.get(refused.status, "")
