"""`python -m tests.kit URL`: exit status 0 when all promises were kept, 1 when one was not, 2 when
the kit could not do its work.
"""

from __future__ import annotations

import json
import random
import shlex
import subprocess
from functools import partial

import click
import trio
from rich.console import Console
from rich.markup import escape

from .play import Outcome, chosen, play
from .stage import Options
from .wire import Address

COLORS = {"kept": "green", "skipped": "dim", "broken": "bold red", "failed": "bold yellow"}
HEAD = (
    f"{'scenario':<15}{'over':<5}{'seed':>10}{'matched':>9}{'sent':>8}{'announced':>10}"
    f"{'gaps':>6}{'snapshots':>10}{'seconds':>9}  verdict"
)


@click.command()
@click.argument("url")
@click.option("--token", envvar="TRIODE_TOKEN", help="A token that may do everything needed.")
@click.option("--seed", type=int, help="Play again what this seed drew; else one is drawn.")
@click.option(
    "--rounds", type=click.IntRange(1), default=1, show_default=True, help="So many seeds."
)
@click.option("--only", multiple=True, metavar="NAME", help="Only this scenario; repeatable.")
@click.option("--restart-command", help="Restarts the server at the same address, and returns.")
@click.option("--write-deadline", type=float, help="The server's, in seconds: frozen ones end.")
@click.option("--no-goodbye", is_flag=True, help="Its restart is Hypercorn's: nobody is told.")
@click.option("--flood", type=int, default=Options.flood_bytes, show_default=True,
              help="Bytes that surely overflow a queue and the system's buffers.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each scenario.")
def main(
    url: str,
    token: str | None,
    seed: int | None,
    rounds: int,
    only: tuple[str, ...],
    restart_command: str | None,
    write_deadline: float | None,
    no_goodbye: bool,
    flood: int,
    as_json: bool,
) -> None:
    """Check backpressure and recovery of the server at URL against a model of what it owes."""
    restart = None
    if restart_command is not None:
        restart = partial(trio.run_process, shlex.split(restart_command), stdout=subprocess.DEVNULL)

    async def restarted() -> None:
        assert restart is not None
        await restart()

    options = Options(
        restart=restarted if restart else None,
        write_deadline_s=write_deadline,
        says_goodbye=not no_goodbye,
        flood_bytes=flood,
    )
    first = random.SystemRandom().randrange(10**6) if seed is None else seed
    try:
        chosen(only)
    except KeyError as error:
        raise click.UsageError(str(error.args[0])) from None
    seeds = range(first, first + rounds)
    outcomes = trio.run(run, Address(url, token), options, [*seeds], only, as_json)
    if any(one.verdict == "broken" for one in outcomes):
        raise SystemExit(1)
    if any(one.verdict == "failed" for one in outcomes):
        raise SystemExit(2)


async def run(
    address: Address, options: Options, seeds: list[int], only: tuple[str, ...], as_json: bool
) -> list[Outcome]:
    """Play, and print each outcome as it comes."""
    console = Console(highlight=False, soft_wrap=True)
    outcomes: list[Outcome] = []
    plays = [(one, transport, seed) for seed in seeds for one, transport in chosen(only)]
    if not as_json:
        console.print(HEAD, style="bold")
    with console.status("") as status:
        for number, (one, transport, seed) in enumerate(plays, 1):
            status.update(f"{number} of {len(plays)}: {one.name} over {transport}")
            outcome = await play(address, options, one, transport, seed)
            outcomes.append(outcome)
            if as_json:
                console.print(json.dumps(outcome.json()), markup=False)
            else:
                show(console, address, outcome)
    if not as_json:
        summary(console, outcomes)
    return outcomes


def show(console: Console, address: Address, outcome: Outcome) -> None:
    """One line; and for what was broken all that is needed to see it again."""
    count = outcome.counts
    numbers = (
        f"{outcome.seed:>10}{count.get('matched', 0):>9}{count.get('sent', 0):>8}"
        f"{count.get('announced', 0):>10}{count.get('gaps', 0):>6}{count.get('snapshots', 0):>10}"
        f"{outcome.seconds:>9.2f}"
    )
    color = COLORS[outcome.verdict]
    note = f" ({outcome.lines[0]})" if outcome.verdict == "skipped" else ""
    console.print(
        f"{outcome.name:<15}{outcome.transport:<5}{numbers}  "
        f"[{color}]{outcome.verdict}[/{color}]{escape(note)}"
    )
    if outcome.is_good:
        return
    for line in outcome.lines:
        console.print(f"    {line}", markup=False)
    again = f"python -m tests.kit {address.url} --only {outcome.name} --seed {outcome.seed}"
    console.print(f"    again: {again}", markup=False)


def summary(console: Console, outcomes: list[Outcome]) -> None:
    """The last line."""
    counts = dict.fromkeys(COLORS, 0)
    for outcome in outcomes:
        counts[outcome.verdict] += 1
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(f"{len(outcomes)} played: {said}", style="bold")


if __name__ == "__main__":
    main()
