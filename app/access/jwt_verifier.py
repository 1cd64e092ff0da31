"""What checks the JWTs of callers, made of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.store.filter import parse_filter

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.limits.jwt import JwtVerifier


def jwt_verifier(settings: Settings) -> JwtVerifier | None:
    """The verifier of the configured key, None without one. Raises ValueError for an unusable
    key.
    """
    if settings.jwt_key is None:
        return None
    from triode.app.config.jwt_key import (
        read_keys,  # with its cryptography 10 MB, which few servers need
    )
    from triode.limits.jwt import JwtVerifier

    keys = read_keys(settings.jwt_key, settings.jwt_algorithms)
    return JwtVerifier(
        keys,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        leeway_s=settings.jwt_leeway_s,
        default_grant=settings.jwt_default_grant,
        check=parse_filter,
    )
