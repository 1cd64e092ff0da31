"""What is running: Triode's version, and those of what carries it."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata


@cache
def version(name: str = "triode") -> str:
    """The installed version; `0+source` when run from a checkout that is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "0+source"


def build() -> dict[str, str]:
    """`{"version": "0.1.0", "python": "3.13.1", "trio": "0.35.0", "hypercorn": "0.18.0"}`."""
    carriers = {name: version(name) for name in ("trio", "hypercorn")}
    return {"version": version(), "python": platform.python_version(), **carriers}
