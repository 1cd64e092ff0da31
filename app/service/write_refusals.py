"""What a writer is told when a write comes to nothing, or nobody knows whether it did."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from triode.app.wire.refusal import Refusal

if TYPE_CHECKING:
    from triode.app.log.log import LogFull
    from triode.app.runtime.metrics import Metrics

# Of seconds, to come back after. Those who were told in one moment do not come back in one.
FULL_S: Final = (5, 15)
STUCK_S: Final = (2, 6)
END_S: Final = (1, 3)


def full(error: LogFull) -> Refusal:
    """The disk is full."""
    return refuse_for_now(
        507,
        "Log full",
        f"{error}: nothing was written; reading goes on, and writing when there is room again",
        FULL_S,
    )


def unknown() -> Refusal:
    """The end comes between a write and its outcome."""
    return refuse_for_now(
        503,
        "Outcome unknown",
        "the server ends, and it is not known whether this was written; read the place again",
        END_S,
    )


def unknown_yet() -> Refusal:
    """The log has had it for long, and does not say."""
    return refuse_for_now(
        503,
        "Outcome unknown",
        "the log does not answer; this may still be written: read the place again, or send it "
        "again with the key that it had",
        STUCK_S,
    )


def unknown_for_good() -> Refusal:
    """A shared log was begun anew while it had this."""
    return refuse_for_now(
        503,
        "Outcome unknown",
        "the log was lost in part meanwhile, and it is not known whether this was written: read "
        "the place again, or send it again with the key that it had",
        STUCK_S,
    )


def unavailable() -> Refusal:
    """A shared log is not in reach, and has nothing of this."""
    return refuse_for_now(
        503, "Log unavailable", "the log is not in reach; nothing of this was written", STUCK_S
    )


def not_written() -> Refusal:
    """The log has others' for long, and did not get this one."""
    return refuse_for_now(
        503, "Log stuck", "the log does not answer; nothing of this was written", STUCK_S
    )


def refuse_for_now(status: int, title: str, detail: str, within: tuple[int, int]) -> Refusal:
    """One that says in how many seconds, between these, it may be tried again."""
    retry_s = random.randint(*within)
    return Refusal(
        status,
        detail,
        title=title,
        extra={"retry_after": retry_s},
        headers={"Retry-After": str(retry_s)},
    )


def refusal_for(metrics: Metrics, error: Exception) -> Refusal:
    """The answer to a write that came to nothing. A fault of ours is in the server's log."""
    if isinstance(error, Refusal):
        return error
    metrics.errors_total += 1
    return Refusal(500, "the server failed to do this; it is logged")
