"""Which subprotocol a WebSocket is answered with.

A page can set no fields on a WebSocket, only subprotocols. So a token may come as one
(`limits.principal`). It is never the one that is chosen, because the answer would repeat it; and a
browser ends a connection for which none was chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.wire.refusal import bad_request
from triode.limits.principal import BEARER_PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Sequence

FIELD: Final = "sec-websocket-protocol"
NAME: Final = "triode"


def chosen(offered: Sequence[str]) -> str | None:
    """The one of those offered that we speak; None: the answer names none. Raises `Refusal` 400
    for a token alone.
    """
    if NAME in offered:
        return NAME
    if any(name.startswith(BEARER_PROTOCOL) for name in offered):
        raise bad_request(
            f'offer the subprotocol "{NAME}" beside the token: the token is never chosen, and a '
            "browser ends a connection without a chosen one"
        )
    return None
