"""What a record of a token in the log means for those who hold it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from triode.app.wire import end_reasons

if TYPE_CHECKING:
    from triode.app.delivery.hub import Hub
    from triode.limits.token import Tokens

log = logging.getLogger("triode")

_PREFIX: Final = "token/"


def name_of(token_id: str) -> str:
    """The name of a token's record."""
    return _PREFIX + token_id


def token_of(name: str) -> str | None:
    """The id of the token whose record has this name; None: it is another record."""
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else None


def record_kept(tokens: Tokens, hub: Hub, name: str, value: dict[str, Any] | None) -> None:
    """This is kept from now on, or nothing any more. Records of later versions mean nothing."""
    token_id = token_of(name)
    if token_id is None:
        return
    if value is None:
        end_token(tokens, hub, token_id)
        return
    try:
        tokens.take(value)
    except ValueError as error:
        # Nobody else shall be kept out by it.
        log.error("the token %s in the log cannot be read, and does not hold: %s", token_id, error)


def end_token(tokens: Tokens, hub: Hub, token_id: str) -> None:
    """A token holds no longer, and ends what it opened at once: not when it would have expired."""
    tokens.revoke(token_id)
    for client in list(hub.clients.values()):
        if client.principal.token_id == token_id:
            hub.end(client, end_reasons.TOKEN_ENDED)
