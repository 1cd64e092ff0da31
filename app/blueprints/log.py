"""`/log` and `/backup`, for admins: what was written, when, by whom; and all that is kept, as a
file.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import trio
from quart import Blueprint, request
from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.gated import gated, visit
from triode.app.blueprints.json_answer import json_response
from triode.app.log.log import LogFull, LogRefused
from triode.app.service.log_view import entries
from triode.app.wire.refusal import Refusal, bad_request
from triode.app.wire.stream_request import check_limit
from triode.store.change import Position, parse_position

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.service.journal import Journal
    from triode.app.service.triode import Triode

FRESH: Final = {"Cache-Control": "no-store"}
LISTED: Final = 100
MOST_LISTED: Final = 1000
PIECE_BYTES: Final = 256 * 1024
SQLITE: Final = "application/vnd.sqlite3"


def blueprint(triode: Triode) -> Blueprint:
    """The routes of `/log` and `/backup`."""
    bp = gated("triode_log", triode)
    copying = trio.Semaphore(1, max_value=1)

    async def admins_only() -> None:
        triode.gate.require_admin(visit().principal)
        _journal(triode)

    bp.before_request(admins_only)

    @bp.get("/log")
    async def log() -> Response:
        params = visit().head.params
        limit = check_limit(params, LISTED, MOST_LISTED)
        since = _since(triode, params.get("since", [None])[-1], limit)
        return json_response(await _entries(triode, since, limit), headers=FRESH)

    @bp.get("/backup")
    async def backup() -> Response:
        if request.method == "HEAD":
            return Response(None, headers=FRESH, content_type=SQLITE)
        try:
            copying.acquire_nowait()
        except trio.WouldBlock:
            raise Refusal(
                503, "a backup is being made; try again when it is", headers={"Retry-After": "10"}
            ) from None
        with ExitStack() as undo:
            undo.callback(copying.release)
            try:
                file = await _journal(triode).log.backup()
            except LogFull as error:
                raise Refusal(507, str(error), title="Log full") from error
            except LogRefused as error:
                raise Refusal(503, str(error), headers={"Retry-After": "10"}) from error
            body = _File(file, undo.pop_all().close)
        fields = FRESH | {"Content-Length": str(os.fstat(file).st_size)}
        response = Response(body, headers=fields, content_type=SQLITE)
        response.timeout = None
        return response

    return bp


def _journal(triode: Triode) -> Journal:
    if triode.journal is None:
        raise Refusal(404, "this server keeps no log: its document is in memory (--data)")
    return triode.journal


def _since(triode: Triode, text: str | None, limit: int) -> int:
    """The number of the entry after which to begin: the one that is named, or the last few."""
    if text is None:
        return max(triode.store.seq - limit, 0)
    position = parse_position(text)
    seq = None if position is None else triode.store.seq_of(position)
    if seq is None:
        raise bad_request(f"since={text} is no position of this log", member="since")
    return seq


async def _entries(triode: Triode, since: int, limit: int) -> dict[str, Any]:
    store, kept = triode.store, _journal(triode).log
    since = max(since, await kept.floor())
    last = store.seq
    found = await entries(kept, store.epoch, since, min(last, since + limit))
    since += len(found)
    return {
        "position": str(store.position),
        "entries": found,
        "next": str(Position(store.epoch, since)),
        "more": since < last,
    }


class _File(ResponseBody):
    """A file that has no name any more, in pieces; closed whatever becomes of the answer."""

    def __init__(self, file: int, closed: Callable[[], None]) -> None:
        self._file = file
        self._closed = closed
        self._at = 0

    async def __aenter__(self) -> _File:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up its room on the disk. More often is harmless."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
            self._closed()

    def __del__(self) -> None:
        # At any moment: it closes a file that only we have, and counts up, which wakes nobody.
        self.close()

    def __aiter__(self) -> _File:
        return self

    async def __anext__(self) -> bytes:
        piece = await trio.to_thread.run_sync(os.pread, self._file, PIECE_BYTES, self._at)
        self._at += len(piece)
        if not piece:
            raise StopAsyncIteration
        return piece
