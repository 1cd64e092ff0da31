"""A Quart-Trio application with Triode in it: our own, or somebody else's."""

from __future__ import annotations

import logging
from itertools import chain, count
from typing import TYPE_CHECKING

import trio
from quart_trio import QuartTrio

from triode.app.blueprints import all_blueprints
from triode.app.blueprints.errors import install
from triode.app.lanes import http2
from triode.app.lanes.asgi_adapter import HttpConnection, SocketConnection
from triode.app.lanes.http_fast_path import DIRECT, FastPath
from triode.app.service import running
from triode.app.service.triode import Triode

if TYPE_CHECKING:
    from triode.app.config.settings import Settings


def create_app(triode: Triode | Settings) -> QuartTrio:
    """The application for a server, or for one made from settings. Its services run with the ASGI
    lifespan.
    """
    http2.install()
    server = triode if isinstance(triode, Triode) else Triode(triode)
    app = QuartTrio("triode", static_folder=None)
    app.extensions["triode"] = server
    app.asgi_http_class = HttpConnection
    app.asgi_websocket_class = SocketConnection
    install(app, server)
    attach(app, server)
    app.extensions[DIRECT] = FastPath(app)
    logging.getLogger("quart").setLevel(logging.WARNING)
    return app


def attach(app: QuartTrio, triode: Triode, url_prefix: str = "") -> None:
    """Register the blueprints on any Quart-Trio application, and run the services with it. Several
    Triodes may be in one application, each with a prefix of its own.
    """
    for blueprint in all_blueprints(triode):
        # Those of a second Triode are called like those of the first.
        names = (f"{blueprint.name}_{number}" for number in count(2))
        name = next(name for name in chain([blueprint.name], names) if name not in app.blueprints)
        app.register_blueprint(blueprint, url_prefix=url_prefix or None, name=name)

    scope = trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128 # `run` calls it
        with scope:
            await running.run(triode, task_status=task_status)

    @app.before_serving
    async def start() -> None:
        await app.nursery.start(run)

    @app.after_serving
    async def stop() -> None:
        scope.cancel()
