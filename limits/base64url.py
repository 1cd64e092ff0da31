"""base64url, the one spelling of it. Apart from the keys: they load `cryptography`, 10 MB."""

from __future__ import annotations

import re

_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def is_base64url(text: str) -> bool:
    """Whether this is base64url as RFC 7515 wants it: no padding, no white space, and no bit set
    that stands for nothing. Every other text would be a second spelling of the same bytes.
    """
    if not text:
        return True
    if _BASE64URL.fullmatch(text) is None or len(text) % 4 == 1:
        return False
    unused = {0: 0, 2: 4, 3: 2}[len(text) % 4]
    return _ALPHABET.index(text[-1]) % (1 << unused) == 0
