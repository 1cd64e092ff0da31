"""Tokens of living connections: a new one in place of the old, and what it does not cover."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal, forbidden, unauthorized
from triode.limits.admission import Full
from triode.limits.principal import Principal, TokenRefused
from triode.store.filter import covers

if TYPE_CHECKING:
    from triode.app.delivery.subscriber import Client
    from triode.app.service.triode import Triode


def renew(triode: Triode, client_id: str, token: str, *, proof: str | None = None) -> Principal:
    """Give a living connection a new token from outside.

    Others may know the id of a client (members of its rooms do), so without `proof`, the
    connection's own token, only what cannot hurt it is done: the new token has to allow all
    that the connection carries and to hold at least as long. Raises `Refusal` 404 for an
    unknown client, 401 for a bad token, 403.
    """
    client = client_of(triode, client_id)
    new = _holder(triode, token)
    owners = {client.principal.key} if client.principal.source != "anonymous" else {new.key}
    keys = {new.key} if proof is None else {new.key, _holder(triode, proof).key}
    if not owners & keys and not _keeps(client, new):
        raise forbidden(
            "the new token has to allow what this stream carries, and to hold as long as its "
            "own; to change more, send the stream's own token as Authorization: Bearer"
        )
    return _rebind(triode, client, new)


def client_of(triode: Triode, client_id: str) -> Client:
    """A living connection. Raises `Refusal` 404."""
    client = triode.hub.clients.get(client_id)
    if client is None:
        raise Refusal(404, "there is no such client here: it has gone, or its stream is elsewhere")
    return client


def keep_alive(triode: Triode, client_id: str) -> None:
    """Renew the lease of a stream: its client is still there. Raises `Refusal` 404, and 409 for
    a stream without a lease.

    Whoever knows the id may do this. It is unguessable; and all that members of its rooms, who
    know it too, could do is keep a stream from ending that would end for its silence alone.
    """
    lease = client_of(triode, client_id).lease
    if lease is None:
        raise Refusal(409, "this stream has no lease: open it with lease=SECONDS")
    lease.renew(trio.current_time())


def _keeps(client: Client, new: Principal) -> bool:
    """Whether a connection loses nothing under another principal."""
    ends = client.principal.expires_at
    longer = new.expires_at is None or (ends is not None and new.expires_at >= ends)
    grant = new.grant
    reads = all(grant.may_read(text, covers) for text in client.subscriptions)
    return longer and reads and all(grant.may_room(name) for name in client.rooms)


def _holder(triode: Triode, token: str) -> Principal:
    try:
        return triode.gate.principal_of(token)
    except TokenRefused as refused_token:
        raise unauthorized(refused_token.detail, error=refused_token.error) from refused_token


def authenticate(triode: Triode, client: Client, token: str) -> Principal:
    """Put a connection under another token. Raises `Refusal` 401; the old one then stays in
    force.
    """
    return _rebind(triode, client, _holder(triode, token))


def _rebind(triode: Triode, client: Client, principal: Principal) -> Principal:
    if client.ticket is not None:
        try:
            client.ticket.change_principal(principal.key)
        except Full as full:
            raise triode.gate.no_place(full) from full
    client.principal = principal
    _end_uncovered(triode, client)
    return principal


def _end_uncovered(triode: Triode, client: Client) -> None:
    """End what the client's grant does not cover any more; a stream of which nothing is left
    ends as a whole.
    """
    grant, hub = client.principal.grant, triode.hub
    texts = [text for text in client.subscriptions if not grant.may_read(text, covers)]
    rooms = [name for name in client.rooms if not grant.may_room(name)]
    for text in texts:
        hub.unsubscribe(client, text)
    for name in rooms:
        hub.leave(client, name)
    if client.kind == "sse" and (texts or rooms) and not (client.subscriptions or client.rooms):
        hub.end(client, end_reasons.NOT_ALLOWED)
