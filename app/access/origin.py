"""Which web pages may open a WebSocket here: browsers send `Origin`, but leave the check to the
server (RFC 6455 10.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from triode.app.wire.refusal import forbidden

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.net.request_head import Head


def check_origin(head: Head, settings: Settings) -> None:
    """Raises `Refusal` 403 for a page of another origin that is not on the list. No `Origin`: not
    a browser.
    """
    origin = head.get("origin")
    if origin is None or origin in settings.cors_origins or "*" in settings.cors_origins:
        return
    if urlsplit(origin).netloc.lower() != (head.get("host") or "").lower():
        raise forbidden("pages of this origin may not connect: allow it with cors_origins")
