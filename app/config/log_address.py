"""Where a shared log is: `valkey://HOST:PORT/DB`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

# Scheme → with TLS. Redis and Valkey speak the same protocol.
SCHEMES: Final = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}
PORT: Final = 6379
_NAME_CHARS: Final = 64


@dataclass(frozen=True, repr=False)
class LogAddress:
    """A server that keeps a log, and the name of the document there. As text it has no password."""

    host: str
    port: int = PORT
    database: int = 0
    name: str = "default"
    user: str = ""
    password: str = ""
    tls: bool = False

    def __str__(self) -> str:
        """As it was given, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        name = "" if self.name == "default" else f"?name={self.name}"
        return f"valkey{'s' * self.tls}://{host}:{self.port}/{self.database}{name}"

    def __repr__(self) -> str:
        return str(self)  # the usual one would show the password


def parse_log_address(text: str) -> LogAddress:
    """Raises `ValueError`, which never holds the text: there may be a password in it."""
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port or PORT
    except ValueError:
        raise ValueError(f"must be a URL such as {_EXAMPLE}") from None
    if url.scheme not in SCHEMES or not host or url.fragment:
        raise ValueError(f"must be a URL such as {_EXAMPLE} (with TLS valkeys://)")
    database = url.path.strip("/") or "0"
    if not (database.isascii() and database.isdigit() and len(database) < 6):
        raise ValueError(f"must have the number of a database as its path, as in {_EXAMPLE}")
    return LogAddress(
        host,
        port,
        int(database),
        _name(url),
        unquote(url.username or ""),
        unquote(url.password or ""),
        SCHEMES[url.scheme],
    )


_EXAMPLE: Final = "valkey://db.example:6379/0"


def _name(url: SplitResult) -> str:
    asked = parse_qs(url.query, keep_blank_values=True)
    names = asked.pop("name", ["default"])
    name = names[0]
    if asked or len(names) > 1:
        raise ValueError("may have ?name=NAME behind the database, and nothing else")
    allowed = all(char.isascii() and (char.isalnum() or char in "-_.") for char in name)
    if not allowed or not 0 < len(name) <= _NAME_CHARS:
        raise ValueError(
            f"must have a ?name= of 1 to {_NAME_CHARS} letters, digits, or any of . - _"
        )
    return name
