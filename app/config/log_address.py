"""Where a shared log is: `valkey://HOST:PORT/DB`, or `valkey+sentinel://HOST,HOST/PRIMARY/DB`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

# Scheme → with TLS. Redis and Valkey speak the same protocol.
SCHEMES: Final = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}
PORT: Final = 6379
SENTINEL_PORT: Final = 26379
_SENTINEL: Final = "+sentinel"
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
    # A file of certificates that its own is checked against, in place of the system's.
    ca: str = ""
    # Who is asked where the primary of this name is, in this order.
    sentinels: tuple[tuple[str, int], ...] = ()
    primary: str = ""

    def __str__(self) -> str:
        """As it was given, without user and password."""
        if self.sentinels:
            hosts = ",".join(f"{host}:{port}" for host, port in self.sentinels)
            scheme = f"valkey{'s' * self.tls}{_SENTINEL}"
            return f"{scheme}://{hosts}/{self.primary}/{self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        name = "" if self.name == "default" else f"?name={self.name}"
        return f"valkey{'s' * self.tls}://{host}:{self.port}/{self.database}{name}"

    def __repr__(self) -> str:
        return str(self)  # the usual one would show the password


def parse_log_address(text: str) -> LogAddress:
    """Raises `ValueError`, which never holds the text: there may be a password in it."""
    scheme, _, _ = text.partition("://")
    if scheme.endswith(_SENTINEL):
        return _of_sentinels(scheme.removesuffix(_SENTINEL), text)
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port or PORT
    except ValueError:
        raise ValueError(f"must be a URL such as {_EXAMPLE}") from None
    if url.scheme not in SCHEMES or not host or url.fragment:
        raise ValueError(f"must be a URL such as {_EXAMPLE} (with TLS valkeys://)")
    database = url.path.strip("/") or "0"
    if not _is_database(database):
        raise ValueError(f"must have the number of a database as its path, as in {_EXAMPLE}")
    name, ca = _query(url)
    return LogAddress(
        host,
        port,
        int(database),
        name,
        unquote(url.username or ""),
        unquote(url.password or ""),
        SCHEMES[url.scheme],
        ca,
    )


def _of_sentinels(scheme: str, text: str) -> LogAddress:
    try:
        url = urlsplit(text)
        credentials, _, hosts = url.netloc.rpartition("@")
        parsed = [urlsplit(f"//{host}") for host in hosts.split(",")]
        sentinels = tuple((one.hostname or "", one.port or SENTINEL_PORT) for one in parsed)
    except ValueError:
        raise ValueError(f"must be a URL such as {_SENTINELS}") from None
    primary, _, database = url.path.strip("/").partition("/")
    database = database or "0"
    is_whole = primary and _is_database(database) and all(host for host, _ in sentinels)
    if scheme not in SCHEMES or not is_whole:
        raise ValueError(f"must be a URL such as {_SENTINELS}, with the name of the primary")
    user, _, password = credentials.partition(":")
    name, ca = _query(url)
    return LogAddress(
        sentinels[0][0], sentinels[0][1], int(database), name, unquote(user), unquote(password),
        SCHEMES[scheme], ca, sentinels, primary,
    )  # fmt: skip


_EXAMPLE: Final = "valkey://db.example:6379/0"
_SENTINELS: Final = "valkey+sentinel://one.example,two.example/PRIMARY"


def _is_database(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def _query(url: SplitResult) -> tuple[str, str]:
    asked = parse_qs(url.query, keep_blank_values=True)
    names, files = asked.pop("name", ["default"]), asked.pop("ca", [""])
    name = names[0]
    if asked or len(names) > 1 or len(files) > 1:
        raise ValueError("may have ?name=NAME and ca=FILE behind the database, and nothing else")
    allowed = all(char.isascii() and (char.isalnum() or char in "-_.") for char in name)
    if not allowed or not 0 < len(name) <= _NAME_CHARS:
        raise ValueError(
            f"must have a ?name= of 1 to {_NAME_CHARS} letters, digits, or any of . - _"
        )
    return name, files[0]
