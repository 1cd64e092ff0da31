"""Whether a request's head asks for a stream: of events, a WebSocket, or another protocol."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from triode.app.wire.refusal import Refusal

if TYPE_CHECKING:
    from triode.app.net.request_head import Head


def is_upgrade(head: Head) -> bool:
    """Whether Hypercorn may answer this request by another protocol on the same connection
    (WebSocket, h2c)."""
    return any(token in ("websocket", "h2c") for token in head.tokens("upgrade"))


def is_websocket(head: Head) -> bool:
    """Whether this asks for a WebSocket (RFC 6455 section 4.2.1); `check_websocket` says whether
    it does so rightly.
    """
    # The field first: most requests have none, and all are asked.
    return (
        head.get("upgrade") is not None
        and head.method == "GET"
        and head.version == "1.1"
        and not head.has_body
        and "websocket" in head.tokens("upgrade")
        and "upgrade" in head.tokens("connection")
    )


def check_websocket(head: Head) -> None:
    """Check the rest of a handshake that `is_websocket`. Raises `Refusal`: 426 for another version
    (RFC 6455 section 4.4), 400 for a key that is not 16 bytes, or is there twice.
    """
    if head.get("sec-websocket-version") != "13":
        detail = "only version 13 of WebSocket is spoken here (Sec-WebSocket-Version: 13)"
        raise Refusal(426, detail, headers={"Sec-WebSocket-Version": "13"})
    if not _is_nonce(head.get("sec-websocket-key")):
        raise Refusal(400, "Sec-WebSocket-Key must be there once, 16 bytes in base64")


def _is_nonce(key: str | None) -> bool:
    if key is None or len(key) != 24 or not key.isascii():
        return False
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
