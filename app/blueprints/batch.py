"""`POST /store/batch`: many commands in one request, an answer for each (docs/wire.md, HTTP).

Each command stands for itself: a malformed or refused one gets its error in its place, and the
others go on. The body is read whole before the first one runs, so a body over the limit runs
nothing; the answers are sent while later commands still run, so a batch of large `get`s never piles
up. A client that goes away in the middle leaves the rest of its batch undone.

An answer has the members of a WebSocket's `ok` or `error`, and for the tools of the shell `ok` as a
boolean, and the problem object under `error`.

The answers of one batch are bounded, and so is its work: beyond either, one more answer says that
the rest was not carried out. What it takes counts for the share of whoever sent it.

The loop over lines is the fastest way to write over HTTP, so it is kept lean: for a line one
decode, one `execute`, one encode; a turn (`app/runtime/effort.py`) is of `SLICE` commands, or fewer
when they take long.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain, islice
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import trio
from quart import Blueprint
from quart_trio.wrappers import TrioResponse as Response

from triode.app.access.charged import Bill
from triode.app.blueprints.gated import gated, visit
from triode.app.blueprints.json_answer import PIECE_BYTES, item_pieces
from triode.app.blueprints.request_body import (
    JSON,
    NDJSON,
    decode_json,
    in_hand,
    malformed,
    media_type,
    read_body,
)
from triode.app.runtime.decoding import AT_ONCE_BYTES
from triode.app.runtime.effort import ROUND_S, Effort
from triode.app.runtime.turns import TURN_S, between
from triode.app.service.execute import (
    WRITES,
    begin_write,
    carry_out,
    filter_of,
    name_of,
    ref_of,
    write_answer,
)
from triode.app.service.reading import Reading
from triode.app.service.write_key import part_of
from triode.app.service.write_refusals import refusal_for
from triode.app.wire.known_names import check_command
from triode.app.wire.refusal import Refusal, bad_request
from triode.app.wire.write_key import FIELD, key_of_field
from triode.limits.cpu_share import STEPS_A_SECOND
from triode.store.value import JsonError, decode, encode

if TYPE_CHECKING:
    from triode.app.service.triode import Triode
    from triode.app.service.under_way import Write
    from triode.limits.principal import Principal
    from triode.store.filter import Filter

SLICE: Final = 50
# A byte of an answer to a `get` is so many steps.
BYTE_STEPS: Final = 1 / 128
BLANK_LINES: Final = 1000
# After the last command.
_END: Final = (0, object())

log = logging.getLogger("triode")


def blueprint(triode: Triode) -> Blueprint:
    """The route of the batch."""
    bp = gated("triode_batch", triode)

    @bp.post("/store/batch")
    async def batch() -> Response:
        head = visit().head
        kind = media_type(head, [NDJSON, JSON])
        given = head.get(FIELD)
        key = None if given is None else key_of_field(given)
        with in_hand(triode.metrics, head):
            items = await _items(triode, kind)
        run = Run(triode, visit().principal, key)
        answer = Response(run.answers(items, as_array=kind == JSON), content_type=kind)
        answer.timeout = None
        return answer

    return bp


async def _items(triode: Triode, kind: str) -> Iterable[tuple[int, Any]]:
    """The commands of the body with their numbers; those of NDJSON not decoded yet."""
    data = await read_body(visit().body, triode.settings.max_body_bytes, triode.bodies)
    if kind == NDJSON:
        return split_lines(data)
    commands = await decode_json(data, max_depth=triode.settings.max_depth)
    if not isinstance(commands, list):
        raise bad_request("send an array of commands, or NDJSON with one command a line")
    return enumerate(commands)


class _Got(Reading):
    """What a `get` has read."""

    def __init__(
        self, triode: Triode, principal: Principal, filter: Filter, ref: dict[str, Any]
    ) -> None:
        super().__init__(triode, principal, [filter])
        start = {"type": "ok", **ref, "ok": True, "id": str(self.position)}
        self.head = encode(start)[:-1] + b',"items":'


class Run:
    """One batch of one principal. With a `key` each write of it that has none of its own has a part
    of that.
    """

    def __init__(self, triode: Triode, principal: Principal, key: str | None = None) -> None:
        self._triode = triode
        self._key = key
        self._principal = principal
        # Where a log is kept: the writes that were begun and whose answers are not given yet.
        self._begun: deque[tuple[dict[str, Any], Write | Refusal]] = deque()
        self._bill = Bill(triode.gate, principal)
        # Bytes of the answers so far.
        self._answered = 0
        self._is_over = False

    async def answers(
        self, items: Iterable[tuple[int, Any]], *, as_array: bool
    ) -> AsyncIterator[bytes]:
        """Run numbered commands, decoded or not, and yield the encoded answers: lines or an array.

        To be closed also when cancelled, as Quart does with bodies: it may hold a pin.
        """
        due = bytearray(b"[" if as_array else b"")
        if self._triode.journal is not None:
            items = chain(items, [_END])
        left, effort, comma = iter(items), Effort(), b""
        while not self._is_over:
            # Where nobody else waits, more writes are flushed together.
            is_alone = await effort.turn()
            given = await self._bill.pay(self._slice(left, TURN_S if is_alone else ROUND_S))
            effort.done()
            for answer in given:
                due += comma
                if as_array:
                    comma = b","
                if isinstance(answer, bytes):
                    due += answer
                else:
                    with answer:
                        due += answer.head
                        for piece in answer.pieces(item_pieces):
                            due += piece
                            self._answered += len(piece)
                            self._bill.add(len(piece) * BYTE_STEPS)
                            if len(due) >= PIECE_BYTES:
                                yield bytes(due)  # noqa: ASYNC119 # Quart closes bodies, which releases the pin
                                due.clear()
                            await between(piece)
                    due += b"}"
                if not as_array:
                    due += b"\n"
            if len(due) >= PIECE_BYTES:
                yield bytes(due)
                due.clear()
            await trio.lowlevel.checkpoint()
        yield bytes(due + b"]" if as_array else due)

    async def _slice(self, left: Iterator[tuple[int, Any]], turn_s: float) -> list[bytes | _Got]:
        """The answers to the next commands: as many as fit into a turn, or until one is a `get`."""
        given: list[bytes | _Got] = []
        answers = self._answers if self._triode.journal is None else self._answers_ahead
        until_s = time.perf_counter() + turn_s
        done = 0
        for number, item in islice(left, SLICE):
            done += 1
            if item == b"":
                continue
            if item is not _END[1] and (refusal := self._beyond(number, item)):
                await self._settle(given, 0)
                given.append(failed(refusal, {}))
                self._is_over = True
                return given
            for answer in await answers(number, item):
                given.append(answer)
                if isinstance(answer, bytes):
                    self._answered += len(answer)
            if time.perf_counter() > until_s or (given and isinstance(given[-1], _Got)):
                return given
        self._is_over = done < SLICE
        return given

    def _beyond(self, number: int, item: Any) -> Refusal | None:
        """Why neither this command nor one after it is carried out."""
        settings = self._triode.settings
        most, share_s = settings.max_answer_bytes, settings.cpu_share_s
        where = {"line" if type(item) is bytes else "index": number}
        rest = "neither this command nor those after it were carried out; send them"
        if self._answered >= most:
            detail = f"the answers of one batch may have {most} bytes: {rest} in another batch"
            return Refusal(422, detail, extra={"limit": most, **where})
        if 0 < share_s * STEPS_A_SECOND <= self._bill.steps:
            left_s = self._triode.gate.cpu.wait_s(self._principal.key, trio.current_time())
            wait_s = max(1, ceil(left_s))
            detail = f"this batch took {share_s:g} s of the server's time, the share of a minute"
            return Refusal(
                429,
                f"{detail}: {rest} in {wait_s} s",
                extra={"retry_after": wait_s, "limit": share_s, **where},
            )
        return None

    async def _answers_ahead(self, number: int, item: Any) -> Sequence[bytes | _Got]:
        """Begins a write before those ahead of it are answered; the answers that are there by now,
        in order. Anything else waits for all of them.
        """
        given: list[bytes | _Got] = []
        if item is _END[1]:
            await self._settle(given, 0)
            return given
        ref: dict[str, Any] = {}
        try:
            item = await self._decode(number, item) if type(item) is bytes else item
            ref = ref_of(item)
            name = name_of(item)
            if name not in WRITES:
                await self._settle(given, 0)
                given += await self._answers(number, item)
                return given
            self._triode.metrics.commands_total += 1
            part = self._key and part_of(self._key, number)
            write = await begin_write(self._triode, name, item, self._principal, key=part)
        except Refusal as refusal:
            self._begun.append((ref, refusal))
        else:
            self._begun.append((ref, write))
        await self._settle(given, self._triode.settings.log_pipeline)
        return given

    async def _settle(self, given: list[bytes | _Got], most: int) -> None:
        """Move answers to `given`: those that are there, and until at most so many are not."""
        begun = self._begun
        while begun:
            ref, write = begun[0]
            if isinstance(write, Refusal):
                given.append(failed(write, ref))
            elif write.is_settled or len(begun) > most:
                await write.settled()
                if write.error is None:
                    assert write.position is not None
                    answer = write_answer(self._triode.store, write.op, write.position)
                    given.append(encode({"type": "ok", **ref, "ok": True, **answer}))
                else:
                    given.append(failed(refusal_for(self._triode.metrics, write.error), ref))
            else:
                return
            begun.popleft()

    async def _answers(self, number: int, item: Any) -> Sequence[bytes | _Got]:
        """The answer to one command: encoded, or what a `get` has read."""
        ref: dict[str, Any] = {}
        try:
            command = await self._decode(number, item) if type(item) is bytes else item
            ref = ref_of(command)
            name = name_of(command)
            if name == "get":
                return (await self._get(command, ref),)
            part = self._key and part_of(self._key, number)
            result = await carry_out(self._triode, name, command, self._principal, key=part)
        except Refusal as refusal:
            return (failed(refusal, ref),)
        except Exception:
            log.exception("a command in a batch failed")
            self._triode.metrics.errors_total += 1
            return (failed(Refusal(500, "the server failed to do this; it is logged"), ref),)
        return (encode({"type": "ok", **ref, "ok": True, **result}),)

    async def _get(self, command: dict[str, Any], ref: dict[str, Any]) -> _Got:
        check_command("get", command)
        self._triode.metrics.commands_total += 1
        filter = await filter_of(self._triode, self._principal, command)
        got = _Got(self._triode, self._principal, filter, ref)
        try:
            await got.afford()
        except BaseException:
            got.close()
            raise
        return got

    async def _decode(self, number: int, line: bytes) -> Any:
        depth = self._triode.settings.max_depth
        try:
            if len(line) <= AT_ONCE_BYTES:
                return decode(line, max_depth=depth)
            return await decode_json(line, max_depth=depth)
        except JsonError as error:
            raise _of_line(number, malformed(error)) from None
        except Refusal as refusal:
            _of_line(number, refusal)
            raise


def _of_line(number: int, refusal: Refusal) -> Refusal:
    refusal.extra["line"] = number
    return refusal


def failed(refusal: Refusal, ref: dict[str, Any]) -> bytes:
    """The answer for a command that was refused: a WebSocket's `error`, and the problem whole."""
    body = refusal.body()
    return encode({**body, "type": "error", **ref, "ok": False, "error": body})


def split_lines(data: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    """The lines of NDJSON that are not blank, with their numbers; of many blank ones in a row now
    and then one, for others to have their turns.

    Lazy: a list of all could be hundreds of thousands.
    """
    start, end, number, blank = 0, len(data), 0, 0
    while start < end:
        stop = data.find(b"\n", start)
        if stop < 0:
            stop = end
        number += 1
        line = bytes(data[start:stop]).strip(b" \t\r")
        blank = 0 if line else blank + 1
        if line or blank % BLANK_LINES == 0:
            yield number, line
        start = stop + 1
