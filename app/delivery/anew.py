"""The document becomes another one under those who watch: they are told, and go on with that.

    what was owed   as it was, with its positions
    gap             why, from where to where, and how many writes are not there any more
    snapshot        of the new document, and then its changes

Nobody has to come back for it: thousands would come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.app.delivery import life
from triode.app.delivery.losses import Gap, Replaced
from triode.app.delivery.overflow import give_up
from triode.app.wire.frame import Frame
from triode.limits.policy import Policy
from triode.store.change import Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.delivery.audience import Audience
    from triode.app.delivery.ports import HubPort
    from triode.app.delivery.subscriber import Client


def begin_anew(hub: HubPort, replace: Callable[[], None], reason: str, lost: int) -> list[Client]:
    """Let `replace` put another document in the place of the store's, in this step. `lost` writes
    are not in it. Gives those who are owed nothing, and have to be ended: who would rather be sent
    away than miss anything (the policy `disconnect`), and who is in a room. What was said comes out
    of the log anew; what of it they have heard, only the positions tell with which they come back.
    """
    told = Replaced(hub.store.position, lost)
    for client in list(hub.clients.values()):
        if client.group is not None:
            client.group.flush()
    replace()
    hub.shelf.clear()
    for selection in hub.store.index:
        if selection.evaluated is not None:
            selection.evaluated.forget()
        if selection.watchers is not None:
            selection.watchers.snapshots.clear()
            selection.watchers.rest.is_known = False
    leaving: list[Client] = []
    for client in list(hub.clients.values()):
        if client.rooms or any(
            each.policy is Policy.DISCONNECT for each in client.subscriptions.values()
        ):
            leaving.append(client)
        elif client.subscriptions and client.group is not None:
            _owe(hub, client, reason, told)
    return leaving


def _owe(hub: HubPort, client: Client, reason: str, told: Replaced) -> None:
    if client.outbox is None:
        hub.writers.stall(client, [], 0)
    for subscription in client.subscriptions.values():
        _lose(hub, client, subscription.audience, reason, told)
    # Whoever writes to it looks what it is owed.
    hub.writers.enqueue(client, [Frame(b"", count=0)])


def _lose(hub: HubPort, client: Client, audience: Audience, reason: str, told: Replaced) -> None:
    """What it had lost before is told with it."""
    losses = life.lose(client)
    if audience in losses.latest:
        give_up(hub, client, audience)
    seq, missed = hub.store.seq, 0
    before = losses.gaps.get(audience)
    if before is not None:
        before.settle(audience.rest)
        missed = before.missed
        if before.replaced is not None:
            told = Replaced(before.replaced.after, before.replaced.lost + told.lost)
        elif missed:
            told = told._replace(after=Position(told.after.epoch, before.first - 1))
    losses.gaps[audience] = Gap(seq + 1, seq, missed, reason, told)
