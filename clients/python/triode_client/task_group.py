"""A task group that does not show in the exceptions that pass through it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NoReturn

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def bare_task_group() -> AsyncGenerator[TaskGroup]:
    """Open a task group for tasks of our own.

    A single exception, of the body or of a task, is raised as it was and not as a group of one: who
    writes `async with connect(...)` has opened no task group to expect exception groups from.
    Several at once stay a group.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            _raise_bare(group.exceptions[0])
        raise


def _raise_bare(exc: BaseException) -> NoReturn:
    # Without this the group that holds the exception would become its context, a circle.
    context = exc.__context__
    try:
        raise exc
    finally:
        exc.__context__ = context
        del exc, context
