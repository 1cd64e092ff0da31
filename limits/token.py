"""The server's own opaque tokens.

A secret is 256 random bits and is shown once, by `issue`. Kept is only its SHA-256 digest: what
leaks from memory, a file or a log cannot be presented. No salt and no slow hash, as there is
nothing to guess in 256 bits; for the same reason the timing of the look-up by digest tells nothing,
and the digests are still compared in constant time. Adopted secrets (the configured admin token)
may be weaker, so they never leave the process: `make`, of which something is kept, is not for them.
The configuration brings them back, and taking one out of the configuration ends it.
"""

from __future__ import annotations

import math
import re
import secrets
from base64 import urlsafe_b64encode
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from itertools import islice
from typing import Any, Final, NamedTuple

from triode.limits.grant import Grant

DEFAULT_TTL_S: Final = 86_400.0
SECRET_BYTES: Final = 32
MAX_SECRET_CHARS: Final = 1_024
MAX_LABEL_CHARS: Final = 200

_ID = re.compile(r"t_[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


# CPython, 64 bit: a token without what it grants, and each filter or room of that beside its text.
_TOKEN_BYTES: Final = 980
_PART_BYTES: Final = 70
# Of one page of a list: tokens that are looked at, and about the memory of those that are shown.
_PAGE_LOOKS: Final = 10_000
_PAGE_BYTES: Final = 1024 * 1024


class TokensFull(Exception):
    """No further token can be kept; `limit` is how many can, or how many bytes of them."""

    def __init__(self, limit: int, what: str = "tokens") -> None:
        super().__init__(f"there are {limit} {what}, no more can be issued; revoke some")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What may be shown of a token. Times are seconds; `expires_at` None is never."""

    id: str
    label: str
    grant: Grant
    created_at: float
    expires_at: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "label": self.label,
            "grant": self.grant.to_json(),
            "created_at": self.created_at,
            "expires_at": self.expires_at,
        }


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token; `secret` exists only here."""

    secret: str = field(repr=False)
    info: TokenInfo


class Page(NamedTuple):
    """Some of a list of tokens, the oldest first, and after which token the next one begins; None:
    this is the last. There may be fewer than were asked for, and more behind them.
    """

    infos: list[TokenInfo]
    next: Mark | None


# Where a token stands in the list: when it was made, and its id.
Mark = tuple[float, str]


class _Entry(NamedTuple):
    digest: bytes
    ends_at: float  # inf for never
    info: TokenInfo
    adopted: bool

    @property
    def mark(self) -> Mark:
        return self.info.created_at, self.info.id

    @property
    def weight(self) -> int:
        """About the memory that it takes."""
        grant = self.info.grant
        parts = (*grant.read, *grant.write, *grant.rooms)
        return _TOKEN_BYTES + len(self.info.label) + sum(_PART_BYTES + len(part) for part in parts)


class Tokens:
    """All tokens that hold. Times are seconds of one clock that outlives the process (Unix time),
    as tokens may, too. `bytes` is about the memory that they take; none is issued beyond
    `max_bytes`.
    """

    __slots__ = ("_by_digest", "_by_id", "_marks", "_max_tokens", "bytes", "max_bytes")

    def __init__(self, max_tokens: int = 100_000, max_bytes: float = math.inf) -> None:
        if max_tokens < 1:
            raise ValueError("max_tokens must be at least 1")
        self._max_tokens = max_tokens
        self.max_bytes = max_bytes
        self.bytes = 0
        self._by_digest: dict[bytes, _Entry] = {}
        self._by_id: dict[str, _Entry] = {}
        # In order; a page begins in it wherever the last one ended, also if that token is gone.
        self._marks: list[Mark] = []

    def __len__(self) -> int:
        return len(self._by_digest)

    def __repr__(self) -> str:
        return f"<Tokens {len(self)} of {self._max_tokens}>"

    def issue(
        self, grant: Grant, *, now: float, ttl_s: float | None = DEFAULT_TTL_S, label: str = ""
    ) -> Issued:
        """Make a token that holds for `ttl_s` (None: until revoked).

        The secret is base64url with padding, 44 characters. Raises TokensFull, or ValueError for a
        time to live that is not above 0.
        """
        secret = _new_secret()
        entry = self._made(secret, grant, now, ttl_s, label, adopted=False)
        self._put(entry)
        return Issued(secret, entry.info)

    def make(
        self, grant: Grant, *, now: float, ttl_s: float | None = DEFAULT_TTL_S, label: str = ""
    ) -> tuple[Issued, dict[str, Any]]:
        """A new token that does not hold yet, and what to keep of it: once that is kept, `take` it.
        Raises as `issue`.
        """
        secret = _new_secret()
        entry = self._made(secret, grant, now, ttl_s, label, adopted=False)
        return Issued(secret, entry.info), entry.info.to_json() | {"sha256": entry.digest.hex()}

    def take(self, row: object) -> None:
        """From now on the token holds of which `make` gave this row. Raises ValueError."""
        entry = _entry_from_json(row)
        known = self._by_id.get(entry.info.id)
        if known is not None:
            self._remove(known)
        self._put(entry)

    def adopt(
        self,
        secret: str,
        grant: Grant,
        *,
        now: float,
        ttl_s: float | None = None,
        label: str = "",
    ) -> TokenInfo:
        """Accept a secret chosen elsewhere. One that is known already is replaced, id and all.

        Raises ValueError for a secret that could never be presented: empty, longer than
        MAX_SECRET_CHARS, with white space at an end, or not valid text. TokensFull as `issue`.
        """
        if not secret or secret != secret.strip() or _digest(secret) is None:
            raise ValueError(
                f"a token must be 1 to {MAX_SECRET_CHARS} characters, no white space at its ends"
            )
        entry = self._made(secret, grant, now, ttl_s, label, adopted=True)
        self._put(entry)
        return entry.info

    def validate(self, secret: str, now: float) -> TokenInfo | None:
        """The token of that secret while it holds, else None. One that has ended is removed."""
        digest = _digest(secret)
        if digest is None:
            return None
        entry = self._by_digest.get(digest)
        if entry is None or not compare_digest(entry[0], digest):
            return None
        if now < entry[1]:
            return entry[2]
        self._remove(entry)
        return None

    def get(self, token_id: str, now: float) -> TokenInfo | None:
        """The token of that id while it holds."""
        entry = self._by_id.get(token_id)
        return entry.info if entry is not None and now < entry.ends_at else None

    def revoke(self, token_id: str) -> bool:
        """End a token now; False when there is none of that id."""
        entry = self._by_id.get(token_id)
        if entry is None:
            return False
        self._remove(entry)
        return True

    def page(self, now: float, most: int, after: Mark | None = None) -> Page:
        """The tokens that hold, at most so many of them, behind the one that is given."""
        first = 0 if after is None else bisect_right(self._marks, after)
        infos: list[TokenInfo] = []
        size = 0
        for mark in islice(self._marks, first, first + _PAGE_LOOKS):
            entry = self._by_id[mark[1]]
            if now < entry.ends_at:
                infos.append(entry.info)
                size += entry.weight
            if len(infos) == most or size > _PAGE_BYTES:
                break
        else:
            if first + _PAGE_LOOKS >= len(self._marks):
                return Page(infos, None)
        return Page(infos, mark if mark < self._marks[-1] else None)

    def sweep(self, now: float) -> list[str]:
        """Remove the tokens that have ended; gives their ids."""
        ended = [entry for entry in self._by_id.values() if entry.ends_at <= now]
        for entry in ended:
            self._remove(entry)
        return [entry.info.id for entry in ended]

    def _made(
        self,
        secret: str,
        grant: Grant,
        now: float,
        ttl_s: float | None,
        label: str,
        *,
        adopted: bool,
    ) -> _Entry:
        """A new entry, for which there is room."""
        if ttl_s is not None and not 0 < ttl_s < math.inf:
            raise ValueError("ttl_s must be above 0; leave it out (None) for a token without end")
        if len(label) > MAX_LABEL_CHARS:
            raise ValueError(f"a label is at most {MAX_LABEL_CHARS} characters")
        digest = _digest(secret)
        assert digest is not None
        known = self._by_digest.get(digest)
        if known is not None:
            self._remove(known)
        elif len(self) >= self._max_tokens and not self.sweep(now):
            raise TokensFull(self._max_tokens)
        ends_at = math.inf if ttl_s is None else now + ttl_s
        info = TokenInfo(
            id="t_" + secrets.token_urlsafe(12),
            label=label,
            grant=grant,
            created_at=now,
            expires_at=None if ttl_s is None else ends_at,
        )
        entry = _Entry(digest, ends_at, info, adopted)
        # One from the configuration is let be: without it nobody could revoke others.
        if not adopted and self.bytes + entry.weight > self.max_bytes:
            self.sweep(now)
            if self.bytes + entry.weight > self.max_bytes:
                raise TokensFull(int(self.max_bytes), "bytes of tokens")
        return entry

    def _put(self, entry: _Entry) -> None:
        self._by_digest[entry.digest] = entry
        self._by_id[entry.info.id] = entry
        insort(self._marks, entry.mark)
        self.bytes += entry.weight

    def _remove(self, entry: _Entry) -> None:
        if self._by_id.pop(entry.info.id, None) is not None:
            self.bytes -= entry.weight
            del self._marks[bisect_left(self._marks, entry.mark)]
        self._by_digest.pop(entry.digest, None)


def _new_secret() -> str:
    return urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def _digest(secret: str) -> bytes | None:
    """None for what no token can be: too long, or not encodable (lone surrogates)."""
    if len(secret) > MAX_SECRET_CHARS:
        return None
    try:
        return sha256(secret.encode()).digest()
    except UnicodeEncodeError:
        return None


def _entry_from_json(row: object) -> _Entry:
    if not isinstance(row, dict):
        raise ValueError("a token must be an object")
    token_id, label, digest = row.get("id"), row.get("label"), row.get("sha256")
    if not isinstance(token_id, str) or not _ID.fullmatch(token_id):
        raise ValueError("id must look like t_…")
    if not isinstance(label, str):
        raise ValueError("label must be a string")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("sha256 must be 64 hex digits")
    if "grant" not in row:
        raise ValueError("grant is missing")
    grant = Grant.from_json(row["grant"])
    expires_at = row.get("expires_at", math.nan)  # absent is broken, only null is "never"
    if expires_at is not None:
        expires_at = _seconds("expires_at", expires_at)
    created_at = _seconds("created_at", row.get("created_at"))
    info = TokenInfo(token_id, label, grant, created_at, expires_at)
    ends_at = math.inf if expires_at is None else expires_at
    return _Entry(bytes.fromhex(digest), ends_at, info, adopted=False)


def _seconds(member: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{member} must be a number of seconds")
    return float(value)
