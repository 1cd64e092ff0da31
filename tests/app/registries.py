"""How much a hub holds: what must be as before when a client has come and gone."""

from __future__ import annotations

from triode.app.delivery.hub import Hub


def registered(hub: Hub) -> dict[str, int]:
    """How many clients, slow ones among them, groups and rooms there are."""
    groups = {client.group for client in hub.clients.values()}
    slow = sum(c.outbox is not None and c.send_now is not None for c in hub.clients.values())
    return {
        "clients": len(hub.clients),
        "slow": slow,
        "groups": len(groups - {None}),
        "open_groups": len(hub._groups),
        "rooms": len(hub.rooms),
    }
