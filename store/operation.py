"""What a client may ask of the document, and the ways it is refused.

    WriteError          .status .title .detail .path
    ├── NotFound        404  the place, or the place it would lie in, is not there
    ├── Invalid         422  it cannot be done there; 400: it is no operation at all
    ├── TestFailed      409  a JSON Patch `test` does not hold
    ├── Taken           409  the name that a `push` would give is there already
    ├── Full            507  the document would be larger than it may be
    ├── TooManyDeadlines 507  more places would have a `ttl` than may
    └── Conflict        412  the place is not as `if_position` or `if_value` wants it

Each operation takes an unresolved path (negative indexes, pointer tokens); see `Document.resolve`.
The values in it are handed over to the document: whoever builds an operation from values he keeps
copies them (`copy_deep`) first.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from triode.store.change import Position
from triode.store.json_type import Json
from triode.store.path import Path


class Expected(Struct, frozen=True):
    """What a write wants to find at its place: a value that `equals` this one, or is `less` than
    this number or text; or whether one `exists`.
    """

    test: Literal["equals", "exists", "less"]
    value: Json


class _Logged(Struct, frozen=True, tag_field="op", omit_defaults=True, kw_only=True):
    """What stands in a log (`store.entry`): the tags and the names of the fields are its format."""

    # About the document before the write; that of a batch has none.
    if_value: Expected | None = None
    # How long the place that it writes stays; None is for ever, whatever was said of it before.
    ttl_ms: int | None = None


class Set(_Logged, frozen=True, tag="set"):
    """Put a value at a place. With `create`, missing containers on the way are made."""

    path: Path
    value: Json
    create: bool = False
    if_position: Position | None = None


class Merge(_Logged, frozen=True, tag="merge"):
    """Apply an RFC 7396 merge patch to the value at a place; the place itself may be missing."""

    path: Path
    patch: Json
    if_position: Position | None = None


class Patch(_Logged, frozen=True, tag="patch"):
    """Apply an RFC 6902 JSON Patch, all of it or nothing; its pointers begin at `path`."""

    path: Path
    patch: Json
    if_position: Position | None = None


class Delete(_Logged, frozen=True, tag="delete"):
    """Remove a place. The later elements of an array move down."""

    path: Path
    if_position: Position | None = None


class Increment(_Logged, frozen=True, tag="increment"):
    """Add to a number; a missing member of an existing parent counts as 0."""

    path: Path
    by: int | float = 1
    if_position: Position | None = None


class Append(_Logged, frozen=True, tag="append"):
    """Add an element to the end of an array; a missing member of a parent counts as []."""

    path: Path
    value: Json
    if_position: Position | None = None


class Push(_Logged, frozen=True, tag="push"):
    """Add a member to an object, under a name of the store's own: `store.push_key`. A missing
    member of a parent counts as {}.
    """

    path: Path
    value: Json
    if_position: Position | None = None


class Touch(_Logged, frozen=True, tag="touch"):
    """Change nothing but how long a place stays: `ttl_ms` from now, or for ever."""

    path: Path
    if_position: Position | None = None


class Expire(_Logged, frozen=True, tag="expire"):
    """Remove those of these places whose time had come at `at_ms`. The server's own."""

    paths: tuple[Path, ...]
    at_ms: int
    if_position: Position | None = None

    @property
    def path(self) -> Path:
        """The root: what it as a whole is about."""
        return ()


class Batch(_Logged, frozen=True, tag="batch"):
    """Several operations as one change: all of them, in order, or nothing. Batches do not nest."""

    ops: tuple[Operation, ...]
    if_position: Position | None = None

    @property
    def path(self) -> Path:
        """The root: what a batch as a whole is about."""
        return ()


Operation: TypeAlias = (
    Set | Merge | Patch | Delete | Increment | Append | Push | Touch | Expire | Batch
)


def has_ttl(op: Operation) -> bool:
    """Whether it says how long a place stays."""
    if op.ttl_ms is not None:
        return True
    return isinstance(op, Batch) and any(part.ttl_ms is not None for part in op.ops)


class WriteError(Exception):
    """A write that was refused. The document is as it was.

    `about` is the place that `detail` tells something of: the operation's own unless another is
    named. Who may not read that place must not get the detail.
    """

    status = 422
    title = "Unprocessable write"

    def __init__(self, path: Path, detail: str, *, about: Path | None = None) -> None:
        super().__init__(detail)
        self.path = path
        self.detail = detail
        self.about = path if about is None else about

    def __str__(self) -> str:
        return self.detail


class NotFound(WriteError):
    """The place, or the place that it would lie in, is not there."""

    status = 404
    title = "Not found"


class Invalid(WriteError):
    """It cannot be done there; with `status=400` it is malformed wherever it is tried."""

    def __init__(self, path: Path, detail: str, *, status: int = 422) -> None:
        super().__init__(path, detail)
        self.status = status
        if status == 400:
            self.title = "Malformed write"


class TestFailed(WriteError):
    """A JSON Patch `test` does not hold."""

    status = 409
    title = "Test failed"
    __test__ = False  # pytest would collect it by its name


class Taken(WriteError):
    """Somebody has written under the name that this `push` would give."""

    status = 409
    title = "Name taken"


class Full(WriteError):
    """The document would be larger than it may be."""

    status = 507
    title = "Document full"


class TooManyDeadlines(WriteError):
    """More places would have a time to live than may."""

    status = 507
    title = "Too many deadlines"


class Conflict(WriteError):
    """The place is not what the precondition says."""

    status = 412
    title = "Precondition failed"
