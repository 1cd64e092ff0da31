"""`python -m tests.abuse`: exit status 1 when an answer is wrong or a bystander waits too long."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import click
import httpx
import trio

from tests.abuse import connections, filters, hoards, memory, writes
from tests.abuse.attacker import Abuse, Attacker
from tests.abuse.bystander import Bystander
from tests.abuse.holds import ROUNDS, Holds, WatchedServer
from tests.behaviour.server import OPEN, Server

TABLE: tuple[Abuse, ...] = (*filters.TABLE, *writes.TABLE, *connections.TABLE)
PATIENCE_S = 120.0


@click.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--holds", is_flag=True, help="Judge by how long the loop was held, not by waits; say where."
)
def main(names: tuple[str, ...], rounds: int, *, holds: bool) -> None:
    """Run hostile inputs (all, or those whose names contain one of NAMES); say how long others
    waited. `memory` runs those instead that make the server hold much, and says how much it took.
    """
    if names[:1] == ("memory",):
        raise SystemExit(weigh(names[1:]))
    chosen = [one for one in TABLE if not names or any(name in one.name for name in names)]
    if not chosen:
        raise click.UsageError("no such input; there are: " + ", ".join(a.name for a in TABLE))
    click.echo(f"{'input':<32}{'answer':>8}{'median ms':>11}{'worst ms':>10}  verdict")
    bad = 0
    for one in chosen:
        status, waits, held = trio.run(play, one, rounds, holds)
        median = statistics.median(waits)
        faults = [] if status in one.expected else [f"expected {one.expected}"]
        # With the processor's clock at hand, a busy machine's own is not asked.
        if (median if held is None else held.rounds_ms) > one.bound_ms:
            faults.append(f"over {one.bound_ms:g} ms")
        bad += bool(faults)
        verdict = ", ".join(faults) or "kept"
        click.echo(f"{one.name:<32}{status:>8}{median:>11.1f}{max(waits):>10.1f}  {verdict}")
        if held is not None:
            click.echo(f"  longest step {held.step_ms:.1f} ms of processor time")
            click.echo("".join(f"    {line}\n" for line in held.step_in), nl=False)
            click.echo(f"  longest {ROUNDS} rounds {held.rounds_ms:.1f} ms")
            click.echo("".join(f"    {line}\n" for line in held.rounds_in), nl=False)
    raise SystemExit(bool(bad))


async def play(one: Abuse, rounds: int, holds: bool) -> tuple[int, list[float], Holds | None]:
    """One input, so many times on one server: its last answer, the worst wait of each round, and
    with `holds` what held the loop.
    """
    with tempfile.TemporaryDirectory() as home:
        settings = {**OPEN, **one.settings}
        watched = WatchedServer(settings, Path(home)) if holds else None
        server = watched or Server("native", settings, Path(home))
        server.start()
        bystander = Bystander(server.port)
        try:
            url = f"http://127.0.0.1:{server.port}"
            async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
                client = Attacker(server, http)
                status, waits, held = 0, [], Holds()
                for _ in range(rounds):
                    await one.prepare(client)
                    bystander.worst_ms()
                    if watched is not None:
                        watched.longest()
                    status = await one.attack(client)
                    await trio.sleep(one.settle_s)
                    waits.append(bystander.worst_ms())
                    if watched is not None:
                        held = held.or_longer(watched.longest())
                return status, waits, held if holds else None
        finally:
            bystander.stop()
            server.kill()


def weigh(names: tuple[str, ...]) -> bool:
    """Print what each hoard made the server take. Whether one took more than is allowed."""
    most = memory.LIMIT * memory.SLACK
    click.echo(f"{'hoard':<36}{'peak MB':>9}{'then MB':>9}{'ledger MB':>11}  verdict")
    bad = False
    for hoard in (*memory.TABLE, *hoards.TABLE):
        if names and not any(name in hoard.name for name in names):
            continue
        peak, now, held = memory.play(hoard)
        bad |= peak > most
        verdict = f"over {most / 1e6:.0f} MB" if peak > most else "kept"
        click.echo(
            f"{hoard.name:<36}{peak / 1e6:>9.0f}{now / 1e6:>9.0f}{held / 1e6:>11.0f}  {verdict}"
        )
    return bad


if __name__ == "__main__":
    main()
