"""`python -m tests.abuse`: exit status 1 when an answer is wrong or a bystander waits too long."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import click
import httpx
import trio

from tests.abuse import filters, writes
from tests.abuse.attacker import Abuse, Attacker
from tests.abuse.bystander import Bystander
from tests.behaviour.server import OPEN, Server

TABLE: tuple[Abuse, ...] = (*filters.TABLE, *writes.TABLE)
BOUND_MS = 10.0
PATIENCE_S = 120.0


@click.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
def main(names: tuple[str, ...], rounds: int) -> None:
    """Run hostile inputs (all, or those whose names contain one of NAMES); say how long others
    waited.
    """
    chosen = [one for one in TABLE if not names or any(name in one.name for name in names)]
    if not chosen:
        raise click.UsageError("no such input; there are: " + ", ".join(a.name for a in TABLE))
    click.echo(f"{'input':<32}{'answer':>8}{'median ms':>11}{'worst ms':>10}  verdict")
    bad = 0
    for one in chosen:
        status, waits = trio.run(play, one, rounds)
        median = statistics.median(waits)
        faults = [] if status in one.expected else [f"expected {one.expected}"]
        if median > BOUND_MS:
            faults.append(f"over {BOUND_MS:g} ms")
        bad += bool(faults)
        verdict = ", ".join(faults) or "kept"
        click.echo(f"{one.name:<32}{status:>8}{median:>11.1f}{max(waits):>10.1f}  {verdict}")
    raise SystemExit(bool(bad))


async def play(one: Abuse, rounds: int) -> tuple[int, list[float]]:
    """One input, so many times on one server: its last answer, and the worst wait of each round."""
    with tempfile.TemporaryDirectory() as home:
        server = Server("native", {**OPEN, **one.settings}, Path(home))
        server.start()
        bystander = Bystander(server.port)
        try:
            url = f"http://127.0.0.1:{server.port}"
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
                client = Attacker(server, http)
                status, waits = 0, []
                for _ in range(rounds):
                    await one.prepare(client)
                    bystander.worst_ms()
                    status = await one.attack(client)
                    await trio.sleep(one.settle_s)
                    waits.append(bystander.worst_ms())
                return status, waits
        finally:
            bystander.stop()
            server.kill()


if __name__ == "__main__":
    main()
