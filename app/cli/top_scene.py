"""The picture of `triode top`: the server's numbers, with their course, and its clients."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from triode.app.cli.render import amount, clean_line
from triode.app.cli.screen import Scroll, sparkline, spread
from triode.app.service.cluster_words import is_behind, is_silent

COURSE: Final = 24
HEAD_LINES: Final = 6
# How each is shown. The contract's name for the last one is older than the word.
_STATES: Final = {"flowing": "green", "slow": "yellow", "resyncing": "magenta"}
_WORDS: Final = {"healing": "resyncing"}
_SORTS: Final = ("behind", "sent/s", "age")
_KEYS: Final = "↑↓ PgUp PgDn scroll   s sort   q quit"
Row = dict[str, Any]


class TopScene:
    """Fed with answers of `/stats?clients=…`. Rates of clients are from one answer to the next."""

    def __init__(self, url: str, *, slow: bool = False) -> None:
        self._url = url
        self._slow = slow
        self._scroll = Scroll()
        self._sort = 0
        self._notice = ""
        self._courses = {name: deque[float](maxlen=COURSE) for name in ("events", "bytes", "cpu")}
        self._sent: dict[str, tuple[int, int]] = {}
        self._then: tuple[float, float] | None = None  # uptime and CPU seconds, of the last answer
        self.cpu_percent = 0.0
        self.stats: dict[str, Any] = {}
        self.rows: list[Row] = []

    def take(self, answer: bytes) -> None:
        """An answer of the server."""
        self.stats = msgspec.json.decode(answer)
        self._notice = ""
        gauges = self.gauges
        uptime_s, cpu_s = gauges.get("uptime_seconds", 0.0), gauges.get("cpu_seconds_total", 0.0)
        elapsed_s = 0.0
        if self._then is not None and uptime_s > self._then[0]:  # else it was started anew
            elapsed_s = uptime_s - self._then[0]
            self.cpu_percent = 100 * max(0.0, cpu_s - self._then[1]) / elapsed_s
        self._then = (uptime_s, cpu_s)
        self.rows = [self._rated(row, elapsed_s) for row in self.stats.get("clients", ())]
        self._sent = {row["client"]: (row["sent"], row["sent_bytes"]) for row in self.rows}
        self._courses["events"].append(self.rates.get("events_total", 0.0))
        self._courses["bytes"].append(self.rates.get("bytes_out", 0.0))
        self._courses["cpu"].append(self.cpu_percent)

    def _rated(self, row: Row, elapsed_s: float) -> Row:
        before = self._sent.get(row["client"])
        if before is None or elapsed_s <= 0:
            return {**row, "sent_s": None, "bytes_s": None}
        events, size = row["sent"] - before[0], row["sent_bytes"] - before[1]
        return {**row, "sent_s": max(0, events) / elapsed_s, "bytes_s": max(0, size) / elapsed_s}

    def notice(self, text: str) -> None:
        """Why there is no new answer."""
        self._notice = clean_line(text)

    def press(self, key: str) -> None:
        """Scroll, or sort by something else."""
        if key == "s":
            self._sort = (self._sort + 1) % len(_SORTS)
        else:
            self._scroll.press(key)

    @property
    def gauges(self) -> Mapping[str, float]:
        """The server's gauges."""
        found: Mapping[str, float] = self.stats.get("gauges", {})
        return found

    @property
    def rates(self) -> Mapping[str, float]:
        """The server's rates per second."""
        found: Mapping[str, float] = self.stats.get("rates", {})
        return found

    @property
    def drops(self) -> int:
        """Events lost since the server began, for whatever reason and under whatever policy."""
        by_policy: Mapping[str, Mapping[str, int]] = self.stats.get("counters", {}).get(
            "drops_total", {}
        )
        return sum(sum(by_reason.values()) for by_reason in by_policy.values())

    def course(self, name: str, width: int) -> str:
        """The course of a number as a line of bars, shorter where the terminal is."""
        most = COURSE if width >= 120 else COURSE // 3 if width >= 100 else 0
        known = list(self._courses[name])
        if not most or len(known) < 2:
            return ""
        return sparkline(known[-most:], floor=0.0).ljust(most)

    def draw(self, width: int, height: int) -> RenderableType:
        """The picture now."""
        head_lines = HEAD_LINES + ("cluster" in self.stats)
        lines = max(1, height - head_lines - 2)  # and the table's head, and the foot
        rows = self.sorted_rows()
        seen = self._scroll.window(rows, lines)
        blank = [Text("\n" * (lines - len(seen) - 1))] if len(seen) < lines else []
        return Group(
            self.title(width), *head(self, width), client_table(seen, width), *blank,
            self._foot(len(rows), lines, width),
        )  # fmt: skip

    def title(self, width: int) -> Text:
        """Which server, and whether it answers."""
        style = "yellow" if self._notice else "green"
        left = Text().append("● ", style=style).append("triode top ", style="bold")
        left.append(self._url, style="cyan")
        right = Text(
            self._notice or f"up {_age(self.gauges.get('uptime_seconds', 0))}", style=style
        )
        return spread(left, right, width)

    def sorted_rows(self) -> list[Row]:
        """The clients in the order asked for; as the server gave them, those behind come first."""
        if _SORTS[self._sort] == "sent/s":
            return sorted(self.rows, key=lambda row: -(row["sent_s"] or 0))
        if _SORTS[self._sort] == "age":
            return sorted(self.rows, key=lambda row: -row["connected_s"])
        return self.rows

    def _foot(self, rows: int, lines: int, width: int) -> Text:
        left = Text(f"{_KEYS}   by {_SORTS[self._sort]}", style="dim")
        shown = "" if "clients" in self.stats else "this server does not list its clients  "
        right = Text(shown + self._scroll.hint(rows, lines), style="dim")
        foot = spread(left, right, width)
        foot.end = ""
        return foot


def tables(scene: TopScene, width: int) -> RenderableType:
    """All of it, for a pipe."""
    return Group(scene.title(width), *head(scene, width), client_table(scene.rows, width), Text())


def head(scene: TopScene, width: int) -> list[RenderableType]:
    """The server's numbers: how many, how fast, at what cost."""
    gauges, rates = scene.gauges, scene.rates
    drops = scene.drops
    slow = int(gauges.get("clients_slow", 0))
    grid = Table.grid(padding=(0, 3))
    for _ in range(4):
        grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row(
        _fact("clients", _count(gauges.get("clients", 0))),
        _fact(
            "events", _per_s(_count(rates.get("events_total", 0))), scene.course("events", width)
        ),
        _fact("cpu", f"{scene.cpu_percent:.0f}%", scene.course("cpu", width)),
        _fact("document", amount(gauges.get("document_bytes", 0))),
    )
    grid.add_row(
        _fact("slow", _count(slow), style="bold yellow" if slow else "bold"),
        _fact("out", _per_s(amount(rates.get("bytes_out", 0))), scene.course("bytes", width)),
        _fact("memory", amount(gauges.get("memory_rss_bytes", 0))),
        _fact("position", str(scene.stats.get("position", ""))),
    )
    grid.add_row(
        _fact("waiting", amount(gauges.get("queued_bytes", 0))),
        _fact("writes", _per_s(_count(rates.get("writes_total", 0)))),
        _fact("loop lag", f"{1000 * gauges.get('loop_lag_seconds', 0):.1f} ms"),
        _fact("filters", _count(gauges.get("filters", 0))),
    )
    grid.add_row(
        _fact("lost", _count(drops), style="bold red" if drops else "bold"),
        _fact("messages", _per_s(_count(rates.get("messages_published", 0)))),
        _fact("requests", f"{_count(rates.get('http_requests', 0))}/s"),
        _fact("rooms", _count(gauges.get("rooms", 0))),
    )
    return [grid, *_cluster(scene.stats.get("cluster")), Text()]


def _cluster(facts: Mapping[str, Any] | None) -> list[RenderableType]:
    """A line about those who share the log; how to know more, if there is something to do."""
    if facts is None:
        return []
    nodes = facts["nodes"]
    behind = sum(is_behind(node) or is_silent(node) for node in nodes)
    text = _fact("log", f"{len(nodes)} Triodes", style="bold yellow" if behind else "bold")
    text.append(f", {behind} behind" if behind else "", style="yellow")
    text.append(f"   term {facts['term']}, {facts['seq']:,}", style="dim")
    if facts["advice"]:
        text.append(f"   ! {clean_line(facts['advice'][0])}", style="yellow")
    text.no_wrap, text.overflow = True, "ellipsis"
    return [text]


def client_table(rows: Sequence[Row], width: int) -> Table:
    """A row for each client; what there is no room for is left out, the least important first."""
    columns = [name for name, (need, _) in _COLUMNS.items() if width >= need]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name in columns:
        right = _COLUMNS[name][1]
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name == "hears" else None,
        )
    for row in rows:
        cells = _cells(row)
        table.add_row(*(cells[name] for name in columns))
    return table


# Column → width of the terminal from which on it is there, and whether it holds numbers.
_COLUMNS: Final = {
    "client": (0, False),
    "name": (130, False),
    "address": (110, False),
    "by": (70, False),
    "state": (0, False),
    "waits": (0, True),
    "oldest": (80, True),
    "lost": (0, True),
    "sent/s": (0, True),
    "out/s": (120, True),
    "age": (60, True),
    "hears": (90, False),
}


def _cells(row: Row) -> dict[str, Text]:
    state = _WORDS.get(row["state"], str(row["state"]))
    hears = [str(each["filter"]) for each in row["filters"]] + [f"#{room}" for room in row["rooms"]]
    waits = (
        f"{_count(row['queued'])} / {amount(row['queued_bytes'])}" if row["queued_bytes"] else "·"
    )
    return {
        "client": Text(clean_line(str(row["client"]))[:12], style="cyan"),
        "name": Text(clean_line(str(row["name"] or _tag_name(row) or "·"))),
        "address": Text(clean_line(str(row["ip"]))),
        "by": Text({"websocket": "ws"}.get(row["transport"], str(row["transport"]))),
        "state": Text(state, style=_STATES.get(state, "")),
        "waits": Text(waits, style="yellow" if row["queued_bytes"] else "dim"),
        "oldest": Text(f"{row['oldest_s']:.1f} s" if row["oldest_s"] else "·"),
        "lost": Text(_count(row["dropped"]) if row["dropped"] else "·",
                     style="red" if row["dropped"] else "dim"),
        "sent/s": Text("" if row["sent_s"] is None else _count(row["sent_s"])),
        "out/s": Text("" if row["bytes_s"] is None else amount(row["bytes_s"])),
        "age": Text(_age(row["connected_s"])),
        "hears": Text(clean_line(" ".join(hears)), style="dim"),
    }  # fmt: skip


def _tag_name(row: Row) -> str | None:
    name = row["tags"].get("name") or row["tags"].get("client.name")
    return name if isinstance(name, str) else None


def _fact(label: str, text: str, course: str = "", *, style: str = "bold") -> Text:
    fact = Text().append(f"{label:<9}", style="dim").append(text, style=style)
    return fact.append(f" {course}", style="blue") if course else fact


def _per_s(text: str) -> str:
    return f"{text:>9}/s"


def _count(number: float) -> str:
    """Three digits or so: `7.2`, `950`, `12.4k`."""
    if number >= 1_000_000:
        return f"{number / 1e6:.1f}M"
    if number >= 10_000:
        return f"{number / 1e3:.1f}k"
    return f"{number:.0f}" if number == int(number) or number >= 100 else f"{number:.1f}"


def _age(seconds: float) -> str:
    """How long something has lasted, in its two largest units."""
    whole = int(seconds)
    for unit, below, size, part in (
        ("d", "h", 86400, 3600),
        ("h", "m", 3600, 60),
        ("m", "s", 60, 1),
    ):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part}{below}"
    return f"{whole}s"
