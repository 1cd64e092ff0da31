"""`python -m bench [NAME…]`: run the benchmarks, all by default."""

from __future__ import annotations

import importlib
import time
from typing import Final

import click

from bench.machine import CORES, about
from bench.report import console, publish

# In the order in which they run: the ones everything else is judged by first.
NAMES: Final = (
    "fanout", "filters", "limits", "write", "log", "cluster", "connect", "slow", "dear", "payload",
    "gateway", "large",
)  # fmt: skip


HELP: Final = f"""Run benchmarks: {", ".join(NAMES)}; all when none is named.

`install` puts the other servers into a cache of their own; `publish` makes RESULTS.md and the
charts that README.md shows of the newest results."""


@click.command(help=HELP)
@click.argument("names", nargs=-1, type=click.Choice([*NAMES, "install", "publish"]))
@click.option("--quick", is_flag=True, help="Short and once, for development.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
def main(names: tuple[str, ...], quick: bool, repeats: int) -> None:
    machine = about()
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"load {machine['load_average'][0]}"
    )
    if len(CORES) < 2:
        console.print("[red]one core only: server and load generator share it[/red]")
    if machine["load_average"][0] > len(CORES) / 2:
        console.print("[red]the machine is busy: latencies will be too high[/red]")
    started = time.monotonic()
    for name in names or NAMES:
        if name == "install":
            from bench.peers import install

            install()
        elif name == "publish":
            publish(NAMES)
        else:
            begun = time.monotonic()
            importlib.import_module(f"bench.{name}").run(quick=quick, repeats=repeats)
            console.print(f"[dim]{name}: {time.monotonic() - begun:.0f} s[/dim]\n")
    console.print(f"[dim]{time.monotonic() - started:.0f} s in all[/dim]")


if __name__ == "__main__":
    main()
