"""What evaluated filters cost, by filter and by who watches.

They are evaluated for each write that may concern them, whoever writes. Once a second that is
charged to their subscribers, in equal parts.
"""

from __future__ import annotations

from heapq import nlargest
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

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
    """Charge what was spent since the last time."""
    for selection in triode.store.index.evaluated:
        evaluated = selection.evaluated
        if evaluated is None or evaluated.total == evaluated.charged:
            continue
        steps = evaluated.total - evaluated.charged
        evaluated.charged = evaluated.total
        audience = selection.watchers
        if audience is None:
            continue
        share = steps / max(1, sum(map(len, audience.groups)))
        for client in islice(_watching(selection), CHARGED):
            triode.gate.charge_work(client.principal, share)


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
