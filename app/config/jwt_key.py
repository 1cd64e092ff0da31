"""The `jwt_key` option: a file or a literal, an HMAC secret, a PEM key, or a JWK Set."""

from __future__ import annotations

from pathlib import Path

from triode.limits.jwt import JwtKey, hmac_key, jwks, pem_key

_HMAC_PREFIX = "hs256:"
# A key file is small; this keeps a mistyped path from being read for minutes.
_MAX_FILE_BYTES = 1024 * 1024


def read_keys(option: str, algorithms: tuple[str, ...] = ()) -> list[JwtKey]:
    """The keys that `option` states, only those for `algorithms` if it names some.

    Raises `ValueError` with what is wrong; never repeats the key.
    """
    keys = _of_text(option if _is_literal(option) else _file_text(option))
    usable = [key for key in keys if not algorithms or key.algorithm in algorithms]
    if not usable:
        found = ", ".join(sorted({key.algorithm for key in keys}))
        raise ValueError(f"holds a key for {found}, which jwt_algorithms leaves out")
    return usable


def _is_literal(text: str) -> bool:
    return text.lower().startswith(_HMAC_PREFIX) or text.lstrip().startswith(("-----BEGIN", "{"))


def _of_text(text: str) -> list[JwtKey]:
    text = text.strip()
    if text.lower().startswith(_HMAC_PREFIX):
        return [hmac_key(text[len(_HMAC_PREFIX) :])]
    if text.startswith("{"):
        return jwks(text)
    if "-----BEGIN" in text:
        return [pem_key(text)]
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
