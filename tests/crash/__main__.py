"""`python -m tests.crash`: exit status 1 when a promise is broken."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from pathlib import Path

import click
import trio

from tests.crash.crash import Result, crash
from tests.crash.launch import FAULTS


@click.command()
@click.option("--loops", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=int, help="Of an earlier run: the same writes and times.")
@click.option("--fault", type=click.Choice(sorted(FAULTS)), help="Put it in; it has to be found.")
def main(loops: int, seed: int | None, fault: str | None) -> None:
    """Kill a server under load, again and again, and say what is missing afterwards."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    click.echo(f"seed {seed}")
    home = Path(tempfile.mkdtemp(prefix="crash-"))
    began = time.monotonic()

    def tell(result: Result) -> None:
        if result.loops % 10 == 0 or result.loops == loops:
            click.echo(f"{time.monotonic() - began:6.0f} s  {result}")

    try:
        trio.run(lambda: crash(home, loops, seed, fault=fault or "", tell=tell))
    except AssertionError as violation:
        click.echo(f"VIOLATION: {str(violation)[:4000]}\nseed {seed}; what is left: {home}")
        raise SystemExit(1) from None
    shutil.rmtree(home)
    click.echo("nothing that was answered is missing, nothing that was refused is there")


if __name__ == "__main__":
    main()
