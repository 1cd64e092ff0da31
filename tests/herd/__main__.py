"""`python -m tests.herd`: exit status 1 unless everybody comes back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import trio

from tests.behaviour.server import Server, Settings
from tests.herd.herd import Return, herd
from tests.herd.nginx import NGINX, nginx


@click.command()
@click.option("--clients", type=click.IntRange(1), default=3000, show_default=True)
@click.option("--away", type=float, default=3.0, show_default=True, help="Seconds.")
@click.option("--patience", type=float, default=300.0, show_default=True, help="Seconds.")
@click.option("--trusted/--untrusted", default=True, help="Whether the server knows its proxy.")
@click.option("--http2", is_flag=True, help="Between the clients and nginx.")
def main(clients: int, away: float, patience: float, trusted: bool, http2: bool) -> None:
    """Native EventSources behind one address and nginx, and a server that is restarted."""
    if NGINX is None:
        raise click.UsageError("nginx is not installed")
    found = trio.run(play, clients, away, patience, trusted, http2)
    click.echo(
        f"{found.came} of {clients} came back after {found.away_s:.1f} s in which the server was "
        f"away or ending: half of them within {found.half_s - found.away_s:.1f} s from then on, "
        f"the last after {found.last_s - found.away_s:.1f} s; closed for good: {found.closed}"
    )
    click.echo("answers: " + ", ".join(f"{n} × {what}" for what, n in found.answers.items()))
    raise SystemExit(found.came != clients or found.closed != 0)


async def play(
    clients: int, away_s: float, patience_s: float, trusted: bool, http2: bool
) -> Return:
    """One restart, with the default settings but for the proxy."""
    settings: Settings = {"trusted_proxies": "127.0.0.1"} if trusted else {}
    with tempfile.TemporaryDirectory() as home:
        server = Server("native", settings, Path(home))
        server.start()
        try:
            with nginx(server.port, Path(home) / "nginx", http2=http2) as port:
                async with herd(port, clients, patience_s, http2=http2) as those:
                    click.echo(f"{clients} are there")
                    return await those.restart(server, away_s, patience_s)
        finally:
            server.stop()


main()
