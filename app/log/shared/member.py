"""A node as a member of a cluster: what it asks of the shared log, and when, and what it believes.

It does no I/O and reads no clock. Whoever owns the connections hands in what happened, with the
time, and does what comes back, in that order:

    connected lost                        the two connections, to one server
    attached appended salvaged refused    replies on the one for commands, in order
    tailed                                entries that came on the one for reading
    reloaded reload_failed seeded seed_failed
    append                                the next batch, when `can_append`
    tick                                  when it is `next_at`

What a node has applied is a prefix of the log. It says so whenever it attaches, and the server's
lineage tells whether that is still so. States, and what leads from each:

    away        connected → asking
    asking      attached → open, recovering, or asking again a little later
    recovering  bids, and if elected gives back what the server lost; attached → open, recovering
    open        reads and appends; a reply or an entry that does not fit → asking
    (reloading  beside each: the document is being made anew; nothing is applied or appended)

Each but `away` goes to `asking` after a freeze, and to `away` when nothing is answered for long.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from triode.app.log.shared import patience
from triode.app.log.shared.calls import (
    Action,
    Apply,
    Attached,
    Call,
    Full,
    Live,
    Read,
    Reconnect,
    Reload,
    Unknown,
    attach_call,
)
from triode.app.log.shared.giving_back import GivingBack
from triode.app.log.shared.outgoing import Outbound
from triode.app.log.shared.owed import Owed
from triode.app.log.shared.recent import LogEntry, Recent
from triode.app.log.shared.state import State
from triode.app.log.shared.terms import Terms, common, holds, last_term, stream_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from triode.app.log.shared.calls import Kept


class Member:
    """One node. `node` names this run of it, and nobody else ever; `new_epoch` makes a name of
    letters that nobody else makes. Times are seconds of a clock that goes on in a sleep of the
    machine.
    """

    def __init__(
        self,
        node: str,
        new_epoch: Callable[[], str],
        now: float,
        *,
        window_s: float = patience.WINDOW_S,
    ) -> None:
        self.node = node
        self.state = State.AWAY
        # What is applied: the terms as the server last told them, and the last entry.
        self.terms: Terms = ()
        self.seq = 0
        self.recent = Recent()
        self.server: Attached | None = None  # its last word
        self.is_live = False
        self.is_reloading = False
        self._new_epoch = new_epoch
        self._window_s = window_s
        self._actions: list[Action] = []
        self._now = now
        self._contact = now
        self._ask_at = inf
        # Who had a lease when this node was last a part of the log: a new server does not know.
        self._roster = ""
        self._owed = Owed()
        self.out = Outbound(node)
        self._goal = 0  # Where the log was when it attached: a batch in doubt may be there.
        # The document is that of a snapshot, and what came behind. Until there is one nothing is
        # applied: what a new log begins with is its first.
        self.is_based = False
        self._reload_terms: Terms = ()
        self._common: list[LogEntry] = []  # what it had that is in the log, while it begins anew
        # Questions where the log stands; the last that an open log answered, which ends at `end`.
        self.asked = self.heard = 0
        self.end = ("", 0)
        self.giving_back = GivingBack(node)

    def __repr__(self) -> str:
        return f"<Member {self.node} {self.state.value} at {self.position}>"

    @property
    def position(self) -> str:
        """Where it stands, as text."""
        return f"{self.terms[-1].epoch if self.terms else '-'}:{self.seq}"

    @property
    def can_append(self) -> bool:
        """Whether a batch may be handed in."""
        return self.state is State.OPEN and self.is_based and self.out.batch is None

    @property
    def next_at(self) -> float:
        """When `tick` is due."""
        not_live = self._contact + patience.NOT_LIVE_S if self.is_live else inf
        return min(self._ask_at, self._owed.since + patience.REPLY_S, not_live)

    # ── connections and time ────────────────────────────────────────────────────────────────────

    def connected(self, now: float) -> list[Action]:
        """Both connections are there, to one server."""
        self._see(now)
        self._disconnect()
        self._ask(State.ASKING)
        return self._take()

    def lost(self, now: float) -> list[Action]:
        """A connection ended. No reply of it may be handed in any more."""
        self._see(now)
        self._disconnect()
        return self._take()

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        self._see(now)
        if self.is_live and now >= self._contact + patience.NOT_LIVE_S:
            self._say_live(False)
        if now >= self._owed.since + patience.REPLY_S:
            self._disconnect()
            self._actions.append(Reconnect())
        elif now >= self._ask_at:
            self._ask(self.state)
        return self._take()

    def _see(self, now: float) -> None:
        """A node that did not run for as long as its lease asks first, whatever it was told."""
        slept = now - self._now
        self._now = now
        if slept >= patience.LEASE_S and self.state is not State.AWAY:
            self._ask(State.ASKING)

    def _disconnect(self) -> None:
        self.state = State.AWAY
        self._owed = Owed()
        self.out.cut()
        self.giving_back.end()
        self._ask_at = inf

    def _take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def _say_live(self, is_live: bool) -> None:
        if is_live != self.is_live:
            self.is_live = is_live
            self._actions.append(Live(is_live, self._contact))

    # ── attaching ───────────────────────────────────────────────────────────────────────────────

    def _ask(self, state: State) -> None:
        self.state = state
        self._ask_at = inf
        self.asked += 1
        bids = self.is_based and not self.giving_back.declines
        at = last_term(self.terms, self.seq)
        epoch = self._new_epoch()
        self._call(
            attach_call(
                self.node, at, self.seq, bids, self._roster, epoch, self._window_s, patience.LEASE_S
            )
        )

    def probe(self) -> list[Action]:
        """Ask where the log stands, unless that is being asked, or cannot be now."""
        if self.state is State.OPEN and not self._owed.asks:
            self._ask(State.OPEN)
        return self._take()

    def _call(self, call: Call) -> None:
        self._owed.call(call, self._now)
        self._actions.append(call)

    def attached(self, reply: Attached, now: float) -> list[Action]:
        """The reply of `attach`."""
        self._see(now)
        self._owed.answer(now)
        self._owed.asks -= 1
        # An older one than the newest says nothing: it was asked before a freeze.
        if not self._owed.asks:
            self.server = reply
            if reply.state == "recovering":
                self._recover(reply)
            else:
                self.giving_back.end()
                self._judge(reply)
        return self._take()

    def _judge(self, server: Attached) -> None:
        """Is what this node has applied a part of the log as it is?"""
        if self.is_reloading:
            self._ask_again(State.ASKING, patience.PROBE_S)
            return
        # What came by the stream meanwhile may be newer than the answer. Had this node been ahead
        # in the open term when it asked, the server would be recovering.
        shared = common(self.terms, self.seq, server.terms, max(server.seq, self.seq))
        if self.is_based and shared < self.seq:
            self._reload("rewound", shared)
        elif not self.is_based and server.snapshots:
            self._reload("boot", 0)
        elif server.follows:
            self._go_on(server)
        elif server.snapshots and server.snapshots[0].seq > self.seq:
            self._reload("behind", self.seq)
        else:
            # Another node's next snapshot will do.
            self._ask_again(State.ASKING, patience.WAIT_S)

    def _go_on(self, server: Attached) -> None:
        if self.state is not State.OPEN or self.terms != server.terms:
            self._goal = server.seq
            self.out.doubt()
            self._actions.append(Read(stream_id(server.terms, self.seq)))
        self.terms = server.terms
        self._roster = ",".join(server.nodes)
        self._contact = self._now
        self.heard, self.end = self.asked, (server.terms[-1].epoch, server.seq)
        self._ask_again(State.OPEN, patience.PROBE_S)
        self._say_live(True)
        self._send()

    def _ask_again(self, state: State, seconds: float) -> None:
        self.state = state
        self._ask_at = self._now + seconds

    # ── recovering ──────────────────────────────────────────────────────────────────────────────

    def _recover(self, server: Attached) -> None:
        wait_s = server.left_ms / 1000 if server.left_ms else patience.POLL_S
        self._ask_again(State.RECOVERING, min(max(wait_s, 0.001), patience.POLL_S))
        if server.elected != self.node or not self.is_based:
            return
        given = self.giving_back.next(server, self.terms, self.seq, self.recent)
        if isinstance(given, Call):
            self._ask_at = inf
            self._call(given)
        elif given is not None:
            self._actions.append(given)

    def salvaged(self, status: str, now: float) -> list[Action]:
        """The reply of `salvage`. Whatever it says, the log says more."""
        self._see(now)
        self._owed.answer(now)
        self.giving_back.answered(status)
        if not self._owed.asks and self.state is State.RECOVERING:
            self._ask(State.RECOVERING)
        return self._take()

    def seeded(self, snapshot: Kept, now: float) -> list[Action]:
        """The pieces of the snapshot that was asked for are at the server."""
        self._see(now)
        wanted = self.giving_back.seeded(snapshot)
        if wanted and self.state is State.RECOVERING and not self._owed.asks:
            self._ask(State.RECOVERING)
        return self._take()

    def seed_failed(self, now: float) -> list[Action]:
        """There will be no such snapshot: another node may try."""
        self._see(now)
        self.giving_back.seed_failed()
        return self._take()

    # ── beginning anew ──────────────────────────────────────────────────────────────────────────

    def _reload(self, reason: str, shared: int) -> None:
        assert self.server is not None
        self._drop_batch()
        lost = self.recent.behind(shared) if reason == "rewound" else []
        snapshots = self.server.snapshots
        self._actions.append(Reload(reason, snapshots, shared, lost, self.seq - max(shared, 0)))
        self._reload_terms = self.server.terms
        self._common = self.recent.until(shared) or self._common
        self.terms, self.seq = (), 0
        self.recent = Recent()
        self.is_based, self.is_reloading = False, True
        self._ask_again(State.ASKING, patience.PROBE_S)

    def reloaded(self, snapshot: Kept, now: float) -> list[Action]:
        """The document is what this one of the snapshots has."""
        self._see(now)
        self.is_reloading = False
        self.is_based = True
        self.terms, self.seq = self._reload_terms, snapshot.seq
        self.recent = Recent(snapshot.seq)
        # Not read anew: the server may lose it before that, and nobody else may have it.
        for entry in self._common:
            if entry.since == self.seq and holds(self.terms, entry.epoch, entry.seq):
                self._apply(entry, False)
        self._common = []
        if self.state is not State.AWAY:
            self._ask(State.ASKING)
        return self._take()

    def reload_failed(self, now: float) -> list[Action]:
        """The pieces were not there. It is tried again."""
        self._see(now)
        self.is_reloading = False
        if self.state is not State.AWAY:
            self._ask_again(State.ASKING, patience.WAIT_S)
        return self._take()

    # ── reading and appending ───────────────────────────────────────────────────────────────────

    def tailed(self, entries: Iterable[LogEntry], now: float) -> list[Action]:
        """Entries came, in the order of the stream."""
        self._see(now)
        if self.state is not State.OPEN or not self.is_based:
            return self._take()
        for entry in entries:
            if entry.seq <= self.seq:
                continue
            if entry.since != self.seq or not holds(self.terms, entry.epoch, entry.seq):
                self._ask(State.ASKING)
                break
            self._contact = now
            self._apply(entry, self.out.is_in(entry))
        self._send()
        return self._take()

    def append(self, body: bytes, ops: int, now: float) -> list[Action]:
        """The next batch, of so many operations. It is sent until its fate is known."""
        self._see(now)
        self.out.put(body, ops)
        self._send()
        return self._take()

    def _send(self) -> None:
        """Send the batch, if it is not under way. Only where all is applied that the log had when
        this node attached: what was sent before may be among that.
        """
        if self.state is State.OPEN and self.is_based and self.seq >= self._goal:
            call = self.out.call(self.terms[-1].epoch)
            if call is not None:
                self._call(call)

    def appended(self, status: str, seq: int, time_ms: int, now: float) -> list[Action]:
        """The reply of `append`."""
        self._see(now)
        self._owed.answer(now)
        batch = self.out.landed()
        if self.state is not State.OPEN:
            return self._take()
        if status == "attach":
            self._ask(State.ASKING)
        elif batch is not None and (status == "old" or seq <= self.seq):
            self._drop_batch()
        elif batch is not None and seq - batch.ops == self.seq:
            self._contact = now
            term, nonce = self.terms[-1], self.out.nonce()
            entry = LogEntry(term.number, seq, nonce, batch.ops, time_ms, term.epoch, batch.body)
            self._apply(entry, True)
        elif batch is not None:
            self.out.place()
        else:
            self._send()
        return self._take()

    def refused(self, now: float) -> list[Action]:
        """The server has no memory for `append`, and did not run it."""
        self._see(now)
        self._owed.answer(now)
        if self.out.landed() is not None:
            self.out.done()  # what was sent on a connection that broke may still arrive
            self._actions.append(Full() if self.out.sends == 1 else Unknown())
        return self._take()

    def _apply(self, entry: LogEntry, is_own: bool) -> None:
        if is_own:
            self.out.done()
        self.seq = entry.seq
        self.recent.add(entry, self._now)
        self._actions.append(Apply(entry, is_own))

    def _drop_batch(self) -> None:
        # What was never sent is in no log, and has time.
        if self.out.batch is not None and self.out.sends:
            self.out.done()
            self._actions.append(Unknown())
