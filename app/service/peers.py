"""The clients of the other Triodes that share the log: what is meant for them goes there.

The id of a client names its Triode, so what selects by ids goes to those alone; tags, and the list
of all, ask each. Each has a second. Who does not answer is named: it may have done it or not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from triode.app.log.log import LogAway, LogError, NodeGone
from triode.app.service import control
from triode.app.service.control import Order
from triode.app.service.snapshot_reading import DOCUMENT_DEPTH
from triode.app.service.write_refusals import refuse_for_now
from triode.app.wire.frame import Frame
from triode.app.wire.frame import control as event_frame
from triode.app.wire.refusal import Refusal, forbidden
from triode.store.decode import decode
from triode.store.value import encode

if TYPE_CHECKING:
    from triode.app.log.log import SharedLog
    from triode.app.service.applier import Applier

WITHIN_S: Final = 1.0
RETRY_S: Final = (1, 1)
NO_COMPANY: Final = "you may only write to clients in a room with you; join one of theirs"

_ID = re.compile(r"c_([0-9a-f]{12})_")


class Direct(msgspec.Struct, frozen=True, tag="direct"):
    """A message to one client. `rooms` are those of its sender, None: it may write to all; `key` is
    what it is counted by.
    """

    to: str
    body: bytes
    key: str
    rooms: list[str] | None


class ToTags(msgspec.Struct, frozen=True, tag="tags"):
    """A message to all who carry these."""

    tags: dict[str, str]
    body: bytes


class Ordered(msgspec.Struct, frozen=True, tag="order"):
    """Something of `/connections`."""

    order: Order


class Done(msgspec.Struct, frozen=True):
    """What came of it: the members of the answer as JSON, or a refusal."""

    answer: bytes = b"{}"
    status: int = 0
    why: str = ""


Question = Direct | ToTags | Ordered

_question: Final = msgspec.json.Decoder(Question).decode
_done: Final = msgspec.json.Decoder(Done).decode
_encode: Final = msgspec.json.Encoder().encode


def node_of(client_id: str) -> str | None:
    """The Triode that a client is at, by its id."""
    found = _ID.match(client_id)
    return found[1] if found else None


class Peers:
    """The other Triodes. `asked`, `unanswered` and `answered` count questions."""

    def __init__(self, triode: Applier, shared: SharedLog) -> None:
        self._triode = triode
        self._shared = shared
        self.asked = 0
        self.unanswered = 0
        self.answered = 0

    async def run(self) -> None:
        """Answer the others, until cancelled."""
        await self._shared.post.run(self._answer)

    def is_elsewhere(self, client_id: str) -> bool:
        """Whether this client would be at another Triode."""
        return node_of(client_id) not in (None, self._shared.node)

    # ── asking ──────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, node: str, question: Question) -> dict[str, Any]:
        self.asked += 1
        try:
            done = _done(await self._shared.post.ask(node, _encode(question), WITHIN_S))
        except (LogError, msgspec.DecodeError):
            self.unanswered += 1
            raise
        if done.status:
            raise Refusal(done.status, done.why)
        answer = decode(done.answer)
        assert isinstance(answer, dict)
        return answer

    async def direct(self, question: Direct) -> dict[str, int]:
        """Send it to a client elsewhere. Raises `Refusal`: 403, and 503 where it is not known
        whether it arrived.
        """
        node = node_of(question.to)
        assert node is not None
        try:
            return await self._ask(node, question)
        except NodeGone:
            return {"reached": 0}
        except LogAway as error:
            raise refuse_for_now(
                503,
                "Log unavailable",
                f"the Triode of that client cannot be asked ({error}); nothing was sent",
                RETRY_S,
            ) from error
        except (LogError, msgspec.DecodeError) as error:
            raise refuse_for_now(
                503,
                "Outcome unknown",
                f"the Triode of that client ({node}) did not answer within {WITHIN_S:g} s: the "
                "message may have been sent or not",
                RETRY_S,
            ) from error

    async def order(self, order: Order) -> dict[str, Any]:
        """Do it here and elsewhere. The answer is that of one Triode, with the numbers of all added
        up; and `nodes` if others were asked: how many have `answered`, and which are `missing`.
        Raises `Refusal` of here or elsewhere; then some may have done it.
        """
        limit = order.limit
        found = await control.carry_out(self._triode, order)
        nodes = self._others() if order.tags or order.what == "list" else []
        if order.ids:
            named = dict.fromkeys(filter(None, map(node_of, order.ids)))
            nodes = [node for node in named if node != self._shared.node]
        if order.what == "list":
            order = msgspec.structs.replace(order, limit=limit - len(found["connections"]))
        await self._ask_all(nodes, Ordered(order), found)
        if order.what == "list":
            del found["connections"][limit:]
        return found

    async def to_tags(
        self, tags: dict[str, str], body: dict[str, Any], found: dict[str, Any]
    ) -> None:
        """Send a message to all elsewhere who carry these. `found`, the answer, is added to."""
        await self._ask_all(self._others(), ToTags(tags, encode(body)), found)

    def _others(self) -> list[str]:
        return [node for node in self._shared.standing.nodes if node != self._shared.node]

    async def _ask_all(self, nodes: list[str], question: Question, found: dict[str, Any]) -> None:
        if not nodes:
            return
        answers: dict[str, dict[str, Any]] = {}
        refusals: list[Refusal] = []
        missing: list[str] = []

        async def ask(node: str) -> None:
            try:
                answers[node] = await self._ask(node, question)
            except Refusal as refusal:
                refusals.append(refusal)
            except NodeGone:
                answers[node] = {}
            except (LogError, msgspec.DecodeError):
                missing.append(node)

        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(ask, node)
        if refusals:
            raise refusals[0]
        for _, answer in sorted(answers.items()):
            for name, value in answer.items():
                found[name] += value
        found["nodes"] = {"answered": len(answers), "missing": sorted(missing)}

    # ── answering ───────────────────────────────────────────────────────────────────────────────

    async def _answer(self, text: bytes) -> bytes:
        self.answered += 1
        try:
            question = _question(text)
        except msgspec.DecodeError as error:
            return _encode(Done(status=501, why=f"another version was asked: {error}"))
        try:
            match question:
                case Direct():
                    answer = self._direct(question)
                case ToTags():
                    answer = self._to_tags(question)
                case Ordered():
                    answer = await control.carry_out(self._triode, question.order)
        except Refusal as refusal:
            return _encode(Done(status=refusal.status, why=refusal.detail))
        return _encode(Done(encode(answer)))

    def _direct(self, message: Direct) -> dict[str, Any]:
        hub = self._triode.hub
        client = hub.clients.get(message.to)
        if client is None:
            return {"reached": 0}
        if message.rooms is not None and client.rooms.keys().isdisjoint(message.rooms):
            raise forbidden(NO_COMPANY)
        told = hub.direct(client, event_frame(client.kind, "message", _body(message)), message.key)
        return {"reached": int(told)} | ({} if told else {"dropped": 1})

    def _to_tags(self, message: ToTags) -> dict[str, Any]:
        hub, body = self._triode.hub, _body(message)
        who = hub.tags.select(message.tags)
        return {"reached": hub.send(who, lambda kind: Frame(event_frame(kind, "message", body)))}


def _body(message: Direct | ToTags) -> dict[str, Any]:
    body = decode(message.body, max_depth=DOCUMENT_DEPTH)
    assert isinstance(body, dict)
    return body
