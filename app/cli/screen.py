"""A terminal taken over whole: a scene is drawn anew a few times a second, and hears the keys.

Whatever ends it (q, an interrupt, SIGTERM, an error), the terminal is left as it was found.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import trio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

REFRESH_S: Final = 0.25
_BARS: Final = "▁▂▃▄▅▆▇█"
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-9;]*|O)[A-Za-z~]|.", re.DOTALL)
_NAMES: Final = {
    "\x1b[A": "up", "\x1bOA": "up", "k": "up",
    "\x1b[B": "down", "\x1bOB": "down", "j": "down",
    "\x1b[5~": "page up", "\x1b[6~": "page down", " ": "space",
    "\x1b[H": "home", "\x1b[1~": "home", "g": "home",
    "\x1b[F": "end", "\x1b[4~": "end", "G": "end",
    "\x04": "q", "Q": "q",
}  # fmt: skip

T = TypeVar("T")


class Scene(Protocol):
    """What can be shown."""

    def draw(self, width: int, height: int) -> RenderableType:
        """The picture now, no larger than that many columns and lines."""
        ...

    def press(self, key: str) -> None:
        """A key was pressed: a character, or a name such as `page down`."""
        ...


async def show(scene: Scene, *, refresh_s: float = REFRESH_S) -> None:
    """Show a scene until q is pressed or SIGTERM comes. Cancellation restores the terminal."""
    console = Console()

    def draw() -> None:
        live.update(scene.draw(console.width, console.height), refresh=True)

    async def redraw() -> None:
        while True:
            draw()
            await trio.sleep(refresh_s)

    # The signal first: from the moment on at which the terminal is changed it must be caught.
    with (
        trio.open_signal_receiver(signal.SIGTERM) as signals,
        _keys_at_once() as keyboard,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        # Holds the clock of the picture and the wait for the signal; ends with the keys.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(redraw)
            nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
            if keyboard is None:
                await trio.sleep_forever()
            else:
                while (key := await _key_groups(keyboard)) and "q" not in key:
                    for name in key:
                        scene.press(name)
                    draw()
            nursery.cancel_scope.cancel()


async def _key_groups(keyboard: int) -> list[str]:
    """The keys pressed since; none at the end of the input."""
    await trio.lowlevel.wait_readable(keyboard)
    return keys_of(os.read(keyboard, 1024).decode(errors="replace"))


def keys_of(text: str) -> list[str]:
    """The keys in what a terminal sent: names for those that have one."""
    return [_NAMES.get(found, found) for found in _SEQUENCE.findall(text)]


async def _cancel_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()


@contextmanager
def _keys_at_once() -> Iterator[int | None]:
    """Keys come without Enter and are not echoed; None where standard input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@dataclass(slots=True)
class Scroll:
    """Which part of a long list is seen."""

    at: int = 0
    page: int = 1

    def press(self, key: str) -> None:
        """Move by a line, by a page, or to an end."""
        steps = {"up": -1, "down": 1, "page up": -self.page, "page down": self.page}
        if key in steps:
            self.at = max(0, self.at + steps[key])
        elif key == "home":
            self.at = 0
        elif key == "end":
            self.at = sys.maxsize

    def window(self, items: Sequence[T], lines: int) -> Sequence[T]:
        """What is seen of `items` in that many lines."""
        self.page = max(1, lines)
        self.at = min(self.at, max(0, len(items) - lines))
        return items[self.at : self.at + lines]

    def hint(self, total: int, lines: int) -> str:
        """Where in the list that is; nothing when all is seen."""
        if total <= lines:
            return ""
        return f"{self.at + 1} to {min(total, self.at + lines)} of {total:,}".replace(",", "\u202f")


def sparkline(numbers: Iterable[float], *, floor: float | None = None) -> str:
    """Numbers as a line of bars, from the least of them (or `floor`) to the greatest."""
    values = list(numbers)
    if not values:
        return ""
    low = min(values) if floor is None else floor
    span = max(values) - low
    if span <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def spread(left: Text, right: Text, width: int) -> Text:
    """One line with a text at each end; the left one gives way."""
    room = max(0, width - right.cell_len - 2)
    left.truncate(room, overflow="ellipsis")
    return left + Text(" " * max(2, width - left.cell_len - right.cell_len)) + right
