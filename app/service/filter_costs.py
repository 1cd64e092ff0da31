"""What evaluated filters cost, by filter and by who watches.

They are evaluated for each write that may concern them, whoever writes. Once a second that is
charged to their subscribers, in equal parts. Whoever has had more than its share of the processor
hears nothing of them until that is no more so; others of the same filter go on.
"""

from __future__ import annotations

from heapq import nlargest
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.delivery.overflow import rest_all
from triode.limits.cpu_share import STEPS_A_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.app.delivery.subscriber import Client
    from triode.app.service.triode import Triode
    from triode.store.trie import Selection

SHOWN: Final = 10
# A filter that more than so many watch is nobody's own; all of them would take too long to go
# through, each second.
CHARGED: Final = 100


def settle(triode: Triode) -> None:
    """Charge what was spent since the last time, and let those rest who are over their share."""
    now = trio.current_time()
    for selection in triode.store.index.evaluated:
        evaluated = selection.evaluated
        if evaluated is None or (evaluated.total == evaluated.charged and not evaluated.rests):
            continue
        steps = evaluated.total - evaluated.charged
        evaluated.charged = evaluated.total
        audience = selection.watchers
        if audience is None:
            continue
        watching = list(islice(_watching(selection), CHARGED))
        hearing = [client for client in watching if client.rests_until <= now]
        others = sum(map(len, audience.groups)) - len(watching)
        for client in hearing:
            triode.gate.charge_work(client.principal, steps / (len(hearing) + others))
        for client in watching:
            _let_rest(triode, client, now)
        evaluated.rests = len(watching) < CHARGED and all(c.rests_until > now for c in watching)


def _let_rest(triode: Triode, client: Client, now: float) -> None:
    wait_s = triode.gate.cpu.wait_s(client.principal.key, now)
    if client.rests_until > now:
        client.rests_until = now + wait_s
    elif wait_s:
        rest_all(triode.hub, client, now + wait_s)


def _watching(selection: Selection) -> Iterator[Client]:
    return chain.from_iterable((*group.flowing, *group.slow) for group in selection.watchers.groups)


def dearest(triode: Triode, now: float) -> dict[str, Any]:
    """What `/stats` says: the filters that have taken most since they were first subscribed to, and
    the tokens and addresses that owe most, in seconds.
    """
    totals = [
        (selection.evaluated.total, selection.filter.text)
        for selection in triode.store.index.evaluated
        if selection.evaluated is not None
    ]
    return {
        "share_s": triode.settings.cpu_share_s,
        "filters": [
            {"filter": text, "s": round(steps / STEPS_A_SECOND, 3)}
            for steps, text in nlargest(SHOWN, totals)
        ],
        "principals": [
            {"key": key, "owes_s": round(owed_s, 3)}
            for key, owed_s in triode.gate.cpu.dearest(SHOWN, now)
        ],
    }
