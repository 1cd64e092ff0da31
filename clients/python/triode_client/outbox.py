"""What is to be sent, in order, and what was sent and has no answer yet.

Two queues. `control` is what makes a connection ours (subscriptions, rooms, tokens): it goes
first, and is made anew for each connection. `calls` are the program's commands, each with a task
that waits for its answer. While there is no connection at most `limit` of them wait; of more, the
oldest is dropped, and its task is told so.

Commands that have waited for a connection are sent one at a time, each after the answer to the one
before: the server may refuse one because there were too many at once, and then it is sent again
before the others, so that the order holds. All else is sent without waiting for answers; what is
patient of it joins those that wait when it is refused for the rate.

A write has a key of its own, by which the server knows it again: one that was cut off before its
answer is sent again and not done twice. So that the server still remembers it, this is given up
after some minutes; and the key is its token's, so it is not sent again with another token.
"""

from __future__ import annotations

import itertools
import json
import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import anyio.lowlevel

from .bell import Bell
from .errors import Lost, Refused, TriodeError, Unsent, refused
from .typed import jsonable

# The server remembers keys for ten minutes, by its own clock.
_SEND_AGAIN_S = 300.0
# A server that refuses for the rate and does not say how long: its default rate is 100 a second.
_RATE_PAUSE_S = 0.1


class Call:
    """A command and what becomes of it, `answer` or `error`; `then` is called with it."""

    def __init__(
        self,
        members: Mapping[str, Any],
        *,
        is_read: bool = False,
        is_write: bool = False,
        is_patient: bool = False,
        is_renewal: bool = False,
        then: Callable[[Call], None] | None = None,
    ) -> None:
        self.ref = 0
        self.is_read = is_read
        self.is_write = is_write
        # From here on the server takes us for the holder of another token.
        self.is_renewal = is_renewal
        # A write's, once it has a place in a queue.
        self.key = ""
        # When it was sent, and as the holder of which token: first, if it is in doubt what became
        # of that.
        self.sent_at = -math.inf
        self.sent_unix_s = -math.inf
        self.holder = 0
        self.is_in_doubt = False
        # Refused for the rate, it is sent again: who waits for it can do nothing better.
        self.is_patient = is_patient
        # One that the connection cannot do without; nobody waits for it.
        self.is_control = then is not None
        # It waits for a connection, or has: it is sent alone, and again if there were too many.
        self.has_waited = False
        # Somebody still wants the answer.
        self.is_wanted = True
        self.answer: Mapping[str, Any] = {}
        self.error: TriodeError | None = None
        self.settled = anyio.Event()
        self._then = then
        # Now, so that a value that is no JSON fails in the task that gave it, and what the program
        # changes later is not sent.
        text = json.dumps(
            members, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=jsonable
        )
        text.encode()  # raises for half a surrogate pair, which UTF-8 cannot have
        self._text = text

    @property
    def text(self) -> str:
        """The frame to send."""
        key = f'"key":"{self.key}",' if self.key else ""
        return f'{{"ref":{self.ref},{key}{self._text[1:]}'

    def settle(
        self, *, answer: Mapping[str, Any] | None = None, error: TriodeError | None = None
    ) -> None:
        """This is what became of it."""
        self.answer, self.error = answer or {}, error
        self.settled.set()
        if self._then is not None:
            self._then(self)


class Outbox:
    """The queues of one client. Synchronous but for `next`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._refs = itertools.count(1)
        # What the keys of this client begin with.
        self._name = secrets.token_urlsafe(12)
        self._holder = 0
        self._control: deque[Call] = deque()
        self._calls: deque[Call] = deque()
        self._sent: dict[int, Call] = {}
        # The one that has been sent alone and has no answer yet.
        self._alone: Call | None = None
        self._paused_until = -math.inf
        self._is_open = False
        self._bell = Bell()

    def __len__(self) -> int:
        return len(self._calls)

    def put(self, call: Call) -> None:
        """A command of the program. May drop the oldest."""
        call.ref = next(self._refs)
        if call.is_write:
            call.key = f"{self._name}-{call.ref}"
        last = self._calls[-1] if self._calls else self._alone
        # Behind one that waits it waits too.
        call.has_waited = not self._is_open or (last is not None and last.has_waited)
        self._calls.append(call)
        self._trim()
        self._bell.ring()

    def put_control(self, call: Call) -> None:
        """A command of the connection."""
        call.ref = next(self._refs)
        self._control.append(call)
        self._bell.ring()

    def forget(self, call: Call) -> None:
        """Nobody waits for it any more: what was not sent is not going to be."""
        call.is_wanted = False
        if call.ref not in self._sent and call in self._calls:
            self._calls.remove(call)

    async def next(self) -> Call:
        """The next to send, counted as sent. Waits until there is one that may go.

        Cancelled, nothing is taken.
        """
        await anyio.lowlevel.checkpoint()
        while True:
            if anyio.current_time() < self._paused_until:
                await anyio.sleep_until(self._paused_until)
            elif (call := self._take()) is not None:
                self._sent[call.ref] = call
                self._holder += call.is_renewal
                if not call.is_in_doubt:
                    call.sent_at, call.holder = anyio.current_time(), self._holder
                    call.sent_unix_s = time.time()
                return call
            else:
                await self._bell.wait()

    def _take(self) -> Call | None:
        if self._control:
            return self._control.popleft()
        if not self._calls or self._alone is not None:
            return None
        call = self._calls.popleft()
        if call.is_in_doubt and not self._is_known(call):
            call.settle(error=in_doubt("it is too long ago to send it again"))
            return self._take()
        if call.has_waited:
            self._alone = call
        return call

    def _is_known(self, call: Call) -> bool:
        """Whether the server knows a write again that it was sent before."""
        since_s = anyio.current_time() - call.sent_at
        # The first clock stands still while the machine sleeps; the second one may be set back.
        since_unix_s = time.time() - call.sent_unix_s
        is_recent = since_s < _SEND_AGAIN_S and 0 <= since_unix_s < _SEND_AGAIN_S
        return call.holder == self._holder and is_recent

    def open(self) -> None:
        """There is a connection."""
        self._is_open = True

    def cut(self, reason: str, *, same_token: bool = True) -> None:
        """The connection is gone. Commands without an answer may have been carried out or not:
        reads and writes are sent again, the rest is lost. So are writes when the next connection
        will not have the `same_token`.
        """
        self._is_open = False
        self._alone = None
        self._paused_until = -math.inf
        self._control.clear()
        self._holder += not same_token
        sent, self._sent = list(self._sent.values()), {}
        again = [call for call in sent if self._may_go_again(call)]
        self._calls.extendleft(reversed(again))
        for call in again:
            call.is_in_doubt = call.is_write
        for call in sent:
            if not call.is_control and not self._may_go_again(call):
                call.settle(error=in_doubt(reason))
        for call in self._calls:
            call.has_waited = True
        self._trim()

    def _may_go_again(self, call: Call) -> bool:
        return call.is_wanted and (call.is_read or (call.is_write and self._is_known(call)))

    def settle(self, frame: Mapping[str, Any]) -> None:
        """An answer, `ok` or `error`. One with a `ref` that is not ours is nobody's."""
        # A server that could not read a command cannot give back its `ref`. Answers come in order,
        # so this one is the oldest's.
        ref = frame["ref"] if "ref" in frame else next(iter(self._sent), 0)
        call = self._sent.pop(ref, None)
        if call is None:
            return
        is_alone = call is self._alone
        if is_alone:
            self._alone = None
            self._bell.ring()
        if frame["type"] != "error":
            call.settle(answer=frame)
            return
        error = refused({name: frame[name] for name in frame if name not in ("type", "ref")})
        if call.is_write and call.is_wanted and error.title == "Outcome unknown":
            # It is asked again, on this connection or the next one.
            call.is_in_doubt = call.has_waited = True
            self._calls.appendleft(call)
            self._pause(error)
            return
        if error.status != 429 or not call.is_wanted:
            call.settle(error=error)
        elif is_alone or call.is_patient:
            call.has_waited = True
            self._calls.appendleft(call)
            self._pause(error)
        elif call.is_control:
            self._control.append(call)
            self._pause(error)
        else:
            call.settle(error=error)

    def end(self, error: TriodeError) -> None:
        """There will be no connection."""
        calls = [*self._sent.values(), *self._calls]
        self._sent.clear()
        self._calls.clear()
        self._control.clear()
        for call in calls:
            if call.is_in_doubt:
                call.settle(error=in_doubt(str(error)))
            elif not call.is_control:
                call.settle(error=error)

    def _pause(self, error: Refused) -> None:
        wait_s = _RATE_PAUSE_S if error.retry_after_s is None else error.retry_after_s
        self._paused_until = anyio.current_time() + wait_s
        self._bell.ring()  # there is something to send again

    def _trim(self) -> None:
        # With a connection what waits is soon sent, and there is a task for each: no more than the
        # program made.
        while not self._is_open and len(self._calls) > self._limit:
            call = self._calls.popleft()
            why = f"dropped: more than {self._limit} commands waited for a connection"
            call.settle(error=in_doubt(why) if call.is_in_doubt else Unsent(why))


def in_doubt(reason: str) -> Lost:
    """What becomes of a command that was sent, and whose answer will not come."""
    return Lost(f"{reason}; the command may have been applied, or not")
