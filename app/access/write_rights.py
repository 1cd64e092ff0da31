"""May a principal do this to the document, and what may it be told when that fails?

An operation needs the write right where it writes and the read right where it reads
(`store.demand`). Whoever may write a place and not read it must not learn from a refusal what is
there. So for such a *blind* operation there is one refusal, the same 403 with the same text: it
tells neither a missing right from a missing place, nor which step of a patch failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.wire.refusal import Refusal, forbidden
from triode.limits.grant import ALL
from triode.store.coverage import can_cover
from triode.store.demand import Demand, demands, named, parts
from triode.store.filter import covers, parse_filter, tells_elements_apart
from triode.store.operation import Batch, Push
from triode.store.path import format_path
from triode.store.push_key import push_key

if TYPE_CHECKING:
    from triode.limits.grant import Grant
    from triode.store.operation import Operation, WriteError
    from triode.store.path import Path
    from triode.store.value import Json
    from triode.store.work import TooCostly, Work

# To look whether a filter covers another that was not asked about before; an estimate.
_LOOK_STEPS: Final = 5
# Characters of a filter that are read in a step.
_READ_CHARS: Final = 4
# Names of a path that are compared in a step.
_NAMES_A_STEP: Final = 8


def require_operation(grant: Grant, root: Json, op: Operation, work: Work) -> None:
    """Raises `Refusal` 403 unless all that `op` needs is granted, and `TooCostly`."""
    if grant.reaches_all:
        return
    each = _LOOK_STEPS * (1 + len(grant.read) + len(grant.write))
    for demand in demands(root, op):
        work.charge(each + len(demand.filter) // _READ_CHARS)
        if not _is_granted(grant, demand):
            raise _blind(op) if _is_blind(grant, root, op, work) else _not_granted(demand)


def require_reach(grant: Grant, op: Operation, work: Work) -> None:
    """Raises `Refusal` 403 for what no document would allow, and `TooCostly`."""
    if not grant.write:
        raise forbidden("this token may write nothing")
    if grant.write == ALL:
        return
    for part in parts(op):
        work.charge(len(grant.write) * (1 + len(part.path) // _NAMES_A_STEP))
        # What is pushed has a name that nobody knows yet.
        path = (*part.path, push_key(0)) if isinstance(part, Push) else part.path
        if not any(can_cover(parse_filter(text).steps, path) for text in grant.write):
            if _is_blind(grant, None, op, work):
                raise _blind(op)
            raise _not_granted(Demand("write", format_path(part.path)))


def refusal_of(grant: Grant, root: Json, op: Operation, error: WriteError, work: Work) -> Refusal:
    """The answer to an operation that the store refuses; `root` is still as it was. Raises
    `TooCostly`.
    """
    if grant.may_read(".", covers):
        return refused(error)
    if _is_blind(grant, root, op, work):
        return _blind(op)
    if may_read(grant, root, error.about):
        return refused(error)
    # The place may be read, what lies around it not: that it is not there is all there is to say.
    detail = f"this cannot be done at {format_path(error.path)}, as the document is now"
    return Refusal(error.status, detail, title=error.title)


def cost_refusal(grant: Grant, root: Json, op: Operation, error: TooCostly, work: Work) -> Refusal:
    """The answer to an operation that costs too much, which tells how much there is."""
    if not grant.may_read(".", covers) and _is_blind(grant, root, op, work):
        return _blind(op)
    return too_costly(error)


def too_costly(error: TooCostly) -> Refusal:
    """The same, for whoever may know how much there is."""
    return Refusal(
        422,
        f"{error}; nothing was changed: split the write into smaller ones",
        extra={"limit": error.limit, "cost": error.cost},
    )


def read_refusal(grant: Grant, root: Json, error: WriteError) -> Refusal:
    """The answer to a read of a place that may be read and is not there."""
    if may_read(grant, root, error.about):
        return refused(error)
    return Refusal(error.status, f"there is nothing at {format_path(error.path)}")


def refused(error: WriteError) -> Refusal:
    """The store's own refusal, for whoever may know all of it."""
    return Refusal(error.status, error.detail, title=error.title)


def may_read(grant: Grant, root: Json, path: Path) -> bool:
    """Whether a place of this document may be read."""
    return grant.may_read(format_path(named(root, path)), covers)


def _is_granted(grant: Grant, demand: Demand) -> bool:
    if demand.right == "read":
        return grant.may_read(demand.filter, covers)
    if not grant.may_write(demand.filter, covers):
        return False
    if demand.right == "write" or grant.may_read(demand.filter, covers):
        return True
    # A shift would bring neighbours to the place of the only element that may be read.
    return not any(tells_elements_apart(text) for text in grant.read)


def _is_blind(grant: Grant, root: Json, op: Operation, work: Work) -> bool:
    each = _LOOK_STEPS * (1 + len(grant.read))
    for part in parts(op):
        work.charge(each + len(part.path))
        if not may_read(grant, root, part.path):
            return True
    return False


def _blind(op: Operation) -> Refusal:
    if isinstance(op, Batch):
        return forbidden(
            "this token may not do all of this batch, or it cannot be done; which of them is told "
            "only to a token that may read all places of the batch"
        )
    path = format_path(op.path)
    return forbidden(
        f"this token may not do this at {path}, or it cannot be done there; which of them is told "
        "only to a token that may read the place",
        path=path,
    )


def _not_granted(demand: Demand) -> Refusal:
    if demand.right == "read":
        detail = f"this token may not read {demand.filter}, which this operation reads"
    elif demand.right == "write":
        detail = f"this token may not write {demand.filter}"
    else:
        detail = f"this token may not move elements: that needs the rights to {demand.filter}"
    return forbidden(detail, path=demand.filter)
