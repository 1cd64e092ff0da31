"""What came of a crowd: counts, and what of all that was promised was kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

FAULTS_SHOWN: Final = 8


@dataclass
class Result:
    """What came of it. `checks` holds what was promised, and whether that was kept."""

    clients: dict[str, int]
    published: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    lag_ms: float = 0.0
    own_cpu: float = 0.0
    server_cpu: float = 0.0
    rss_before_mb: float = 0.0
    rss_peak_mb: float = 0.0
    bound_mb: float = 0.0
    deliveries: int = 0
    sums: dict[str, dict[str, int]] = field(default_factory=dict)
    frozen_gone_s: list[float] = field(default_factory=list)
    slow_ended: int = 0
    exit_s: float = 0.0
    exit_status: int | None = None
    checks: dict[str, bool] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, name: str, holds: bool, detail: object = "") -> None:
        self.checks[name] = holds
        if not holds:
            self.faults.append(f"{name}: {detail}")


def show(console: Console, result: Result) -> None:
    """Tables for people."""
    table = Table(title="clients")
    for name in ("", "clients", "matched", "sent", "announced", "gaps", "ended by the server"):
        table.add_column(name, justify="right" if name else "left")
    for role, sums in result.sums.items():
        names = ("matched", "sent", "announced", "gaps", "ended")
        table.add_row(role, str(result.clients[role]), *[f"{sums[n]:,}" for n in names])
    console.print(table)
    gone = result.frozen_gone_s
    facts = {
        "published": f"{result.published:,} in {result.seconds} s, {result.rate:g}/s, "
        f"at most {result.lag_ms:.0f} ms late",
        "delivered to healthy ones": f"{result.deliveries:,}, "
        f"{result.deliveries / max(result.seconds, 0.001):,.0f}/s",
        "frozen ones gone": f"{gone[0]} to {gone[-1]} s after their queue was seen full"
        if gone
        else "-",
        "memory": f"{result.rss_before_mb:.1f} → {result.rss_peak_mb:.1f} MB; the sum of the "
        f"bounds is {result.bound_mb:.1f} MB",
        "CPU": f"server {result.server_cpu}, all clients {result.own_cpu}",
        "SIGTERM": f"exit status {result.exit_status} after {result.exit_s} s",
    }
    for name, fact in facts.items():
        console.print(f"[bold]{name}[/bold]: {fact}")
    for name, holds in result.checks.items():
        console.print("[green]kept[/green]  " if holds else "[red]broken[/red]", name)
    for fault in result.faults[:FAULTS_SHOWN]:
        console.print(f"  {escape(fault)}")
