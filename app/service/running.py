"""The services of a running Triode, in one nursery."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from triode.app.runtime.metrics import watch_loop
from triode.app.service.deferred_free import dispose
from triode.app.service.heartbeat import pulse
from triode.app.service.shutdown import end_with_hypercorn
from triode.limits.grant import FULL
from triode.store.operation import Set
from triode.store.value import JsonError, decode_steps

if TYPE_CHECKING:
    from pathlib import Path

    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

# A document may have grown deeper than any one body, see `store.plan`.
LOADED_DEPTH = 512


async def run(
    triode: Triode, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the services until cancelled. One nursery holds them all and ends with the first
    that fails.
    """
    triode.clock.sync()
    triode.started_at = trio.current_time()
    if triode.settings.admin_token is not None:
        triode.tokens.adopt(
            triode.settings.admin_token, FULL, now=triode.clock.unix_s(), label="admin"
        )
    try:
        if triode.settings.load is not None:
            await _load(triode, triode.settings.load)
        async with trio.open_nursery() as nursery:
            await nursery.start(triode.hub.run)
            nursery.start_soon(pulse, triode)
            nursery.start_soon(end_with_hypercorn, triode)
            nursery.start_soon(watch_loop, triode.metrics)
            nursery.start_soon(dispose, triode.store)
            if triode.settings.demo:
                from triode.app.service.demo import run as run_demo

                nursery.start_soon(run_demo, triode.write)
            triode.ready = True
            task_status.started()
    finally:
        triode.ready = False


async def _load(triode: Triode, path: Path) -> None:
    """Begin with the document in a file. Raises ValueError unless it holds JSON; OSError."""
    data = await trio.Path(path).read_bytes()
    log.info("loading %s, %.1f MB", path, len(data) / 1e6)
    steps = decode_steps(data, max_depth=LOADED_DEPTH)
    try:
        while True:
            next(steps)
            await trio.lowlevel.checkpoint()
    except StopIteration as done:
        triode.write_nowait(Set((), done.value))
    except JsonError as error:
        raise ValueError(f"{path} cannot be loaded: {error.detail}") from error
