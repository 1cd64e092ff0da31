"""The `jwt_key` option: a file or a literal, an HMAC secret, a PEM key, or a JWK Set."""

from __future__ import annotations

import re
from pathlib import Path

from triode.limits.jwt_key import JwtKey, hmac_key, jwks, pem_keys

_HMAC_PREFIX = re.compile(r"(hs256|hs384|hs512):", re.IGNORECASE)
# A key file is small; this keeps a mistyped path from being read for minutes.
_MAX_FILE_BYTES = 1024 * 1024


def read_keys(option: str, algorithms: tuple[str, ...] = ()) -> list[JwtKey]:
    """The keys that `option` states, only those for `algorithms` if it names some. A key that
    could do several, as RSA, and does not say which, is for those.

    Raises `ValueError` with what is wrong; never repeats the key.
    """
    keys = _of_text(option if _is_literal(option) else _file_text(option), algorithms)
    usable = [key for key in keys if not algorithms or key.algorithm in algorithms]
    if not usable:
        found = ", ".join(sorted({key.algorithm for key in keys}))
        raise ValueError(f"holds a key for {found}, which jwt_algorithms leaves out")
    return usable


def _is_literal(text: str) -> bool:
    said = text.lstrip()
    return _HMAC_PREFIX.match(said) is not None or said.startswith(("-----BEGIN", "{"))


def _of_text(text: str, algorithms: tuple[str, ...]) -> list[JwtKey]:
    text = text.strip()
    secret = _HMAC_PREFIX.match(text)
    if secret is not None:
        return [hmac_key(text[secret.end() :], algorithm=secret[1].upper())]
    if text.startswith("{"):
        return jwks(text, algorithms)
    if "-----BEGIN" in text:
        return pem_keys(text, wanted=algorithms)
    raise ValueError("is neither hs256:SECRET, nor a PEM key, nor a JWK Set")


def _file_text(name: str) -> str:
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode()
    except OSError as exc:
        raise ValueError(
            f"is no key itself, and as a file cannot be read: {exc.strerror}"
        ) from None
    except UnicodeDecodeError:
        raise ValueError("is a file that holds no text") from None
