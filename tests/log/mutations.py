"""Faults that are put in, one at a time, to see that the model's checks notice each.

A check that cannot fail is none. Each fault is a line of `Member`, or of a script (in the model,
which the scripts are held to), as somebody could have written it.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Final, NamedTuple

from tests.log.chaos import run
from tests.log.model_valkey import Server
from tests.log.world import World
from triode.app.log.shared.giving_back import GivingBack
from triode.app.log.shared.member import Member

# Worlds in which a fault has to show.
WORLDS: Final = 300


class Mutation(NamedTuple):
    """In the method `of`, `line` is `wrong`. It may take hundreds of worlds to notice a rare one:
    the tests leave those out.
    """

    name: str
    of: Callable[..., object]
    line: str
    wrong: str
    is_rare: bool = False


MUTATIONS: Final = (
    # ── scripts ─────────────────────────────────────────────────────────────────────────────────
    Mutation(
        "append: whose term it is does not matter",
        Server._append,
        'not self._is_ours() or meta.get("state")',
        'meta.get("state")',
    ),
    Mutation(
        "append: in any term",
        Server._append,
        ' or meta.get("epoch") != epoch',
        "",
        is_rare=True,
    ),
    Mutation(
        "append: while recovering",
        Server._append,
        ' or meta.get("state") != "open"',
        "",
    ),
    Mutation(
        "append: the same number twice",
        Server._append,
        "if known is not None:",
        "if False:",
    ),
    Mutation(
        "append: time may go back",
        Server._append,
        'max(now_ms, int(meta.get("time", "0")))',
        "now_ms",
        is_rare=True,
    ),
    Mutation(
        "attach: a server that has started anew goes on",
        Server._attach,
        "not self._is_ours() or ahead",
        'not meta.get("srv") or ahead',
    ),
    Mutation(
        "attach: the longest log wins, whatever its term",
        Server._recover,
        "if (term, seq) > best_at:",
        "if seq > best_at[1]:",
    ),
    Mutation(
        "attach: nobody is waited for",
        Server._recover,
        'int(meta["opened"]) + window * windows - now_ms',
        "0",
    ),
    Mutation(
        "attach: the window is over when one has bid",
        Server._recover,
        "not seen or not seen <= set(self.bids)",
        "not self.bids",
    ),
    Mutation(
        "attach: nobody gives anything back",
        Server._recover,
        "if best:",
        "if False:",
    ),
    Mutation(
        "attach: an elected node is waited for without end",
        Server._still_elected,
        "elif now_ms - progress > STALLED_MS:",
        "elif False:",
        is_rare=True,
    ),
    Mutation(
        "attach: the log goes on wherever it goes on",
        Server._follows,
        "return entry.since == seq",
        "return True",
    ),
    Mutation(
        "salvage: the snapshot is not named",
        Server._salvage,
        'meta["snap"] = snap',
        "pass",
        is_rare=True,
    ),
    Mutation(
        "snapshot: of any term",
        Server._snapshot,
        ' or meta.get("epoch") != epoch',
        "",
        is_rare=True,
    ),
    Mutation(
        "snapshot: the log goes up to the newer one and beyond",
        Server._snapshot,
        "floor = (kept_term, kept_seq + 1)",
        'floor = (int(named.split(" ")[2]), seq + 2)',
    ),
    # ── nodes ───────────────────────────────────────────────────────────────────────────────────
    Mutation(
        "what this node has is always in the log",
        Member._judge,
        "if self.is_based and shared < self.seq:",
        "if False:",
    ),
    Mutation(
        "judged by an answer that is older than what it has",
        Member._judge,
        "max(server.seq, self.seq)",
        "server.seq",
        is_rare=True,
    ),
    Mutation(
        "the log goes on behind it, whatever it says",
        Member._judge,
        "elif server.follows:",
        "elif True:",
    ),
    Mutation(
        "after a freeze it goes on as before",
        Member._see,
        "if slept >= patience.LEASE_S",
        "if False",
    ),
    Mutation(
        "after a freeze the reply of an old call will do",
        Member.attached,
        "if not self._owed.asks:",
        "if True:",
        is_rare=True,
    ),
    Mutation(
        "entries of any epoch",
        Member.tailed,
        " or not holds(self.terms, entry.epoch, entry.seq)",
        "",
    ),
    Mutation(
        "entries with a hole before them",
        Member.tailed,
        "entry.since != self.seq or ",
        "",
        is_rare=True,
    ),
    Mutation(
        "sent again before it has seen what came of it",
        Member._send,
        " and self.seq >= self._goal",
        "",
    ),
    Mutation(
        "sent again after it began anew",
        Member._reload,
        "self._drop_batch()",
        "pass",
        is_rare=True,
    ),
    Mutation(
        "a lost batch is not sent again",
        Member._disconnect,
        "self.out.cut()",
        "pass",
    ),
    Mutation(
        "its own batch before what came before it",
        Member.appended,
        "batch is not None and seq - batch.ops == self.seq",
        "batch is not None",
    ),
    Mutation(
        "it gives back what it has not",
        GivingBack.next,
        "shared == server.seq and server.snapshots and recent.floor <= shared",
        "True",
    ),
    Mutation(
        "it gives back behind another log's end",
        GivingBack.next,
        "shared == server.seq and server.snapshots",
        "server.snapshots",
        is_rare=True,
    ),
    Mutation(
        "pieces that another server has",
        Member._disconnect,
        "self.giving_back.end()",
        "pass",
        is_rare=True,
    ),
    Mutation(
        "what was lost is not said",
        Member._reload,
        'self.recent.behind(shared) if reason == "rewound" else []',
        "self.recent.behind(-1)",
    ),
    Mutation(
        "no reply is waited for, for ever",
        Member.tick,
        "if now >= self._owed.since + patience.REPLY_S:",
        "if False:",
    ),
    Mutation(
        "it does not look whether the server is still the same",
        Member._go_on,
        "self._ask_again(State.OPEN, patience.PROBE_S)",
        "self.state = State.OPEN",
    ),
)


def mutated(mutation: Mutation) -> FunctionType:
    """The method with the fault in it."""
    of = mutation.of
    assert isinstance(of, FunctionType)
    source = textwrap.dedent(inspect.getsource(of))
    changed = source.replace(mutation.line, mutation.wrong)
    assert changed != source, f"{mutation.name}: the line is no longer there"
    names = dict(vars(sys.modules[of.__module__]))
    exec(f"from __future__ import annotations\n{changed}", names)
    made = names[of.__name__]
    assert isinstance(made, FunctionType)
    return made


def notices(mutation: Mutation, seed: int = 0, worlds: int = WORLDS) -> str:
    """What the checks say with the fault in it; empty if nothing."""
    owner = {kind.__name__: kind for kind in (Server, Member, GivingBack)}[
        mutation.of.__qualname__.partition(".")[0]
    ]
    name = mutation.of.__name__
    right = getattr(owner, name)
    setattr(owner, name, mutated(mutation))
    try:
        for number in range(worlds):
            try:
                run(World(seed + number))
            except AssertionError as violation:
                return f"{violation} (world {number})"
    finally:
        setattr(owner, name, right)
    return ""
