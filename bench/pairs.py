"""Two that are measured in turn, where what counts is the ratio of neighbours: the table and the
chart of such a comparison.
"""

from __future__ import annotations

from typing import Any

from bench.report import OURS, OURS_LIGHT, middle, short, spread, table

Results = dict[str, list[dict[str, Any]]]
Ratios = dict[str, list[dict[str, float]]]


def ratio_of(with_them: dict[str, Any], without: dict[str, Any]) -> dict[str, float] | None:
    """How many times the latency; None when nothing arrived in time: the machine is too busy."""
    if not (with_them["each"]["n"] and without["each"]["n"]):
        return None
    return {q: with_them["each"][q] / without["each"][q] for q in ("p50", "p99")}


def show(title: str, first: str, results: Results, ratios: Ratios) -> None:
    """A row for each case; `first` names the column of the cases."""
    table(
        title,
        [first, "healthy get/s", "all", "p50 ms", "p99 ms", "p50 times", "p99 times", "CPU", "MB"],
        [
            [
                name,
                spread([r["per_s"] for r in runs]),
                f"{100 * middle([r['delivered'] / r['expected'] for r in runs]):.0f} %",
                spread([r["each"]["p50"] for r in runs]),
                spread([r["each"]["p99"] for r in runs]),
                _ratio([r["p50"] for r in ratios.get(name, [])]),
                _ratio([r["p99"] for r in ratios.get(name, [])]),
                f"{middle([r['cpu'] for r in runs]):.2f}",
                f"{middle([r['rss_mb'] for r in runs]):.0f}",
            ]
            for name, runs in results.items()
        ],
    )


def _ratio(values: list[float]) -> str:
    """The median and the middle half: single pairs stray on a machine that does other work."""
    if not values:
        return "-"
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return f"{short(middle(ordered))} ({short(ordered[quarter])} - {short(ordered[-1 - quarter])})"


def draw(figure: Any, ratios: Ratios, *, whom: str, title: str, aim: float) -> None:
    """Bars of the medians, dots for the pairs, a dashed line for the aim."""
    axes = figure.subplots()
    for name, color, shift in (("p50", OURS_LIGHT, -0.15), ("p99", OURS, 0.15)):
        values = [[r[name] for r in each] for each in ratios.values()]
        at = [index + shift for index in range(len(ratios))]
        axes.bar(at, [middle(v) for v in values], 0.26, color=color, label=name)
        for x, several in zip(at, values, strict=True):
            axes.plot([x] * len(several), several, ".", color="#868e96", markersize=5)
            axes.annotate(
                short(middle(several)), (x, 0), (0, 6), textcoords="offset points", ha="center",
                color="white" if name == "p99" else "#343a40", fontsize=10,
            )  # fmt: skip
    axes.axhline(1, color="#868e96", linewidth=1)
    axes.axhline(aim, color="#868e96", linewidth=1, linestyle="--")
    axes.set_xticks(range(len(ratios)), list(ratios))
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(f"times the latency without {whom}")
    axes.set_title(f"{title} (dots: pairs; dashed: the aim, {aim})", loc="left", fontsize=11)
    axes.legend(frameon=False)
