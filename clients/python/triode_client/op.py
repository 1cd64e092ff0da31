"""Writes as data: what `Triode.set` and its like send at once, and `Triode.batch` several of.

await t.batch([op.set(".a", 1), op.increment(".hits")], atomic=True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Op = dict[str, Any]
# A position, or what has to be there: {"equals": 5}, {"exists": False} or {"less": 5}.
If = str | Mapping[str, Any]


def set(
    path: str,
    value: Any,
    *,
    if_: If | None = None,
    create: bool = False,
    ttl: float | None = None,
) -> Op:
    """The place has this value; with `create` missing parents are made. It ends `ttl` seconds
    later.
    """
    made = {"create": True} if create else {}
    return _op("set", path, if_, ttl, value=value, **made)


def merge(path: str, patch: Any, *, if_: If | None = None, ttl: float | None = None) -> Op:
    """Members of an object, null removes one (RFC 7396)."""
    return _op("merge", path, if_, ttl, patch=patch)


def patch(
    path: str,
    patch: Sequence[Mapping[str, Any]],
    *,
    if_: If | None = None,
    ttl: float | None = None,
) -> Op:
    """JSON Patch operations (RFC 6902), all or none."""
    return _op("patch", path, if_, ttl, patch=list(patch))


def delete(path: str, *, if_: If | None = None) -> Op:
    """The place is gone."""
    return _op("delete", path, if_)


def increment(path: str, by: float = 1, *, if_: If | None = None, ttl: float | None = None) -> Op:
    """The number there, and `by`."""
    return _op("increment", path, if_, ttl, by=by)


def append(path: str, value: Any, *, if_: If | None = None, ttl: float | None = None) -> Op:
    """One more element of the array there."""
    return _op("append", path, if_, ttl, value=value)


def push(path: str, value: Any, *, if_: If | None = None, ttl: float | None = None) -> Op:
    """One more member of the object there, under a new name that sorts by time."""
    return _op("push", path, if_, ttl, value=value)


def touch(path: str, ttl: float | None, *, if_: If | None = None) -> Op:
    """The place stays as it is, and ends `ttl` seconds from now; None: it does not end."""
    return _op("touch", path, if_, ttl=ttl)


def _op(
    name: str, path: str, condition: If | None, ttl: float | None = None, /, **members: Any
) -> Op:
    given: Op = {} if condition is None else {"if": condition}
    if ttl is not None:
        given["ttl"] = ttl
    return {"type": name, "path": path, **members, **given}
