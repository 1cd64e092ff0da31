"""What the examples share: a Quart-Trio application with one page at / and Triode under /live."""

import argparse
import signal
from functools import partial
from pathlib import Path
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response
from quart_trio import QuartTrio

from triode import attach
from triode.app.config.settings import Settings
from triode.app.service.triode import Triode

HERE = Path(__file__).parent


def make_site(page: str, document: Any = None, **settings: Any) -> tuple[QuartTrio, Triode]:
    """An application that shows the file `page`, and the Triode inside it."""
    app = QuartTrio(page, static_folder=None)
    triode = Triode(Settings(**settings), document)
    attach(app, triode, url_prefix="/live")

    @app.get("/")
    async def index() -> Response:
        return Response((HERE / page).read_text(), content_type="text/html; charset=utf-8")

    return app, triode


def run_with(app: QuartTrio, task: Any) -> None:
    """Run an async function beside the application, from its start to its end."""
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await task()

    @app.before_serving
    async def start() -> None:
        app.nursery.start_soon(run)

    @app.after_serving
    async def stop() -> None:
        scope.cancel()  # or the nursery waits some seconds for it


def main(app: QuartTrio, about: str | None) -> None:
    """Serve until interrupted; the address is printed."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--port", type=int, default=8000, help="8000; 0 takes a free one")
    config = Config()
    config.bind = [f"127.0.0.1:{parser.parse_args().port}"]
    trio.run(partial(serve, app, config, mode="asgi", shutdown_trigger=told_to_stop))


async def told_to_stop() -> None:
    """Return at an interrupt or SIGTERM; then the streams end in order."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
