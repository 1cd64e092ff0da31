"""How much a hub holds: what must be as before when a client has come and gone."""

from __future__ import annotations

from triode.app.delivery.hub import Hub


def registered(hub: Hub) -> dict[str, int]:
    """How many clients, slow ones among them, groups and rooms there are. Groups of those that hear
    nothing yet are kept, one of each kind.
    """
    groups = {client.group for client in hub.clients.values()}
    slow = sum(c.outbox is not None and c.send_now is not None for c in hub.clients.values())
    return {
        "clients": len(hub.clients),
        "slow": slow,
        "groups": len(groups - {None}),
        "open_groups": sum(bool(group.sources) for group in hub._groups.values()),
        "rooms": len(hub.rooms),
    }
