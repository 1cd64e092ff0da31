"""A change as a line: the place, what was there, what is there now."""

from __future__ import annotations

from typing import Any, Final

from rich.text import Text

from triode.app.cli.render import clock_text, value_text
from triode.store.change import Edit
from triode.store.path import Path, format_path
from triode.store.value import Json, Missing

UP: Final = "green"
DOWN: Final = "red"
OTHER: Final = "yellow"
_BLANK: Final = " " * 12


def diff_line(edit: Edit, unix_ms: float | None) -> Text:
    """`12:00:00.000 ~ .host.load.m1 0.5 → 0.7 +0.2`; + is a new leaf, - one that is gone."""
    time = clock_text(unix_ms) if unix_ms is not None else _BLANK
    line = Text().append(f"{time} ", style="dim")
    style = style_of(edit)
    line.append(f"{mark_of(edit)} ", style=f"bold {style}").append_text(path_text(edit.path))
    line.append(" ")
    if isinstance(edit.after, Missing):
        return line.append_text(_plain(edit.before, f"strike {DOWN}"))
    if not isinstance(edit.before, Missing):
        line.append_text(_plain(edit.before, "dim")).append(" → ", style="dim")
    line.append_text(_plain(edit.after, f"bold {style}"))
    delta = delta_text(edit)
    return line.append(" ").append_text(delta) if delta.plain else line


def now_line(edit: Edit) -> Text:
    """A leaf that was there from the start."""
    line = Text().append(f"{'now':<12}   ", style="cyan").append_text(path_text(edit.path))
    return line.append(" ").append_text(value_text(edit.after))


def mark_of(edit: Edit) -> str:
    """One character that says what happened."""
    if isinstance(edit.before, Missing):
        return "+"
    return "-" if isinstance(edit.after, Missing) else "~"


def style_of(edit: Edit) -> str:
    """The colour of a change: numbers by their direction, what came and what went."""
    before, after = _number(edit.before), _number(edit.after)
    if before is not None and after is not None:
        return UP if after > before else DOWN
    return {"+": UP, "-": DOWN}.get(mark_of(edit), OTHER)


def delta_text(edit: Edit) -> Text:
    """By how much a number changed; empty for anything else."""
    before, after = _number(edit.before), _number(edit.after)
    if before is None or after is None:
        return Text()
    whole = isinstance(before, int) and isinstance(after, int)
    number = f"{after - before:+d}" if whole else f"{after - before:+.4g}"
    return Text(number, style=UP if after > before else DOWN)


def path_text(path: Path, parent: int | None = None) -> Text:
    """A path with its last segment, or all after the first `parent` ones, set off."""
    text = format_path(path)
    shared = path[: len(path) - 1 if parent is None else parent]
    cut = len(format_path(shared)) if shared else 0
    return Text().append(text[:cut], style="dim").append(text[cut:], style="bold")


def _plain(value: Json | Missing, style: str) -> Text:
    return Text(value_text(value).plain, style=style)


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
