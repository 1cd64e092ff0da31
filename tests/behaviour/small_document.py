"""The document that the tests of `/store` begin with: the fixture `document` puts it there."""

from __future__ import annotations

from typing import Any

DOCUMENT: dict[str, Any] = {
    "users": [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}],
    "config": {"max": 100, "html": "<b>&amp;</b>"},
    "null": None,
}
