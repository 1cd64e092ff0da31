"""How results are shown and kept: medians with their spread, tables, JSON files, charts.

A run leaves `results/NAME.json`, `NAME.md` and `NAME.png`, which git ignores. `publish` makes of
the newest ones what is committed: `RESULTS.md` and `charts/`.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.machine import HERE, about

RESULTS: Final = HERE / "results"
CHARTS: Final = HERE / "charts"
# Wider than a pipe's 80 columns: tables are read in files too.
console: Final = Console(width=None if sys.stdout.isatty() else 120)

# Ours, the C limit, and the others: readable on white, apart also in grey.
OURS: Final = "#0b7285"
OURS_LIGHT: Final = "#66b8c6"
LIMIT: Final = "#495057"
OTHERS: Final = "#ced4da"
BAD: Final = "#e8590c"
INK: Final = "#343a40"


def progress() -> Progress:
    """A progress bar with what is being measured, for a `with` block."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def middle(values: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return median(values) if values else float("nan")


def quantile(values: Sequence[float], share: float) -> float:
    """What this share of them does not exceed; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def spread(values: Sequence[float], show: Callable[[float], str] | None = None) -> str:
    """The median with the smallest and the largest: `1.00 M (0.98-1.01)`."""
    if not values:
        return "-"
    show = show or short
    if len(values) == 1 or min(values) == max(values):
        return show(middle(values))
    return f"{show(middle(values))} ({show(min(values))} - {show(max(values))})"


def short(value: float) -> str:
    """A number for people: 1.00 M, 52.3 k, 0.53."""
    for size, name in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, all but the first column to the right; `keep` writes it too."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index == 0 else "right")
    lines = [f"**{title}**", "", _row(columns), _row(["---", *["--:"] * (len(columns) - 1)])]
    for row in rows:
        shown.add_row(*row)
        lines.append(_row(row))
    console.print(shown)
    _tables.append("\n".join(lines) + "\n")


_tables: Final[list[str]] = []  # of the benchmark that runs


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def keep(name: str, results: Any, **extra: Any) -> None:
    """Write a benchmark's results and tables, with the machine they are of."""
    RESULTS.mkdir(exist_ok=True)
    body = {"benchmark": name, "machine": about(), **extra, "results": results}
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text("\n".join(_tables))
    _tables.clear()


def publish(names: Sequence[str]) -> None:
    """Write `RESULTS.md` and `charts/` from the newest results of these benchmarks."""
    CHARTS.mkdir(exist_ok=True)
    parts = [
        "# Results\n",
        "Made by `python -m bench publish`; how they are measured: README.md.\n",
    ]
    for name in names:
        tables, chart_made = RESULTS / f"{name}.md", RESULTS / f"{name}.png"
        if not tables.exists():
            console.print(f"[red]{name}: no results yet[/red]")
            continue
        machine = json.loads((RESULTS / f"{name}.json").read_text())["machine"]
        packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items())
        parts.append(f"## {name}\n\n{tables.read_text()}")
        if chart_made.exists():
            shutil.copy(chart_made, CHARTS)
            parts.append(f"![{name}](charts/{name}.png)\n")
        parts.append(
            f"{machine['at']}; {machine['cpu']}, {machine['cores']} cores; {machine['system']}; "
            f"Python {machine['python']}, {packages}; load before it {machine['load_average']}\n"
        )
    (HERE / "RESULTS.md").write_text("\n".join(parts))
    console.print(f"wrote {HERE / 'RESULTS.md'}")


def chart(
    name: str, draw: Callable[[Any], None], *, size: tuple[float, float] = (8.4, 4.2)
) -> None:
    """Draw a chart with matplotlib, if it is installed, into `results/NAME.png`."""
    try:
        import matplotlib as mpl
    except ImportError:
        console.print("[dim]no chart: pip install -e '.[bench]'[/dim]")
        return
    mpl.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "font.size": 10,
        "axes.edgecolor": "#adb5bd",
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#f1f3f5",
        "axes.axisbelow": True,
        "figure.dpi": 120,
    }
    with pyplot.rc_context(style):
        figure = pyplot.figure(figsize=size, layout="constrained")
        draw(figure)
        RESULTS.mkdir(exist_ok=True)
        figure.savefig(RESULTS / f"{name}.png")
        pyplot.close(figure)


def bars(
    axes: Any, names: Sequence[str], values: Sequence[float], colors: Sequence[str], label: str
) -> None:
    """Horizontal bars, the first on top, each with its number."""
    places = list(range(len(names)))[::-1]
    axes.barh(places, values, color=list(colors), height=0.7)
    axes.set_yticks(places, names)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            short(value),
            (value, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.xaxis.set_major_formatter(lambda value, _place: short(value))
    axes.margins(x=0.16)
