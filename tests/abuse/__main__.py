"""`python -m tests.abuse`: exit status 1 when an answer is wrong or a bystander waits too long."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import click
import trio

from tests.abuse import connections, crowd, filters, generated, hoards, memory, writes
from tests.abuse.attacker import Abuse, attacker
from tests.abuse.bystander import Bystander, Wait
from tests.abuse.holds import ROUNDS, Holds, WatchedServer
from tests.behaviour.server import OPEN, Server

TABLE: tuple[Abuse, ...] = (*filters.TABLE, *writes.TABLE, *connections.TABLE)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--holds", is_flag=True, help="Say how long the loop was held, and in what.")
@click.option("--minutes", type=float, default=5.0, show_default=True, help="For `generated`.")
@click.option("--seed", type=int, default=1, show_default=True, help="For `generated`.")
@click.option("--first", type=int, default=0, help="For `generated`: the number of the first one.")
def main(
    names: tuple[str, ...], rounds: int, minutes: float, seed: int, first: int, *, holds: bool
) -> None:
    """Run hostile inputs (all, or those whose names contain one of NAMES); say how long others
    waited. `memory` runs those instead that make the server hold much, and says how much it took;
    `crowd` has each of them from a hundred clients at once; `generated` makes others.
    """
    if names[:1] == ("generated",):
        raise SystemExit(trio.run(generated.long, seed, minutes, first))
    if names[:1] == ("memory",):
        raise SystemExit(weigh(names[1:]))
    if names[:1] == ("crowd",):
        raise SystemExit(crowd.run(chosen(names[1:]), holds=holds))
    head = f"{'input':<32}{'answer':>8}{'median ms':>11}{'worst ms':>10}{'server ms':>11}"
    click.echo(f"{head}  verdict")
    bad = 0
    for one in chosen(names):
        status, waits, held = trio.run(play, one, rounds, holds)
        usual = Wait(*map(statistics.median, zip(*waits, strict=True)))
        worst_ms = max(wait.wait_ms for wait in waits)
        faults = [] if status in one.expected else [f"expected {one.expected}"]
        faults += usual.faults(one.bound_ms)
        bad += bool(faults)
        verdict = (", ".join(faults) or "kept") + usual.note(one.bound_ms)
        figures = f"{usual.wait_ms:>11.1f}{worst_ms:>10.1f}{usual.server_ms:>11.1f}"
        click.echo(f"{one.name:<32}{status:>8}{figures}  {verdict}")
        if held is not None:
            click.echo(f"  longest step {held.step_ms:.1f} ms of processor time")
            click.echo("".join(f"    {line}\n" for line in held.step_in), nl=False)
            click.echo(f"  longest {ROUNDS} rounds {held.rounds_ms:.1f} ms")
            click.echo("".join(f"    {line}\n" for line in held.rounds_in), nl=False)
    raise SystemExit(bool(bad))


def chosen(names: tuple[str, ...]) -> list[Abuse]:
    """Those whose names contain one of these; all when none is given."""
    found = [one for one in TABLE if not names or any(name in one.name for name in names)]
    if not found:
        raise click.UsageError("no such input; there are: " + ", ".join(a.name for a in TABLE))
    return found


async def play(one: Abuse, rounds: int, holds: bool) -> tuple[int, list[Wait], Holds | None]:
    """One input, so many times on one server: its last answer, the worst wait of each round, and
    with `holds` what held the loop.
    """
    with tempfile.TemporaryDirectory() as home:
        settings = {**OPEN, **one.settings}
        watched = WatchedServer(settings, Path(home)) if holds else None
        server = watched or Server("native", settings, Path(home))
        server.start()
        bystander = Bystander(server)
        try:
            async with attacker(server) as client:
                status, waits, held = 0, list[Wait](), Holds()
                for _ in range(rounds):
                    await one.prepare(client)
                    bystander.worst()
                    if watched is not None:
                        watched.longest()
                    status = await one.attack(client)
                    await trio.sleep(one.settle_s)
                    waits.append(bystander.worst())
                    if watched is not None:
                        held = held.or_longer(watched.longest())
                return status, waits, held if holds else None
        finally:
            bystander.stop()
            server.kill()


def weigh(names: tuple[str, ...]) -> bool:
    """Print what each hoard made the server take. Whether one took more than is allowed."""
    most = memory.LIMIT * memory.SLACK
    click.echo(
        f"{'hoard':<36}{'peak MB':>9}{'then MB':>9}{'ledger MB':>11}  verdict; most, stopped by"
    )
    bad = False
    for hoard in (*memory.TABLE, *hoards.TABLE):
        if names and not any(name in hoard.name for name in names):
            continue
        weight = memory.play(hoard)
        is_idle = weight.filled < memory.FULL
        bad |= weight.peak > most or is_idle
        verdict = f"over {most / 1e6:.0f} MB" if weight.peak > most else "kept"
        if is_idle:
            verdict += f", holds nothing: {weight.filled:.0%} of what it should fill"
        account, peak = weight.most
        click.echo(
            f"{hoard.name:<36}{weight.peak / 1e6:>9.0f}{weight.now / 1e6:>9.0f}"
            f"{weight.held / 1e6:>11.0f}  {verdict}; {account} {peak / 1e6:.0f} MB, "
            f"{', '.join(weight.stopped) or 'nothing'}"
        )
    return bad


if __name__ == "__main__":
    main()
