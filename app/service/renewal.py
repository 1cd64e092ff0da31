"""Tokens of living connections: a new one in place of the old, and what it does not cover."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import trio

from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal, unauthorized
from triode.limits.admission import Full
from triode.limits.principal import Principal, TokenRefused
from triode.store.filter import covers

if TYPE_CHECKING:
    from triode.app.delivery.subscriber import Client
    from triode.app.service.triode import Triode


def renew(triode: Triode, client_id: str, secret: str, token: str) -> Principal:
    """Give a living connection a new token from outside. Raises `Refusal` as `own_client`, and 401
    for a bad token.
    """
    return _rebind(triode, own_client(triode, client_id, secret), _holder(triode, token))


def own_client(triode: Triode, client_id: str, secret: str) -> Client:
    """A living connection, for whoever opened it.

    The id proves nothing: members of its rooms know it. Raises `Refusal` 404, and 403 for a wrong
    secret.
    """
    client = triode.hub.clients.get(client_id)
    if client is None:
        raise Refusal(404, "there is no such client here: it has gone, or its stream is elsewhere")
    if not hmac.compare_digest(secret.encode(), client.secret.encode()):
        raise Refusal(403, "this is not the secret that the stream's event connected gave")
    return client


def keep_alive(triode: Triode, client_id: str, secret: str) -> None:
    """Renew the lease of a stream: its client is still there. Raises `Refusal` as `own_client`, and
    409 for a stream without a lease.
    """
    lease = own_client(triode, client_id, secret).lease
    if lease is None:
        raise Refusal(409, "this stream has no lease: open it with lease=SECONDS")
    lease.renew(trio.current_time())


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
