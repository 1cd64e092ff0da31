"""Writes that are refused before they are logged: the grant alone says so."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from triode.app.access.write_rights import require_reach, too_costly
from triode.app.runtime.turns import allowance, in_turns
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from triode.limits.grant import Grant
    from triode.store.operation import Operation

AT_ONCE_STEPS: Final = 500


async def check_reach(grant: Grant, op: Operation, limit: int) -> None:
    """Raises `Refusal` 403 for a write that this grant can never allow; a long batch is looked at
    in turns. 422 for what takes more than `limit` steps: to decide it would take even more.
    """
    if grant.reaches_all:
        return
    try:
        try:
            require_reach(grant, op, allowance(AT_ONCE_STEPS))
        except TooCostly:
            await in_turns(limit, partial(require_reach, grant, op))
    except TooCostly as error:
        raise too_costly(error) from error
