"""What becomes of a write: decided from the document, the write, and what its writer may do.

Of a log each process decides anew, in the order of the log, and has to come to the same. So nothing
else may have a say in it: no clock, no setting that is not in the log, no other client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from triode.app.access.write_rights import require_operation
from triode.app.wire.refusal import Refusal
from triode.limits.grant import FULL, Grant
from triode.limits.meter import Meter
from triode.store.entry import Bounds, Entry
from triode.store.filter import covers
from triode.store.operation import WriteError
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from typing import Any

    from triode.store.operation import Operation
    from triode.store.store import Prepared, Store
    from triode.store.work import Work

log = logging.getLogger("triode")


def decide(
    store: Store, op: Operation, grant: Grant, work: Work, weighing: Work | None = None
) -> Prepared:
    """A write, ready to be committed; `weighing` as in `Store.prepare`. Raises `Refusal` without
    the right to it, `WriteError` as the store says, and `TooCostly`.
    """
    require_operation(grant, store.document.root, op, work)
    return store.prepare(op, work, weighing)


def grant_kept(grant: Grant) -> dict[str, Any] | None:
    """What of a grant a write's decision depends on, as an entry keeps it."""
    if grant.may_write(".", covers) and grant.may_read(".", covers):
        return None
    return {"read": list(grant.read), "write": list(grant.write)}


def redo(store: Store, bounds: Bounds, entry: Entry) -> Bounds:
    """Do again what an entry brought about when it was first applied. The bounds from then on."""
    op = entry.op
    if isinstance(op, Bounds):
        begin_bounds(store, op, time_ms=entry.time_ms)
        return op
    grant = FULL if entry.grant is None else Grant.from_json(entry.grant)
    work = Meter(bounds.max_work)
    try:
        prepared = decide(store, op, grant, work, work.again())
    except (Refusal, WriteError, TooCostly):
        store.skip(time_ms=entry.time_ms)
    except Exception:
        # A fault of ours. It was refused when it was written too, and must not keep us from here.
        log.exception("entry %s could not be decided; it is refused again", store.seq + 1)
        store.skip(time_ms=entry.time_ms)
    else:
        store.commit(prepared, time_ms=entry.time_ms)
    return bounds


def begin_bounds(store: Store, bounds: Bounds, *, time_ms: int) -> None:
    """From this entry on these bounds hold."""
    hold_to(store, bounds)
    store.skip(time_ms=time_ms)


def hold_to(store: Store, bounds: Bounds) -> None:
    """What the log says bounds the document, not what this process was started with."""
    store.max_bytes = bounds.max_bytes
    store.max_footprint = bounds.max_footprint
