"""The services of a running Triode, in one nursery."""

from __future__ import annotations

import logging
from codecs import BOM_UTF8
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from triode.app.log.log import LogBroken
from triode.app.runtime.metrics import watch_loop
from triode.app.runtime.turns import exhaust
from triode.app.service.boot import boot, let_go
from triode.app.service.deferred_free import dispose
from triode.app.service.expiring import expire_first, expire_in_time
from triode.app.service.heartbeat import heartbeat
from triode.app.service.issuing import drop_ended
from triode.app.service.return_times import longest_absence_s
from triode.app.service.saving import save_when_due
from triode.app.service.sharing import attend
from triode.app.service.shutdown import end_with_hypercorn, say_goodbye
from triode.app.service.snapshot_reading import DOCUMENT_DEPTH
from triode.app.wire.refusal import Refusal
from triode.limits.grant import FULL
from triode.store.operation import Set
from triode.store.value import JsonError, decode_steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

# When the log broke: so long, 5 s, clients may take to go.
LOOK_EVERY_S: Final = 0.1
LEAVE_LOOKS: Final = 50


async def run(
    triode: Triode, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the services until cancelled. One nursery holds them all and ends with the first
    that fails.
    """
    triode.clock.sync()
    triode.started_at = trio.current_time()
    triode.gate.returning.begin(
        triode.settings.max_clients, triode.started_at + longest_absence_s(triode.settings)
    )
    if triode.settings.admin_token is not None:
        triode.tokens.adopt(
            triode.settings.admin_token, FULL, now=triode.clock.unix_s(), label="admin"
        )
    try:
        await begin(triode)
        async with trio.open_nursery() as nursery:
            await nursery.start(triode.hub.run)
            if triode.journal is not None:
                nursery.start_soon(_until_broken, triode, triode.journal.run)
                nursery.start_soon(_until_broken, triode, partial(save_when_due, triode))
                nursery.start_soon(drop_ended, triode)
            if triode.cluster is not None:
                nursery.start_soon(triode.cluster.run)
            await expire_first(triode)
            nursery.start_soon(expire_in_time, triode)
            if triode.peers is not None:
                nursery.start_soon(triode.peers.run)
            nursery.start_soon(heartbeat, triode)
            nursery.start_soon(end_with_hypercorn, triode)
            nursery.start_soon(watch_loop, triode.metrics)
            nursery.start_soon(dispose, triode.store)
            if triode.on_hangup is not None:
                nursery.start_soon(triode.on_hangup)
            if triode.settings.demo:
                from triode.app.service.demo import run as run_demo

                nursery.start_soon(run_demo, triode.write)
            triode.ready = True
            task_status.started()
    finally:
        triode.ready = False
        await let_go(triode)  # noqa: ASYNC102 # it has a deadline of its own


async def _until_broken(triode: Triode, work: Callable[..., Awaitable[None]]) -> None:
    """Run what the log is needed for. When it breaks, all clients are sent away first: what they
    have seen stays true, and the next process goes on from there. Raises `LogBroken`.
    """
    journal = triode.journal
    assert journal is not None
    try:
        await work()
        return
    except LogBroken as error:
        if journal.broken is not None:
            return  # the other one raises it
        journal.broken = error
    await _leave(triode, journal.broken)
    raise journal.broken


async def _leave(triode: Triode, error: LogBroken) -> None:
    log.critical("the log broke (%s): nothing is written any more, and the server ends", error)
    await say_goodbye(triode)
    # At least once: those who have just been told over HTTP that nothing is known read it, too.
    for _ in range(LEAVE_LOOKS):
        await trio.sleep(LOOK_EVERY_S)
        if not triode.hub.clients:
            break


class NotLoaded(ValueError):
    """The file that the document begins with cannot be read, or holds no JSON."""


async def begin(triode: Triode) -> None:
    """Begin with the document of the log, or of the file in the settings; once. Raises `LogRefused`
    and `NotLoaded`.
    """
    journal = triode.journal
    if journal is None or journal.shared is None or journal.is_begun:
        await _begin(triode)
        return
    journal.attend = partial(attend, triode)
    triode.hub.node = f"{journal.shared.node}_"
    fault: Exception | None = None
    async with trio.open_nursery() as nursery:
        # Until `Journal.run` does so.
        nursery.start_soon(journal.shared.run)
        try:
            await _begin(triode)
        except Exception as error:  # not in a group: it is the answer to who called us
            fault = error
        nursery.cancel_scope.cancel()
    if fault is not None:
        raise fault


async def _begin(triode: Triode) -> None:
    if await boot(triode) or triode.journal is None:
        await _load(triode)


async def _load(triode: Triode) -> None:
    path, store = triode.settings.load, triode.store
    if path is None or (triode.journal is None and store.seq):
        await trio.lowlevel.checkpoint()
        return
    if triode.journal is not None and not triode.journal.is_new:
        # No fault: whoever starts the server again after a crash gives the same options.
        log.warning(
            "--load %s is left out: it is for a new log, and the one in %s has a document already "
            "(at %s)",
            path,
            triode.settings.log or triode.settings.data,
            store.position,
        )
        await trio.lowlevel.checkpoint()
        return
    try:
        data = await trio.Path(path).read_bytes()
    except OSError as error:
        raise NotLoaded(f"{path}: {error.strerror}") from error
    triode.progress.begin(f"loading {path.name}")
    log.info("loading %s, %.1f MB", path, len(data) / 1e6)
    # Editors on Windows begin a file with this mark; it is no part of the JSON (RFC 8259 8.1).
    steps = decode_steps(data.removeprefix(BOM_UTF8), max_depth=DOCUMENT_DEPTH)
    try:
        op = Set((), await exhaust(steps))
        if triode.journal is None:
            triode.write_nowait(op)
        else:
            await triode.journal.write_first(op)
    except JsonError as error:
        raise NotLoaded(f"{path} cannot be loaded: {error}") from error
    except Refusal as refusal:
        raise NotLoaded(
            f"{path} cannot be loaded: {refusal.detail} (--max-document-bytes)"
        ) from refusal
