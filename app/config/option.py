"""An option: what a field of `Settings` is in a file, a variable or on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from triode.app.config.readers import Reader


@dataclass(frozen=True, slots=True)
class Option:
    """What a field of `Settings` is outside: how its value is read and what it is for."""

    read: Reader[Any]
    help: str
    metavar: str
    secret: bool = False


def option(
    default: Any, read: Reader[Any], help: str, metavar: str, *, secret: bool = False
) -> Any:
    """A field of `Settings`. A secret stays out of `repr` and out of every fault."""
    return field(
        default=default, repr=not secret, metadata={"option": Option(read, help, metavar, secret)}
    )
