"""One way to refuse a name that nobody knows: `did you mean …?`.

A misspelt name must not be passed over: `fitler=` would give the whole document, `reads` would
grant other things than were meant. Query parameters, members of JSON, claims and options are all
refused in these words.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

MAX_SHOWN = 64


def first_unknown(
    what: str, given: Iterable[object], known: Collection[str], *, prefix: str | None = None
) -> str | None:
    """The sentence about the first name in `given` that is not in `known`; None when all are.

    `what` says what the names are ("parameter"). Names that begin with `prefix` are known too.
    """
    for name in given:
        if name in known or (prefix is not None and str(name).startswith(prefix)):
            continue
        listed = known if prefix is None else [*known, f"{prefix}NAME"]
        return f"unknown {what} {shown(name)}{did_you_mean(name, known)}{_list(listed)}"
    return None


def did_you_mean(name: object, known: Collection[str]) -> str:
    """`; did you mean 'filter'?` when a known name is near, else ""."""
    # Names from outside may be long; comparing is quadratic, and no known name is long.
    text = str(name)[:MAX_SHOWN]
    close = difflib.get_close_matches(text, known, n=1)
    close = close or difflib.get_close_matches(text.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(name: object) -> str:
    """A name as an error shows it: quoted and not too long."""
    return repr(str(name)[:MAX_SHOWN])


def _list(known: Collection[str]) -> str:
    return f" (known are: {', '.join(known)})" if known else " (none is known here)"
