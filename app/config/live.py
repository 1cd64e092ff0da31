"""Which options can change while the server runs, and what a changed configuration means for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from triode.app.config.loading import Faults
from triode.app.config.option_text import option_text
from triode.app.config.settings import OPTIONS
from triode.app.config.tables import KINDS
from triode.app.config.validation import contradictions

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.config.socket_route import SocketRoute

# Public names. All others were built into something at the start, or told to those who are
# connected (`heartbeat`), or stand in the log (`max_work`).
LIVE: Final = frozenset(
    {
        "certfile", "keyfile", "jwt_key", "jwt_algorithms", "jwt_audience", "jwt_issuer",
        "jwt_leeway", "jwt_default_grant",
        "max_clients", "max_clients_per_ip", "max_clients_per_token", "max_heads",
        "max_heads_per_ip", "max_http", "max_http_per_ip", "max_filters", "max_rooms",
        "http_rate", "ws_rate", "http2_rate", "match_work", "cpu_share",
        "bodies_bytes", "pins_bytes", "max_unfinished_bytes",
        "queue_items", "queue_bytes", "direct_items", "resume_bytes", "room_history",
        "room_history_bytes", "heal_wait_max", "idle", "drain", "retry_min",
        "retry_spread", "debug",
    }
)  # fmt: skip
# Whether there is one at all was decided at the start.
_SWITCHES: Final = ("certfile", "keyfile", "jwt_key")


class Change(NamedTuple):
    """What a changed configuration means: the `settings` that hold from now, in words what is
    `done` by them, and what `waits` for a restart.
    """

    settings: Settings
    done: tuple[str, ...]
    waits: tuple[str, ...]


def change(old: Settings, wanted: Settings) -> Change:
    """What of `wanted` can hold in place of `old`. Raises `Faults` when that would contradict what
    cannot change.
    """
    values: dict[str, Any] = {}
    done: list[str] = []
    waits: list[str] = []
    for name, (field_name, _) in OPTIONS.items():
        before, after = getattr(old, field_name), getattr(wanted, field_name)
        if before == after:
            continue
        if name in LIVE and not (name in _SWITCHES and None in (before, after)):
            values[field_name] = after
            done.append(_in_words(name, old, wanted))
        else:
            waits.append(_in_words(name, old, wanted))
    settings = replace(old, **values, sockets=tuple(_routes(old, wanted)))
    if settings.sockets != old.sockets:
        done.append("rates of [[socket]]")
    if _without_rates(settings) != _without_rates(wanted):
        waits.append("[[socket]]")
    for key, kind in KINDS.items():
        if key != "socket" and getattr(old, kind.field) != getattr(wanted, kind.field):
            waits.append(f"[[{key}]]")
    if faults := list(contradictions(settings, set())):
        more = f" (before a restart, which {', '.join(waits)} need)" if waits else ""
        raise Faults([fault + more for fault in faults])
    return Change(settings, tuple(done), tuple(waits))


def _routes(old: Settings, wanted: Settings) -> Iterator[SocketRoute]:
    """The routes that there are, with the rates that are wanted."""
    rates = {each.path: each.rate for each in wanted.sockets}
    for each in old.sockets:
        yield replace(each, rate=rates.get(each.path, each.rate))


def _without_rates(settings: Settings) -> list[SocketRoute]:
    return [replace(each, rate=None) for each in settings.sockets]


def _in_words(name: str, old: Settings, wanted: Settings) -> str:
    before, after = option_text(old, name), option_text(wanted, name)
    if before == after:  # a secret, of which nothing is said
        return f"{name} (another)"
    return f"{name} {before or 'unset'} → {after or 'unset'}"
