"""`POST /store/batch`: many commands in one request, an answer for each (WIRE.md 5 and 6).

Each command stands for itself: a malformed or refused one gets its error in its place, and the
others go on. The body is read whole before the first one runs, so a body over the limit runs
nothing; the answers are sent while later commands still run, so a batch of large `get`s never piles
up. A client that goes away in the middle leaves the rest of its batch undone.

The loop over lines is the fastest way to write over HTTP, so it is kept lean: for a line one
decode, one `execute`, one encode, and a checkpoint only every `SLICE` commands.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import trio
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from app.blueprints._answer import PIECE_BYTES
from app.blueprints._request import gated, visit
from app.content import JSON, NDJSON, ONE_GO_BYTES, decode_json, malformed, media_type, read_body
from app.problem import Refusal, bad_request
from store.value import JsonError, approx_bytes, decode, encode, encode_steps

if TYPE_CHECKING:
    from app.triode import Triode
    from limits.principal import Principal

SLICE: Final = 50

log = logging.getLogger("triode")


def blueprint(triode: Triode) -> Blueprint:
    """The route of the batch."""
    bp = gated("triode_batch", triode)

    @bp.post("/store/batch")
    async def batch() -> Response:
        kind = media_type(request, [NDJSON, JSON])
        data = await read_body(request, triode.settings.max_body_bytes)
        run = Run(triode, visit().principal)
        if kind == NDJSON:
            answer = Response(run.lines(data), content_type=NDJSON)
        else:
            commands = await decode_json(data, max_depth=triode.settings.max_depth)
            if not isinstance(commands, list):
                raise bad_request("send an array of commands, or NDJSON with one command a line")
            answer = Response(run.array(commands), content_type=JSON)
        answer.timeout = None
        return answer

    return bp


class Run:
    """One batch of one principal.

    Its answers are async generators of bytes, which Quart closes also when cancelled.
    """

    def __init__(self, triode: Triode, principal: Principal) -> None:
        self._triode = triode
        self._principal = principal

    async def lines(self, data: bytearray) -> AsyncIterator[bytes]:
        """A line of answer for each line of `data`; empty lines have none."""
        answers = bytearray()
        depth = self._triode.settings.max_depth
        for count, (number, line) in enumerate(split_lines(data), 1):
            command: Any
            try:
                if len(line) <= ONE_GO_BYTES:
                    command = decode(line, max_depth=depth)
                else:
                    command = await decode_json(line, max_depth=depth)
            except JsonError as error:
                answers += failed(_in_line(malformed(error), number))
            except Refusal as refusal:
                answers += failed(_in_line(refusal, number))
            else:
                result = await self._answer(command)
                if isinstance(result, bytes):
                    answers += result
                else:
                    async for piece in self._large(bytes(answers), result):
                        yield piece
                    answers.clear()
            answers += b"\n"
            if count % SLICE == 0:
                if len(answers) >= PIECE_BYTES:
                    yield bytes(answers)
                    answers.clear()
                await trio.lowlevel.checkpoint()
        yield bytes(answers)

    async def array(self, commands: Iterable[Any]) -> AsyncIterator[bytes]:
        """The answers as one JSON array, in the order of the commands."""
        answers = bytearray(b"[")
        for count, command in enumerate(commands, 1):
            if count > 1:
                answers += b","
            result = await self._answer(command)
            if isinstance(result, bytes):
                answers += result
            else:
                async for piece in self._large(bytes(answers), result):
                    yield piece
                answers.clear()
            if count % SLICE == 0:
                if len(answers) >= PIECE_BYTES:
                    yield bytes(answers)
                    answers.clear()
                await trio.lowlevel.checkpoint()
        yield bytes(answers + b"]")

    async def _answer(self, command: Any) -> bytes | dict[str, Any]:
        """The answer to one command: encoded, or as it is when that would take long.

        Never raises.
        """
        if type(command) is not dict:
            return failed(bad_request("a command is a JSON object"))
        try:
            result = await self._triode.execute(command, self._principal)
        except Refusal as refusal:
            return failed(refusal, command)
        except Exception:
            log.exception("a command in a batch failed")
            self._triode.metrics.errors_total += 1
            return failed(Refusal(500, "the server failed to do this; it is logged"), command)
        answer = {"ref": command["ref"], "ok": True} if "ref" in command else {"ok": True}
        answer |= result
        if "items" in result and approx_bytes(result, limit=PIECE_BYTES) >= PIECE_BYTES:
            return answer
        return encode(answer)

    async def _large(self, before: bytes, answer: dict[str, Any]) -> AsyncIterator[bytes]:
        """A large answer in pieces, after what is still to be sent `before` it.

        It refers to the living document. No checkpoint has passed since it was read, so a pin taken
        now is still in time.
        """
        with self._triode.store.document.pin():
            yield before
            for piece in encode_steps(answer):
                yield piece
                await trio.lowlevel.checkpoint()


def failed(refusal: Refusal, command: dict[str, Any] | None = None) -> bytes:
    """The answer for a command that was refused, with its `ref` if it has a usable one."""
    answer: dict[str, Any] = {"ok": False, "error": refusal.body()}
    ref = None if command is None else command.get("ref")
    return encode(answer if isinstance(ref, dict | list) or ref is None else {"ref": ref} | answer)


def _in_line(refusal: Refusal, number: int) -> Refusal:
    refusal.extra["line"] = number
    return refusal


def split_lines(data: bytearray) -> Iterator[tuple[int, bytes]]:
    """The lines of NDJSON that are not blank, with their numbers.

    Lazy: a list of all could be hundreds of thousands.
    """
    start, end, number = 0, len(data), 0
    while start < end:
        stop = data.find(b"\n", start)
        if stop < 0:
            stop = end
        number += 1
        line = bytes(data[start:stop]).strip(b" \t\r")
        if line:
            yield number, line
        start = stop + 1
