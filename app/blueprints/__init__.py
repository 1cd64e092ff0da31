"""The HTTP side as Quart blueprints. They stand on their own: register them on any Quart-Trio
application.

Each module has `blueprint(triode)`, a closure over the running server; nothing here is global. To
add one: make it with `_request.gated`, so that it asks for tokens and charges rates as the others
do, and name it in `all_blueprints`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.app.blueprints import (
    batch,
    connections,
    debug,
    events,
    log,
    observe,
    pages,
    publish,
    store,
    tokens,
    ws,
)
from triode.app.blueprints.errors import guard

if TYPE_CHECKING:
    from quart import Blueprint

    from triode.app.service.triode import Triode


def all_blueprints(triode: Triode) -> list[Blueprint]:
    """All routes of the server, in the order in which they are best registered."""
    found = [
        store.blueprint(triode),
        batch.blueprint(triode),
        events.blueprint(triode),
        publish.blueprint(triode),
        connections.blueprint(triode),
        tokens.blueprint(triode),
        tokens.own(triode),
        tokens.renewal(triode),
        observe.blueprint(triode),
        observe.probes(triode),
        log.blueprint(triode),
        pages.blueprint(triode),
        ws.plain(triode),
        debug.blueprint(triode),
    ]
    for blueprint in found:
        guard(blueprint, triode)
    return [*found, ws.blueprint(triode)]
