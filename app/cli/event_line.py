"""The events of a stream as lines, for `triode tail`."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rich.text import Text

from triode.app.cli.render import LinePrinter, clean_line, clock_text, value_text
from triode.app.wire.sse_parser import StreamEvent

_LABEL: Final = 12
_STYLES: Final = {
    "gap": "bold yellow",
    "expiring": "yellow",
    "closing": "yellow",
    "error": "bold red",
}


def body_of(event: StreamEvent) -> dict[str, Any]:
    """The members of an event; whatever is not an object stands under `data`."""
    try:
        body = msgspec.json.decode(event.data)
    except msgspec.DecodeError:
        body = event.data
    if not isinstance(body, dict):
        return {"data": body}
    if event.type == "connected":
        # It opens this stream to others, and what a terminal shows goes into logs.
        body.pop("secret", None)
    return body


class EventPrinter:
    """Prints events: lines for people, or JSON.

    As JSON an event is the object that a WebSocket would have carried: type, id, and the members.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lines = LinePrinter()

    def take(self, event: StreamEvent) -> None:
        """Print one event; a snapshot is a line per item."""
        body = body_of(event)
        if self._as_json:
            position = {"id": event.id} if event.id else {}
            self._lines.print_json({"type": event.type, **position, **body})
            return
        for line in _lines(event.type, body):
            self._lines.print(line)

    def take_end(self, end: dict[str, Any]) -> None:
        """Print one entry of the server's log of ends."""
        if self._as_json:
            self._lines.print_json({"type": "end", **end})
            return
        line = _begin(clock_text(end.get("time", 0)), "dim")
        line.append("end ", style="magenta")
        line.append(f"{clean_line(str(end.get('reason')))} ", style="bold")
        for name in ("transport", "client", "ip"):
            line.append(f"{clean_line(str(end.get(name)))} ", style="dim")
        line.rstrip()
        self._lines.print(line)


def _lines(kind: str, body: dict[str, Any]) -> list[Text]:
    if kind == "snapshot":
        return [_place("now", "cyan", item["path"], item["value"]) for item in body["items"]]
    time = clock_text(body.get("time", 0))
    if kind == "update":
        return [_place(time, "dim", body["path"], body["value"])]
    if kind == "delete":
        return [_place(time, "dim", body["path"]).append("gone", style="red")]
    if kind == "message":
        line = _place(time, "dim", str(body.get("room") or "to you"))
        line.append(f"{clean_line(str(body.get('event')))} ", style="magenta")
        return [line.append_text(value_text(body.get("data")))]
    return [_begin(kind, _STYLES.get(kind, "dim")).append_text(value_text(body))]


def _place(mark: str, style: str, path: str, *value: Any) -> Text:
    line = _begin(mark, style).append(f"{clean_line(path)} ", style="bold")
    for each in value:
        line.append_text(value_text(each))
    return line


def _begin(mark: str, style: str) -> Text:
    return Text().append(f"{clean_line(mark):<{_LABEL}} ", style=style)
