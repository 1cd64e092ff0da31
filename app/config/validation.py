"""What is wrong or worth knowing about settings as a whole, beyond each option by itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Set
from typing import TYPE_CHECKING, Final

from triode.app.config.tls import tls_context
from triode.limits.grant import NONE

if TYPE_CHECKING:
    from triode.app.config.settings import Settings

MIN_SECRET_CHARS: Final = 16


def contradictions(settings: Settings, faulty: Set[str]) -> Iterator[str]:
    """Options that are right one by one, but not together.

    Those in `faulty` have a fault of their own, and stand at their defaults here: nothing is
    concluded from them.
    """
    if not faulty & {"host", "admin_token", "jwt_key", "insecure"}:
        yield from _open_without_auth(settings)
    if not faulty & {"unix", "fd"} and settings.unix is not None and settings.fd is not None:
        yield "unix and fd are two places to listen: choose one"
    if not faulty & {"data", "log"} and settings.data is not None and settings.log is not None:
        yield "data and log are two places for the document: choose one"
    if not faulty & {"workers", "log", "unix", "fd"} and settings.workers > 1:
        yield from _workers_alone(settings)
    if not faulty & {"certfile", "keyfile"}:
        yield from _useless_certificate(settings)
    if not faulty & {"idle_s", "heartbeat_s"}:
        yield from _impatient(settings)
    if not faulty & {"jwt_key", "jwt_algorithms"}:
        yield from _idle_jwt_options(settings)


def _open_without_auth(settings: Settings) -> Iterator[str]:
    if not settings.loopback and not settings.auth and not settings.insecure:
        yield (
            f"host {settings.host} is open to other machines, and nobody would need a token: set "
            "--admin-token or --jwt-key, or say --insecure if everyone may read and write"
        )


def _workers_alone(settings: Settings) -> Iterator[str]:
    if settings.log is None:
        yield (
            f"{settings.workers} workers need a log that they share. Start a server for it, "
            "`valkey-server --appendonly yes --maxmemory-policy noeviction`, and say --log "
            "valkey://127.0.0.1:6379/0"
        )
    if settings.unix is not None or settings.fd is not None:
        yield "workers share a port: with unix and fd there can be one alone"


def _useless_certificate(settings: Settings) -> Iterator[str]:
    if settings.certfile is not None and settings.keyfile is not None:
        try:
            tls_context(settings.certfile, settings.keyfile)
        except ValueError as fault:
            yield str(fault)
    elif (settings.certfile is None) != (settings.keyfile is None):
        missing = "keyfile" if settings.keyfile is None else "certfile"
        yield f"certfile and keyfile belong together: set --{missing} too"


def _impatient(settings: Settings) -> Iterator[str]:
    if settings.idle_s <= settings.heartbeat_s:
        yield (
            f"idle ({settings.idle_s:g}s) must be longer than heartbeat "
            f"({settings.heartbeat_s:g}s), or quiet clients are cut before they could answer"
        )


def _idle_jwt_options(settings: Settings) -> Iterator[str]:
    if settings.jwt_key is None:
        for name in ("jwt_algorithms", "jwt_audience", "jwt_issuer"):
            if getattr(settings, name):
                yield f"{name} does nothing without a key: set --jwt-key too"
        if settings.jwt_default_grant != NONE:
            yield "jwt_default_grant does nothing without a key: set --jwt-key too"
        return
    try:
        from triode.app.config.jwt_key import read_keys  # cryptography: 10 MB that few servers need

        read_keys(settings.jwt_key, settings.jwt_algorithms)
    except ValueError as exc:
        yield f"jwt_key {exc}"


def warnings(settings: Settings) -> Iterator[str]:
    """What is allowed but should be known, with what to do."""
    if not settings.loopback and settings.auth and not settings.tls:
        yield (
            f"Tokens travel without TLS to {settings.host}. Set --certfile and --keyfile, or put a "
            "proxy with TLS in front."
        )
    if not settings.loopback and not settings.auth:
        yield f"Everyone who reaches {settings.host} can read and write everything (--insecure)."
    if settings.admin_token is not None and len(settings.admin_token) < MIN_SECRET_CHARS:
        yield (
            f"The admin token has {len(settings.admin_token)} characters: whoever guesses it may "
            "read, write and end everything. Use a random one of at least "
            f"{MIN_SECRET_CHARS} (openssl rand -hex 32)."
        )
    if "*" in settings.cors_origins and not settings.auth:
        yield (
            "Every web page in a browser that reaches this server can read and write it "
            "(--cors-origins *)."
        )
    if any(
        ipaddress.ip_network(text, strict=False).prefixlen == 0 for text in settings.trusted_proxies
    ):
        yield "Everyone is a trusted proxy: every caller can choose the address that limits count."
    if any(
        ipaddress.ip_network(text, strict=False).prefixlen == 0 for text in settings.control_from
    ):
        yield "Everyone may see, address and close all connections (--control-from)."
    if settings.control_from and not settings.auth:
        yield "--control-from does nothing: without --admin-token or --jwt-key all may control."
    if settings.data is None and settings.durability != "full":
        where = "by the server of --log" if settings.log else "in memory (--data memory)"
        yield f"--durability does nothing: the document is kept {where}."
    if settings.anonymous_read and not settings.auth:
        yield "--anonymous-read does nothing: without --admin-token or --jwt-key all is readable."
