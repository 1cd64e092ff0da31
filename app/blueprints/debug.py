"""`/debug`, only with `--debug` and only for admins: what the running server is doing.

`/debug/tasks` is the tree of Trio's tasks, each with the line it waits at; `/debug/profile` runs
the profiler over everything for some seconds, which slows the server down meanwhile.
"""

from __future__ import annotations

import cProfile
import io
import pstats
import traceback
from typing import TYPE_CHECKING, Final

import trio
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import gated, visit
from triode.app.wire.refusal import Refusal, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.app.service.triode import Triode

MAX_SECONDS: Final = 60
# Idle streams are thousands of tasks that all look alike.
MAX_TASKS: Final = 1000
TEXT: Final = "text/plain; charset=utf-8"


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/debug`."""
    bp = gated("triode_debug", triode)
    profiling = trio.Semaphore(1, max_value=1)

    async def admins_only() -> None:
        if not triode.settings.debug:
            raise Refusal(404, "there is no such route; --debug would add it")
        triode.gate.require_admin(visit().principal)

    bp.before_request(admins_only)

    @bp.get("/debug/tasks")
    async def tasks() -> Response:
        root = trio.lowlevel.current_root_task()
        lines = [] if root is None else list(_tree(root))
        more = len(lines) - MAX_TASKS
        if more > 0:
            lines = [*lines[:MAX_TASKS], f"… and {more} more"]
        return Response("\n".join(lines) + "\n", content_type=TEXT)

    @bp.get("/debug/profile")
    async def profile() -> Response:
        asked = request.args.get("seconds", "5")
        if not asked.isdecimal() or not 1 <= int(asked) <= MAX_SECONDS:
            raise bad_request(f"seconds must be 1 to {MAX_SECONDS}", limit=MAX_SECONDS)
        try:
            profiling.acquire_nowait()
        except trio.WouldBlock:
            raise Refusal(409, "a profile is being taken already; wait for it") from None
        profiler = cProfile.Profile()
        profiler.enable()
        try:
            await trio.sleep(int(asked))
        finally:
            profiler.disable()
            profiling.release()
        text = io.StringIO()
        pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(60)
        return Response(text.getvalue(), content_type=TEXT)

    return bp


def _tree(task: trio.lowlevel.Task, depth: int = 0) -> Iterator[str]:
    yield f"{'  ' * depth}{task.name}  {_where(task)}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tree(child, depth + 1)


def _where(task: trio.lowlevel.Task) -> str:
    """The innermost line of ours that a task waits at."""
    frames = [frame for frame, _ in task.iter_await_frames()]
    if not frames:
        return "(running)"
    ours = [f for f in frames if f.f_globals.get("__name__", "").startswith("triode.app")] or frames
    [line] = traceback.extract_stack(ours[-1], limit=1)
    return f"{line.name} {line.filename.rpartition('/')[2]}:{line.lineno}"
