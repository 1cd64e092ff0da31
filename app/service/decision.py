"""What becomes of a write: decided from the document, the write, and what its writer may do.

Of a log each process decides anew, in the order of the log, and has to come to the same. So nothing
else may have a say in it: no clock, no setting that is not in the log, no other client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from triode.app.access.write_rights import cost_refusal, refusal_of, require_operation
from triode.app.wire.refusal import Refusal
from triode.limits.grant import FULL, Grant
from triode.limits.meter import Meter
from triode.store.change import Position
from triode.store.entry import Bounds, Entry
from triode.store.operation import Expire, WriteError
from triode.store.outcomes import DONE, FIRST_TRANSIENT
from triode.store.records import Record
from triode.store.said import Say
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from typing import Any

    from triode.store.operation import Operation
    from triode.store.outcomes import Key
    from triode.store.store import Prepared, Store
    from triode.store.work import Work

log = logging.getLogger("triode")

UNBOUNDED: Final = 1 << 62


def decide(
    store: Store, op: Operation, grant: Grant, work: Work, weighing: Work | None = None
) -> Prepared:
    """A write, ready to be committed; `weighing` as in `Store.prepare`. Raises `Refusal` without
    the right to it, `WriteError` as the store says, and `TooCostly`.
    """
    if not grant.reaches_all:
        require_operation(grant, store.document.root, op, work)
    return store.prepare(op, work, weighing)


def work_limit(op: Operation, most: int) -> int:
    """The most steps that a write may take, where others may take `most`. What has to end ends."""
    return UNBOUNDED if type(op) is Expire else most


def grant_kept(grant: Grant) -> dict[str, Any] | None:
    """What of a grant a write's decision depends on, as an entry keeps it."""
    if grant.reaches_all:
        return None
    return {"read": list(grant.read), "write": list(grant.write)}


def redo(store: Store, bounds: Bounds, entry: Entry) -> Bounds:
    """Do again what an entry brought about when it was first applied. The bounds from then on."""
    op = entry.op
    if isinstance(op, Bounds):
        begin_bounds(store, op, time_ms=entry.time_ms)
        return op
    if isinstance(op, Record):
        keep_record(store, op, time_ms=entry.time_ms)
        return bounds
    if isinstance(op, Say):
        store.skip(time_ms=entry.time_ms)
        return bounds
    key, time_ms = entry.key, entry.time_ms
    if key is not None and store.outcomes.find(key, time_ms) is not None:
        store.skip(time_ms=time_ms)
        return bounds
    grant = FULL if entry.grant is None else Grant.from_json(entry.grant)
    work = Meter(work_limit(op, bounds.max_work))
    try:
        prepared = decide(store, op, grant, work, work.again())
    except Exception as error:
        if not isinstance(error, Refusal | WriteError | TooCostly):
            # A fault of ours. It was refused when it was written too, and must not keep us from
            # here.
            log.exception("entry %s could not be decided; it is refused again", store.seq + 1)
        store.skip(time_ms=time_ms)
        if key is not None:
            note(store, key, _status_worded(store, op, grant, work, error), time_ms)
    else:
        store.commit(prepared, time_ms=time_ms)
        note(store, key, DONE, time_ms)
    return bounds


def _status_worded(store: Store, op: Operation, grant: Grant, work: Meter, error: Exception) -> int:
    """As `status_of` what the writer was told, who must not be told more than he may know."""
    root = store.document.root
    try:
        if isinstance(error, WriteError):
            return refusal_of(grant, root, op, error, work).status
        if isinstance(error, TooCostly):
            return cost_refusal(grant, root, op, error, work.again()).status
    except TooCostly as costly:
        if isinstance(error, WriteError):
            return _status_worded(store, op, grant, work, costly)
    return status_of(error)


def status_of(error: Exception) -> int:
    """By which status a write that was refused is known."""
    return error.status if isinstance(error, Refusal) else FIRST_TRANSIENT


def note(store: Store, key: Key | None, status: int, time_ms: int) -> None:
    """The write that was decided last had this key, and ended like this."""
    if key is not None:
        store.outcomes.add(key, store.seq, time_ms, status)


def first_answer(store: Store, key: Key, time_ms: int) -> Position | None:
    """What a write with this key was answered. None: there was none. Raises `Refusal` if that was
    one, and 422 if it was another write.
    """
    outcome = store.outcomes.find(key, time_ms)
    if outcome is None:
        return None
    if outcome.asked != key.asked:
        raise Refusal(422, "this key was given to another write before: each needs its own")
    if outcome.status == DONE:
        return Position(store.epoch, outcome.seq)
    raise Refusal(
        outcome.status,
        "this write was refused when it was first sent with this key; with a new key it is tried "
        "again",
    )


def begin_bounds(store: Store, bounds: Bounds, *, time_ms: int) -> None:
    """From this entry on these bounds hold."""
    hold_to(store, bounds)
    store.skip(time_ms=time_ms)


def keep_record(store: Store, record: Record, *, time_ms: int) -> None:
    """From this entry on it is kept."""
    store.records.put(record)
    store.skip(time_ms=time_ms)


def hold_to(store: Store, bounds: Bounds) -> None:
    """What the log says bounds the document, not what this process was started with."""
    store.max_bytes = bounds.max_bytes
    store.max_footprint = bounds.max_footprint
    store.deadlines.most = bounds.max_deadlines
