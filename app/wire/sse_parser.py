"""Reads a `text/event-stream` (WHATWG HTML, section 9.2.6), bytes in, events out; no I/O.

A parser of our own because the libraries at hand swallow comments, and a comment is the heartbeat
by which a client knows that a quiet stream still lives: here the caller has the bytes in hand.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

_LINE_END = re.compile(r"\r\n|\n|\r")


class StreamEvent(NamedTuple):
    """One event; `id` is the last id seen up to it, which is what a reconnect resumes from."""

    type: str
    data: str
    id: str


class SseParser:
    """Feed it the stream's bytes in order; a parser serves one connection."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_ms: int | None = None  # the server's wish for the next reconnect, if it had one
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._rest = ""
        self._id = last_id
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """The events that `chunk` completes. An event is complete with its empty line only."""
        text = self._rest + self._decode(chunk)
        # A CR at the end may be half of a CRLF: wait for what follows.
        held = "\r" if text.endswith("\r") else ""
        *lines, rest = _LINE_END.split(text[: len(text) - len(held)])
        self._rest = rest + held
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> StreamEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> StreamEvent | None:
        self.last_id = self._id
        event = StreamEvent(self._type or "message", "\n".join(self._data), self.last_id)
        complete = bool(self._data)
        self._type, self._data = "", []
        return event if complete else None
