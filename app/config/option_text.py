"""The text of an option's value: as one would write it in a file, and as banner and log show it."""

from __future__ import annotations

import json

from triode.app.config.readers import format_duration, format_size, read_rate
from triode.app.config.settings import OPTIONS, Settings
from triode.limits.grant import NONE, Grant


def option_text(settings: Settings, name: str) -> str:
    """The value of the option `name` (public name), as one would write it; "" for unset."""
    field_name, spec = OPTIONS[name]
    value = getattr(settings, field_name)
    if (value is None and spec.read is read_rate) or (value == 0 and spec.metavar == "SIZE"):
        return "0"
    if value is None:
        return ""
    if spec.secret:
        return "***"
    if isinstance(value, Grant):
        return "" if value == NONE else json.dumps(value.to_json(), separators=(",", ":"))
    if isinstance(value, bool):
        return "true" if value else "false"
    if spec.metavar == "SIZE":
        return format_size(value)
    if spec.metavar == "TIME":
        return format_duration(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)
