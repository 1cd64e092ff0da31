"""The key of a write: the field `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), the
member `key` of a command.
"""

from __future__ import annotations

import re
from typing import Any, Final

from triode.app.wire.refusal import bad_request

FIELD: Final = "idempotency-key"
MAX_CHARS: Final = 255

_KEY: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_CHARS}}}")
# A string of RFC 9651; what most senders give is the text without the quotes.
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_ESCAPED: Final = re.compile(r"\\(.)")


def check_key(key: Any) -> str:
    """Raises `Refusal` 400 unless it can be a key."""
    if type(key) is not str or _KEY.fullmatch(key) is None:
        raise bad_request(
            f'"key" must be a text of 1 to {MAX_CHARS} printable ASCII characters, such as a UUID',
            member="key",
        )
    return key


def key_of_field(given: str) -> str:
    """The key that the field holds. Raises `Refusal` 400."""
    quoted = _QUOTED.fullmatch(given)
    key = given if quoted is None else _ESCAPED.sub(r"\1", quoted[1])
    if _KEY.fullmatch(key) is None:
        raise bad_request(
            f"Idempotency-Key must be 1 to {MAX_CHARS} printable ASCII characters, such as a UUID "
            "in quotes",
            field="Idempotency-Key",
        )
    return key
