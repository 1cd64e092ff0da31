"""What this server holds for others: the accounts of its ledger, and who lets go first.

Once a second (`settle`) all accounts are read. Above the limit new bodies and messages are refused
from that moment on; then memory is let go, what costs others least first:

    caches      what clients' texts stand for is read again when it is needed
    shelf       what is encoded for those who ask next is encoded again
    history     clients that come back get a snapshot in place of what they missed
    remembered  filters that have to be evaluated are told by a snapshot at their next write
    queues      whoever has the longest queue is ended, and may come back
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.access import origin
from triode.app.runtime.machine import memory_bytes
from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal
from triode.limits import address, grant, principal
from triode.limits.ledger import Ledger
from triode.store import filter, path, pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triode.app.config.settings import Settings
    from triode.app.delivery.hub import Hub
    from triode.app.delivery.subscriber import Client
    from triode.limits.token import Tokens
    from triode.store.filter import Filter
    from triode.store.store import Store

# Of the machine's memory, when the operator says nothing.
DEFAULT_SHARE: Final = 0.75
# Of what may be held, the document may take so much: who hears of it needs some too.
DOCUMENT_SHARE: Final = 0.75
# And what filters remember so much: a filter without is told by snapshots.
REMEMBERED_SHARE: Final = 0.125

# And all filters that are watched so much; beyond it no new ones are taken.
FILTERS_SHARE: Final = 0.125
# And all tokens that were issued; beyond it no more are.
TOKENS_SHARE: Final = 0.0625
# What an idle client takes, measured with tracemalloc (tests/app/test_idle_memory.py).
CLIENT_BYTES: Final = 3_700
# And a room with a name of 128 letters, that one client is in one, and one of its tags.
ROOM_BYTES: Final = 600
MEMBER_BYTES: Final = 330
TAG_BYTES: Final = 640

# What is made of clients' texts, and kept. They are the process's: all servers in it share them.
CACHES: Final = (
    path.PATHS,
    path.NAMES,
    filter.FILTERS,
    filter.COVERED,
    filter.BY_PLACE,
    pattern.PATTERNS,
    grant.GLOBS,
    address.ADDRESSES,
    address.IP_KEYS,
    principal.NOBODIES,
    origin.ORIGINS,
    origin.PATTERNS,
)


def open_ledger(settings: Settings, hub: Hub, store: Store, tokens: Tokens) -> Ledger:
    """The ledger of a server, with an account for each holder."""
    ledger = Ledger(settings.memory or int(memory_bytes() * DEFAULT_SHARE))
    ledger.account(
        "caches",
        sum(cache.max_bytes for cache in CACHES),
        read=lambda: sum(cache.bytes for cache in CACHES),
    )
    store.max_footprint = int(ledger.limit * DOCUMENT_SHARE)
    ledger.account("document", store.max_footprint, read=lambda: store.footprint)
    ledger.account("history", settings.history_bytes, read=lambda: store.history.bytes)
    # They have bounds of their own, and decide what is refused: they can't be let go.
    ledger.account("touched", read=lambda: store.touched.bytes)
    ledger.account("outcomes", read=lambda: store.outcomes.bytes)
    ledger.account("records", read=lambda: store.records.bytes)
    ledger.account("deadlines", read=lambda: store.deadlines.bytes)
    tokens.max_bytes = int(ledger.limit * TOKENS_SHARE)
    ledger.account("tokens", tokens.max_bytes, read=lambda: tokens.bytes)
    ledger.account("room_logs", read=lambda: hub.rooms.log_bytes)
    ledger.account("queues", read=lambda: hub.backlog.bytes)
    ledger.account(
        "clients",
        read=lambda: len(hub.clients) * CLIENT_BYTES + hub.tags.count * TAG_BYTES,
    )
    ledger.account(
        "rooms",
        read=lambda: hub.rooms.count * ROOM_BYTES + hub.rooms.memberships * MEMBER_BYTES,
    )
    ledger.account("filters", int(ledger.limit * FILTERS_SHARE), read=lambda: store.index.bytes)
    remembered = store.index.remembered
    remembered.max_bytes = int(ledger.limit * REMEMBERED_SHARE)
    ledger.account("shelf", read=hub.shelf.settle)
    ledger.account("remembered", remembered.max_bytes, read=lambda: remembered.bytes)
    ledger.account("pins", read=lambda: store.document.pinned_bytes(store.footprint))
    ledger.account("bodies")
    ledger.account("messages")
    set_bounds(ledger, settings)
    ledger.on_pressure("caches", lambda _: clear_caches())
    ledger.on_pressure("shelf", lambda _: hub.shelf.clear())
    ledger.on_pressure("history", lambda _: store.forget_history())
    ledger.on_pressure("remembered", store.index.forget_places)
    ledger.on_pressure("queues", lambda excess: end_largest(hub, excess))
    return ledger


def set_bounds(ledger: Ledger, settings: Settings) -> None:
    """Take over the bounds that can change while running."""
    for name, size in (
        ("room_logs", settings.room_history_bytes),
        ("pins", settings.pins_bytes),
        ("bodies", settings.bodies_bytes),
        ("messages", settings.max_unfinished_bytes),
    ):
        ledger.accounts[name].bound = size


def require_pin_room(ledger: Ledger) -> None:
    """Raises `Refusal` 503 when downloads hold so much of old documents that no other may begin."""
    pins = ledger.accounts["pins"]
    pins.settle()
    if pins.held > pins.bound or ledger.excess:
        pins.refused += 1
        raise Refusal(
            503,
            "too many downloads of a document that changes meanwhile; retry in a second",
            extra={"retry_after": 1},
            headers={"Retry-After": "1"},
        )


def require_filter_room(ledger: Ledger, store: Store, filters: Iterable[Filter]) -> None:
    """Raises `Refusal` 503 when all filters that are watched take too much, and one of these is not
    among them.
    """
    account = ledger.accounts["filters"]
    account.settle()
    if account.held > account.bound and any(one.text not in store.index for one in filters):
        account.refused += 1
        raise Refusal(
            503,
            "all filters that are watched here take too much memory for another one; watch one "
            "that others watch too, or retry later (the server's option memory is the bound)",
            extra={"retry_after": 1},
            headers={"Retry-After": "1"},
        )


def require_client_room(ledger: Ledger) -> None:
    """Raises `Refusal` 503 when more is held than may be: not even the name of a room, or a tag,
    has a place.
    """
    for name in ("clients", "rooms"):
        ledger.accounts[name].settle()
    if ledger.excess:
        ledger.accounts["clients"].refused += 1
        raise Refusal(
            503,
            "the server holds as much as it may (its option memory); retry later",
            extra={"retry_after": 1},
            headers={"Retry-After": "1"},
        )


def clear_caches() -> None:
    """Forget what clients' texts stand for."""
    for cache in CACHES:
        cache.clear()


def queued_bytes(client: Client) -> int:
    """What waits for one client or is being written to it, in bytes."""
    outbox = client.outbox
    return 0 if outbox is None else outbox.bytes + outbox.in_hand


def end_largest(hub: Hub, excess: int) -> None:
    """End those for whom most waits, until so many bytes are free. What waits for others too is
    free when the last of them is ended.
    """
    enough = hub.backlog.bytes - excess
    for client in sorted(hub.clients.values(), key=queued_bytes, reverse=True):
        if hub.backlog.bytes <= enough or not queued_bytes(client):
            return
        hub.end(client, end_reasons.MEMORY, "at once")


def settle(ledger: Ledger) -> None:
    """Read all accounts; let go of memory when there is too much."""
    ledger.settle()
    if ledger.excess:
        ledger.relieve()
