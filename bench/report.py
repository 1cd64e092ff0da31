"""How results are shown and kept: medians with their spread, tables, JSON files, charts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.machine import HERE, about

RESULTS: Final = HERE / "results"
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
    """Print a table; all but the first column to the right."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def keep(name: str, results: Any, **extra: Any) -> None:
    """Write a benchmark's results, with the machine they are of."""
    RESULTS.mkdir(exist_ok=True)
    body = {"benchmark": name, "machine": about(), **extra, "results": results}
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n")


def chart(
    name: str, draw: Callable[[Any], None], *, size: tuple[float, float] = (8.4, 4.2)
) -> None:
    """Draw a chart with matplotlib, if it is installed, into `results/NAME.png`."""
    try:
        import matplotlib as mpl
    except ImportError:
        console.print("[dim]no chart: pip install matplotlib[/dim]")
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
