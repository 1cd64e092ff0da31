"""What there is one of in each run of Trio, made when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def per_run(name: str, make: Callable[[], T]) -> Callable[[], T]:
    """A function that gives what `make` made in this run."""
    made: trio.lowlevel.RunVar[T] = trio.lowlevel.RunVar(name)

    def get() -> T:
        try:
            return made.get()
        except LookupError:
            one = make()
            made.set(one)
            return one

    return get
