"""`triode watch`: its lines, its picture, the keys it hears."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from tests.app.fake_server import FakeServer, problem
from triode.app.cli.diff_line import diff_line
from triode.app.cli.screen import Scroll, keys_of, sparkline
from triode.app.cli.watch import DiffPrinter
from triode.app.cli.watch_scene import HOT_S, WatchScene
from triode.app.wire.sse_parser import StreamEvent
from triode.store.change import Edit
from triode.store.value import MISSING


def event(kind: str, position: str = "e:1", **body: Any) -> StreamEvent:
    return StreamEvent(kind, json.dumps({"filter": ".", "time": 0} | body), position)


def snapshot(value: Any) -> StreamEvent:
    return event("snapshot", items=[{"path": ".", "value": value}], more=False)


# ---- lines ----


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (Edit(("a", "b"), 1, 3), "~ .a.b 1 → 3 +2"),
        (Edit(("a",), 0.5, 0.25), "~ .a 0.5 → 0.25 -0.25"),
        (Edit(("a",), True, 1), "~ .a true → 1"),
        (Edit(("a b",), "x", None), '~ ["a b"] "x" → null'),
        (Edit((0,), MISSING, {}), "+ [0] {}"),
        (Edit((), 1, MISSING), "- . 1"),
        (Edit(("a",), MISSING, "\x1b[2J\u202e"), '+ .a "\\u001b[2J\\u202e"'),
    ],
)
def test_a_change_is_a_line(edit: Edit, text: str) -> None:
    line = diff_line(edit, None).plain
    assert line.strip() == text
    assert len(diff_line(edit, 0).plain) == len(line)


def test_lines_are_the_state_and_then_the_differences(capsys: pytest.CaptureFixture[str]) -> None:
    printer = DiffPrinter(silent_at_first=False)
    printer.take(snapshot({"a": 1, "b": [True]}))
    printer.take(event("update", path=".a", value=2))
    printer.take(event("delete", path=".b[0]"))
    # after a reconnect: only what is different
    printer.take(snapshot({"a": 2, "b": [], "c": 1}))
    lines = [line[12:].strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [".a 1", ".b[0] true", "~ .a 1 → 2 +1", "- .b[0] true", "+ .c 1"]


def test_changes_alone_know_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    printer = DiffPrinter(silent_at_first=True)
    printer.take(snapshot({"a": 1}))
    printer.take(event("update", path=".a", value=2))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("~ .a 1 → 2 +1")


def test_what_was_too_long_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    printer = DiffPrinter(silent_at_first=False)
    printer.take(snapshot({"a": 1}))
    printer.take(event("update", path=".a", fetch="/store?path=.a"))
    printer.take(event("update", path=".a.b", value=1))
    printer.take(event("delete", path=".a"))
    _, updated, deleted = capsys.readouterr().out.splitlines()
    assert updated.endswith('~ .a 1 → "too long to be sent: GET /store?path=.a"')
    assert '- .a "too long' in deleted


def test_a_loss_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    DiffPrinter(silent_at_first=False).take(event("gap", missed=3))
    assert '"missed": 3' in capsys.readouterr().err


def test_watch_asks_for_what_it_was_told() -> None:
    server = FakeServer(problem(403, "no"))
    assert server.triode("watch", ".a", ".b", "--since", "e:1").exit_code == 1
    assert server.asked == ("GET", "/events?filter=.a&filter=.b&since=e%3A1")
    server = FakeServer(problem(403, "no"))
    assert server.triode("watch", ".a", "--max-event", "2048").exit_code == 1
    assert server.asked == ("GET", "/events?filter=.a&max_event=2048")
    assert server.triode("watch", ".a", "--max-event", "12").exit_code == 2


# ---- the picture ----


class Sight:
    """A scene, its clock, and what it looks like."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.scene = WatchScene([".x"], clock=lambda: self.now_s)

    def take(self, *events: StreamEvent) -> None:
        for each in events:
            self.scene.take(each)

    def lines(self, width: int = 100, height: int = 24, *, styled: bool = False) -> list[str]:
        console = Console(
            width=width, height=height, file=io.StringIO(), record=True, color_system="standard",
            force_terminal=True,
        )  # fmt: skip
        console.print(self.scene.draw(width, height), end="")
        return console.export_text(styles=styled).splitlines()

    def row(self, start: str, *, styled: bool = False) -> str:
        plain = self.lines()
        (at,) = [at for at, line in enumerate(plain[:14]) if line.startswith(start)]
        return self.lines(styled=styled)[at]


GREEN, RED = "\x1b[1;32m", "\x1b[1;31m"


def test_what_changed_stands_out_for_a_while() -> None:
    sight = Sight()
    sight.take(snapshot({"up": 1, "down": 5, "still": 1, "text": "a"}))
    assert all(GREEN not in line for line in sight.lines(styled=True)[1:])
    sight.take(
        event("update", path=".up", value=3),
        event("update", path=".down", value=4),
        event("update", path=".text", value="b"),
    )
    assert f"{GREEN}3" in sight.row(".up", styled=True)
    assert "+2" in sight.row(".up")
    assert f"{RED}4" in sight.row(".down", styled=True)
    assert '\x1b[1;33m"b"' in sight.row(".text", styled=True)
    assert "\x1b[1;3" not in sight.row(".still", styled=True)
    sight.now_s += HOT_S
    assert GREEN not in sight.row(".up", styled=True)
    assert "+2" not in sight.row(".up")


def test_numbers_have_a_course_and_changes_a_log() -> None:
    sight = Sight()
    sight.take(snapshot({"n": 1}))
    sight.take(*(event("update", path=".n", value=value) for value in (8, 4)))
    assert sight.row(".n").split() == [".n", "4", "-4", "▁█▄"]
    log = "\n".join(sight.lines()[-10:])
    assert log.index("8 → 4") < log.index("1 → 8")
    assert "0.4 changes/s" in sight.lines()[0]


def test_what_is_gone_leaves_the_values_and_enters_the_log() -> None:
    sight = Sight()
    sight.take(snapshot({"a": 1, "b": 2}), event("delete", path=".a"))
    lines = sight.lines()
    assert not [line for line in lines if line.startswith(".a ")]
    assert any("- .a 1" in line for line in lines)


@pytest.mark.parametrize(("width", "height"), [(30, 10), (80, 24), (200, 50)])
def test_the_picture_fits(width: int, height: int) -> None:
    sight = Sight()
    sight.take(snapshot({f"n{number}": "long " * 50 for number in range(300)}))
    sight.take(*(event("update", path=f".n{number}", value="other " * 50) for number in range(40)))
    lines = sight.lines(width, height)
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    assert "of 300" in "".join(lines)


def test_space_holds_it_still_and_keys_scroll() -> None:
    sight = Sight()
    sight.take(snapshot(dict.fromkeys(("a", "b"), 1) | {f"n{n}": n for n in range(50)}))
    assert sight.lines()[2].startswith(".a")
    sight.scene.press("down")
    assert sight.lines()[2].startswith(".b")
    sight.scene.press("space")
    assert "paused" in sight.lines()[0]
    sight.take(event("update", path=".b", value=2))
    assert "2" not in sight.lines()[2]
    sight.scene.press("space")
    assert "2" in sight.lines()[2]
    sight.scene.press("end")
    assert any(line.startswith(".n49") for line in sight.lines())


def test_the_state_of_the_connection_is_seen() -> None:
    sight = Sight()
    assert "connecting" in sight.lines()[0]
    sight.take(event("connected"), snapshot({}))
    assert "live" in sight.lines()[0]
    sight.scene.notice("the server ended the stream; connecting again in 1.0 s")
    assert "connecting again" in sight.lines()[0]
    sight.take(event("connected"))
    assert "live" in sight.lines()[0]


# ---- the screen ----


def test_keys_have_names() -> None:
    assert keys_of("q\x1b[A\x1bOB\x1b[6~ x\x1b[1;5C") == [
        "q", "up", "down", "page down", "space", "x", "\x1b[1;5C",
    ]  # fmt: skip


def test_a_scroll_stays_inside() -> None:
    scroll = Scroll()
    items = list(range(10))
    assert scroll.window(items, 4) == [0, 1, 2, 3]
    scroll.press("up")
    scroll.press("page down")
    assert scroll.window(items, 4) == [4, 5, 6, 7]
    scroll.press("page down")
    assert scroll.window(items, 4) == [6, 7, 8, 9]
    assert scroll.hint(10, 4) == "7 to 10 of 10"
    # The list became shorter.
    assert scroll.window(items[:3], 4) == [0, 1, 2]
    assert scroll.hint(3, 4) == ""


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([0, 7, 14]) == "▁▅█"
    assert sparkline([7, 14], floor=0) == "▅█"
