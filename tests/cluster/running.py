"""Triodes of this process on the log of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from triode.app.config.log_address import LogAddress
from triode.app.config.settings import Settings
from triode.app.log.shared.valkey import ValkeyLog
from triode.app.service import running
from triode.app.service.triode import Triode


@asynccontextmanager
async def node(
    address: LogAddress, root: Any = None, *, port: int = 0, **options: Any
) -> AsyncIterator[Triode]:
    """A Triode that shares a log; `port` is that of a proxy in front of the server."""
    options = {"http_rate": None, "ws_rate": None} | options
    log = ValkeyLog(replace(address, port=port or address.port))
    triode = Triode(Settings(**options), root, log=log)
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run, triode)
        yield triode
        nursery.cancel_scope.cancel()
