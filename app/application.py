"""Our own Quart-Trio application: Triode's blueprints and nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from quart_trio import QuartTrio

from triode.app.blueprints.direct import DirectRoutes
from triode.app.blueprints.errors import install
from triode.app.lanes.asgi_adapter import DIRECT
from triode.app.service.triode import Triode

if TYPE_CHECKING:
    from triode.app.config.settings import Settings


def create_app(triode: Triode | Settings) -> QuartTrio:
    """The application for a server, or for one made from settings. Its services run with the ASGI
    lifespan.
    """
    server = triode if isinstance(triode, Triode) else Triode(triode)
    app = QuartTrio("triode", static_folder=None)
    app.extensions["triode"] = server
    install(app, server)
    server.attach(app)
    app.extensions[DIRECT] = DirectRoutes(app)
    logging.getLogger("quart").setLevel(logging.WARNING)
    return app
