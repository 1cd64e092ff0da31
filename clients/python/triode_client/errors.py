"""What can go wrong, by whose fault.

    TriodeError
    ├── Refused            the server said no; it carries the problem object (RFC 9457)
    │   ├── NotAllowed     401, 403: the token lacks the right, or there is none
    │   ├── NotFound       404: there is no such place
    │   ├── Changed        412: the place has changed since the position given as `if_`
    │   ├── RateLimited    429: too many commands; `retry_after_s` says when to go on
    │   └── BatchRefused   some operations of a batch that is not atomic were refused
    ├── Unsent             dropped from the offline queue: the server has never seen it
    ├── Lost               sent, and the connection ended before the answer: it may have been
    │                      applied, or not
    ├── CannotConnect      nobody answers at the URL, or what answers is no Triode
    ├── Ended              the server ended the connection for good, or coming back is no use
    ├── Closed             used after its `with` block was left
    └── WrongType          what is there is not of the type that was asked for

`Refused`, `Unsent` and `Lost` come out of the call that they are about. `Ended` and `CannotConnect`
concern everything: they cancel the body of `async with connect(...)` and come out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TriodeError(Exception):
    """What this library raises, other than for wrong arguments."""


class Refused(TriodeError):
    """The server's no.

    `problem` is the problem object as it came, `status` the HTTP status that goes with it, `detail`
    the sentence that says what to do, `retry_after_s` when to try again, in seconds, if it said so.
    """

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.status = int(problem.get("status", 400))
        self.title = str(problem.get("title", "Refused"))
        self.detail = str(problem.get("detail", ""))
        # False: a proxy's, or of whatever else answers there.
        self.is_triodes = True
        after = problem.get("retry_after")
        self.retry_after_s = float(after) if isinstance(after, int | float) else None
        super().__init__(f"{self.title}: {self.detail}" if self.detail else self.title)

    @property
    def is_temporary(self) -> bool:
        """Whether the same request can succeed later."""
        return self.status in (408, 425, 429, 500, 502, 503, 504)


class NotAllowed(Refused):
    """401 or 403."""


class NotFound(Refused):
    """404."""


class Changed(Refused):
    """412."""


class RateLimited(Refused):
    """429."""


class BatchRefused(Refused):
    """Some operations of a batch that is not atomic were refused; the others are applied.

    `positions` has the position of each operation, None for the refused; `errors` their refusals
    by index.
    """

    def __init__(self, positions: Sequence[str | None], errors: Mapping[int, Refused]) -> None:
        first = min(errors)
        super().__init__(errors[first].problem)
        self.positions = list(positions)
        self.errors = dict(errors)
        self.args = (f"{len(errors)} of {len(positions)} refused; operation {first}: {self}",)


class Unsent(TriodeError):
    """Dropped from the full offline queue, the oldest first. Nothing was sent."""


class Lost(TriodeError):
    """The connection ended between the command and its answer: it may have been applied, or not.

    A message, or a write that can't be sent again: after five minutes without a connection, or with
    another token, the server might not know it again, and do it twice.
    """


class CannotConnect(TriodeError):
    """There was no connection, and no answer that says why."""


class Ended(TriodeError):
    """The connection has ended for good; `code` is the close code, `reason` its text."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server ended the connection: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Closed(TriodeError):
    """Used after its `with` block was left, or it was closed."""


class WrongType(TriodeError):
    """What is there is not of the `type` that was asked for; `value` is what it is."""

    def __init__(self, value: Any, why: str) -> None:
        super().__init__(why)
        self.value = value


_BY_STATUS: Mapping[int, type[Refused]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    412: Changed,
    429: RateLimited,
}


def refused(problem: Mapping[str, Any]) -> Refused:
    """The refusal that a problem object states, of the class that belongs to its status."""
    status = problem.get("status")
    kind = _BY_STATUS.get(status, Refused) if isinstance(status, int) else Refused
    return kind(problem)
