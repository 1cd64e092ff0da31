"""What a log that is shared asks of a Triode, beside carrying out what stands in it.

Lineage      positions have another epoch from here on; nothing else has changed
Anew         the document is made anew from a snapshot, and all clients are told and resynced
SeedWanted   the server has lost the log, and this Triode's document is to be what it has
Alive        clients are told whether what they see may be old
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

import trio

from triode.app.delivery.anew import begin_anew
from triode.app.log.log import Alive, Anew, LogAway, LogError, LogFull, LogRefused, SeedWanted
from triode.app.service.decision import hold_to
from triode.app.service.issuing import take_over
from triode.app.service.log_snapshot import restore
from triode.app.service.return_times import ReturnTimes
from triode.app.service.saving import save
from triode.app.service.snapshot_reading import choose, load_snapshot
from triode.app.wire import end_reasons
from triode.app.wire.frame import Frame, control
from triode.store.lineage import Lineage

if TYPE_CHECKING:
    from triode.app.delivery.subscriber import Client
    from triode.app.log.log import Opened, SharedLog
    from triode.app.service.journal import Journal
    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

ATTEMPTS: Final = 5
AGAIN_S: Final = 0.5
# Sooner than another node would be asked.
SEED_AGAIN_S: Final = 0.1


async def boot_shared(triode: Triode, opened: Opened) -> None:
    """Begin with the newest snapshot of a shared log that leaves a history behind it, and go on to
    where the log stands. Raises `LogRefused`.
    """
    journal, shared = _shared(triode)
    for left in reversed(range(ATTEMPTS)):
        try:
            await _make(triode, Anew("boot", opened.lineage, opened.last, opened.snapshots))
            break
        except LogError as error:
            # A newer snapshot may have taken its place meanwhile.
            if not left:
                raise LogRefused(str(error)) from error
            await trio.sleep(AGAIN_S)
            shared.begin_failed()
            opened = await shared.open()
    triode.progress.begin("redoing the log", opened.last - triode.store.seq, "writes")
    await journal.catch_up(opened.last)


async def attend(triode: Triode, news: Anew | SeedWanted | Alive | Lineage) -> None:
    """Do what the log asks for."""
    match news:
        case Lineage():
            triode.store.go_on_as(news)
        case Anew():
            await _begin_anew(triode, news)
        case SeedWanted():
            await _seed(triode)
        case Alive():
            _tell(triode, is_live=news.is_live)
        case _:
            assert_never(news)


def _shared(triode: Triode) -> tuple[Journal, SharedLog]:
    journal = triode.journal
    assert journal is not None
    assert journal.shared is not None
    return journal, journal.shared


async def _make(triode: Triode, anew: Anew) -> None:
    """Make the document what one of the snapshots has. Raises `LogRefused` and `LogAway`."""
    journal, shared = _shared(triode)
    snapshot = choose(anew.snapshots, anew.last, triode.settings.history_items)
    head, tables, root = await load_snapshot(shared, snapshot, triode.progress)
    # From here on in one step: nobody may see the one document with the other's positions.
    before = set(triode.store.records.rows())
    put = partial(restore, triode.store, head, tables, root, anew.lineage)
    leaving = begin_anew(triode.hub, put, anew.reason, anew.lost)
    _send_away(triode, leaving)
    triode.hub.rooms.follow(head.seq)
    hold_to(triode.store, head.bounds)
    journal.replica.bounds = head.bounds
    journal.last_ms = max(journal.last_ms, head.time_ms)
    for name in before - triode.store.records.rows().keys():
        triode.record_kept(name, None)  # a token that was revoked meanwhile, or is lost
    take_over(triode)
    shared.begin_at(snapshot)


async def _begin_anew(triode: Triode, anew: Anew) -> None:
    journal, shared = _shared(triode)
    log.warning(
        "the document is made anew from the log (%s), at %s; %d writes of before are not in it",
        anew.reason,
        anew.last,
        anew.lost,
    )
    journal.anew[anew.reason] += 1
    journal.lost += anew.lost
    triode.ready = False
    try:
        if anew.snapshots:
            await _make(triode, anew)
        else:
            shared.begin_failed()
    except LogError as error:
        log.warning("it could not be: %s", error)
        shared.begin_failed()
    finally:
        triode.ready = True


def _send_away(triode: Triode, clients: list[Client]) -> None:
    """These come back at once, and are given what there is then."""
    times = ReturnTimes(triode.settings, clients)
    for client in clients:
        triode.hub.end(client, end_reasons.RESTART, retry_ms=times.next_ms(client))


async def _seed(triode: Triode) -> None:
    """Tried as long as it is wanted: if nobody gave it back, the log would begin with nothing."""
    _, shared = _shared(triode)
    at = triode.store.position
    log.warning("the log is gone from its server; it gets what there is here: %s", at)
    while shared.is_seeding:
        try:
            await save(triode, finish=shared.finish_seed)
            return
        except LogAway as error:
            log.warning("it could not be given back; it is tried again: %s", error)
            await trio.sleep(SEED_AGAIN_S)
        except LogFull as error:
            log.error("it cannot be given back: %s", error)
            shared.seed_failed()


def _tell(triode: Triode, *, is_live: bool) -> None:
    if is_live:
        log.info("the log is in reach: writes are taken")
    else:
        log.error("the log is not in reach: nothing is written, and what is read may be old")
    hub = triode.hub
    body = {"live": is_live, "time": triode.clock.unix_ms()}
    if (hub.status is None) != is_live:
        hub.status = None if is_live else body
        clients = list(hub.clients.values())
        hub.send(clients, lambda kind: Frame(control(kind, "status", body)))
