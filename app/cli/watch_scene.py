"""The picture of `triode watch`: every selected value, what just changed standing out, the course
of the numbers, and below it the last changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from triode.app.cli.diff_line import delta_text, diff_line, path_text, style_of
from triode.app.cli.event_line import body_of
from triode.app.cli.render import clean_line, value_text
from triode.app.cli.screen import Scroll, sparkline, spread
from triode.app.cli.view import Views
from triode.app.wire.sse_parser import StreamEvent
from triode.store.change import Edit
from triode.store.path import Path
from triode.store.value import Json

HOT_S: Final = 1.5  # how long a change stands out
COURSE: Final = 16  # values of a number that are remembered
RATE_S: Final = 5.0
MOST_LEAVES: Final = 20_000  # more than anybody scrolls through, and drawn in some 10 ms
MOST_TOUCHED: Final = 20_000
_KEYS: Final = "↑↓ PgUp PgDn scroll   space pause   q quit"


@dataclass(slots=True)
class Touch:
    """What is remembered of a leaf that has changed."""

    edit: Edit
    at_s: float
    course: deque[float] = field(default_factory=lambda: deque(maxlen=COURSE))


class WatchScene:
    """Fed with events; `clock` gives seconds of any one clock."""

    def __init__(self, filters: Sequence[str], *, clock: Callable[[], float]) -> None:
        self._filters = [clean_line(text) for text in filters]
        self._clock = clock
        self._views = Views()
        self._touched: dict[Path, Touch] = {}  # in the order of their last change
        self._last: deque[tuple[Edit, float | None]] = deque(maxlen=32)
        self._changes: deque[float] = deque(maxlen=50_000)
        self._known: set[str] = set()
        self._scroll = Scroll()
        self._frozen: RenderableType | None = None
        self._paused = False
        self._status = ("connecting", "yellow")
        self._position = ""

    # ---- what happens ----

    def take(self, event: StreamEvent) -> None:
        """An event of the stream."""
        body = body_of(event)
        if event.type == "connected":
            self._status = ("live", "green")
        elif event.type in ("gap", "expiring", "closing"):
            self._status = (event.type, "yellow")
        leaves = self._views.take(event.type, body)
        self._position = event.id
        if event.type == "snapshot":
            if not body.get("more"):
                self._status = ("live", "green")
            if body["filter"] not in self._known:  # what was there is no change
                if not body.get("more"):
                    self._known.add(body["filter"])
                return
        now_s = self._clock()
        for leaf in leaves:
            self._touch(leaf, now_s, body.get("time"))

    def notice(self, text: str) -> None:
        """Something about the connection."""
        self._status = (clean_line(text), "green" if text.startswith("connected") else "yellow")

    def press(self, key: str) -> None:
        """Scroll, or hold the picture still."""
        if key == "space":
            self._paused = not self._paused
            self._frozen = None
        elif not self._paused:
            self._scroll.press(key)

    def _touch(self, edit: Edit, now_s: float, unix_ms: float | None) -> None:
        touch = self._touched.pop(edit.path, None)
        if touch is None:
            touch = Touch(edit, now_s)
            if _is_number(edit.before):
                touch.course.append(edit.before)  # type: ignore[arg-type] # it is a number
            if len(self._touched) >= MOST_TOUCHED:
                del self._touched[next(iter(self._touched))]
        touch.edit, touch.at_s = edit, now_s
        if _is_number(edit.after):
            touch.course.append(edit.after)  # type: ignore[arg-type] # it is a number
        self._touched[edit.path] = touch
        self._changes.append(now_s)
        self._last.append((edit, unix_ms))

    # ---- the picture ----

    def draw(self, width: int, height: int) -> RenderableType:
        """The picture now; the same one again while it is held still."""
        if self._paused and self._frozen is not None:
            return self._frozen
        self._frozen = self._draw(width, height)
        return self._frozen

    def _draw(self, width: int, height: int) -> RenderableType:
        log_lines = min(8, height // 4)
        lines = max(1, height - log_lines - 4)
        leaves = self._views.leaves(MOST_LEAVES)
        seen = self._scroll.window(list(leaves.items()), lines)
        table = self._table(seen, width)
        blank = Text("\n" * (lines - len(seen) - 1)) if len(seen) < lines else None
        log = [_log_line(*entry) for entry in islice(reversed(self._last), log_lines)]
        parts: list[RenderableType] = [self._head(width), Text(), table]
        if blank is not None:
            parts.append(blank)
        parts.append(self._rule(len(leaves), lines, width))
        parts += log + [Text() for _ in range(log_lines - len(log))]
        parts.append(Text(_KEYS, style="dim", no_wrap=True, overflow="ellipsis", end=""))
        return Group(*parts)

    def _head(self, width: int) -> Text:
        now_s = self._clock()
        while self._changes and self._changes[0] < now_s - RATE_S:
            self._changes.popleft()
        text, style = ("paused", "cyan") if self._paused else self._status
        left = Text().append("● ", style=style).append("triode watch ", style="bold")
        left.append(" ".join(self._filters), style="cyan")
        right = Text().append(f"{text}  ", style=style)
        right.append(f"{len(self._changes) / RATE_S:.1f} changes/s  ")
        return spread(left, right.append(self._position, style="dim"), width)

    def _rule(self, leaves: int, lines: int, width: int) -> Text:
        hint = self._scroll.hint(leaves, lines)
        if leaves >= MOST_LEAVES:
            hint += " and more: narrow the filter"
        title = f"── last changes {'── ' + hint + ' ' if hint else ''}"
        return Text(title + "─" * max(0, width - len(title)), style="dim", no_wrap=True)

    def _table(self, leaves: Sequence[tuple[Path, Json]], width: int) -> Table:
        now_s = self._clock()
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(20, width // 2))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(12, width // 3))
        table.add_column(no_wrap=True, justify="right", min_width=10)
        table.add_column(no_wrap=True, min_width=COURSE)
        above: Path = ()
        for path, value in leaves:
            touch = self._touched.get(path)
            hot = touch is not None and now_s - touch.at_s < HOT_S
            table.add_row(
                path_text(path, _shared(above, path)),
                _shown(value, touch.edit if touch is not None and hot else None),
                delta_text(touch.edit) if touch is not None and hot else Text(),
                Text(sparkline(touch.course) if touch else "", style="blue" if hot else "dim"),
            )
            above = path
        return table


def _shown(value: Json, edit: Edit | None) -> Text:
    # In one colour, so that nothing competes with what has just changed.
    style = "default" if edit is None else f"bold {style_of(edit)}"
    return Text(value_text(value).plain, style=style)


def _log_line(edit: Edit, unix_ms: float | None) -> Text:
    line = diff_line(edit, unix_ms)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _shared(above: Path, path: Path) -> int:
    """How many segments a row has in common with the one above it."""
    most = min(len(above), len(path) - 1)
    return next((at for at in range(most) if above[at] != path[at]), max(0, most))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
