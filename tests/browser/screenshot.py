"""Take a picture of the console: `python -m tests.browser.screenshot docs/console.png`.

A real server with the demo's data, a crowd of real clients, a real browser. The machine's counters
differ from run to run; what people do does not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.behaviour.server import Server

from .chromium import DESKTOP, PHONE, expect, launch
from .crowd import crowd

# Charts need a past to show.
PAST_S = 45


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dark", is_flag=True, help="For the night.")
@click.option("--phone", is_flag=True, help="On a phone.")
@click.option("--past", default=PAST_S, show_default=True, metavar="SECONDS", help="Before it.")
@click.option("--filter", "wanted", default=".prices.*.bid", show_default=True)
def main(file: Path, wanted: str, past: int, *, dark: bool, phone: bool) -> None:
    """Write a PNG of the console to FILE."""
    look = DESKTOP | (PHONE if phone else {"device_scale_factor": 1.5})
    look |= {"color_scheme": "dark" if dark else "light"}
    with tempfile.TemporaryDirectory() as home, launch() as browser:
        # Small buffers, so that those who read slowly show within seconds.
        server = Server("native", {"demo": "true", "send_buffer_bytes": 8192}, Path(home))
        server.start()
        url = f"http://127.0.0.1:{server.port}"
        try:
            page = browser.new_context(**look).new_page()
            page.goto(url)
            with crowd(url, sse=9, ws=9, slow=2):
                page.fill("#trial-filter", wanted, force=phone)
                page.wait_for_timeout(past * 1000)
                expect(page.locator("#clients tr.client")).not_to_have_count(0)
                page.screenshot(path=file)
        finally:
            server.stop()
    click.echo(f"{file}: {file.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
