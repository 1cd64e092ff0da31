"""The key of a write as the log keeps it: digests of whose it is, and of what was asked for."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from triode.app.runtime.turns import between
from triode.store.operation import Batch
from triode.store.outcomes import Key
from triode.store.value import approx_bytes, encode, encode_steps

if TYPE_CHECKING:
    from triode.limits.principal import Principal
    from triode.store.operation import Operation

# What is digested in one step: it takes a fraction of a millisecond.
AT_ONCE_BYTES: Final = 64 * 1024
_NAME_BYTES: Final = 16
_ASKED_BYTES: Final = 8
_BY_BYTES: Final = 6
_CONDITIONS: Final = ("if_position", "if_value", "ttl_ms")
# An address is none of the log's business: whoever reads there cannot find it by trying all.
_SALT: Final = secrets.token_bytes(16)


async def make_key(principal: Principal, text: str, op: Operation, *condition: str) -> Key:
    """The key `text` of a principal for an operation as it was asked for; `condition`: what the
    request says of it elsewhere. A large one is digested in turns.

    Strangers have their keys in common: they have all rights alike, or none to write, and one who
    comes back from another address is still the one who sent it first. But each address has its own
    share of what is remembered.
    """
    whose = "" if principal.is_stranger else principal.key
    name = blake2b(encode([whose, text]), digest_size=_NAME_BYTES).hexdigest()
    asked: Any = [*condition, _shape(op)]
    digest = blake2b(digest_size=_ASKED_BYTES)
    if approx_bytes(asked, limit=AT_ONCE_BYTES) < AT_ONCE_BYTES:
        digest.update(encode(asked))
    else:
        for piece in encode_steps(asked):
            digest.update(piece)
            await between(piece)
    salt = _SALT if principal.is_stranger else b""
    by = blake2b(principal.key.encode(), key=salt, digest_size=_BY_BYTES).hexdigest()
    return Key(name, digest.hexdigest(), by)


def part_of(text: str, number: int) -> str:
    """The key of one write of many that were sent with one key. No key from outside is like it."""
    return f"{text}\n{number}"


def _shape(op: Operation) -> list[Any]:
    """An operation as JSON: `["set", path, value, …]`."""
    if isinstance(op, Batch):
        return ["batch", [_shape(part) for part in op.ops]]
    values = (getattr(op, name) for name in op.__struct_fields__ if name not in _CONDITIONS)
    condition = None if op.if_position is None else str(op.if_position)
    head: list[Any] = [op.__struct_config__.tag, condition]
    if op.if_value is not None:
        head.append({"if": op.if_value.test, "value": op.if_value.value})
    if op.ttl_ms is not None:
        head.append({"ttl_ms": op.ttl_ms})
    return head + [list(value) if type(value) is tuple else value for value in values]
