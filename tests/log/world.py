"""A cluster in a model: nodes, servers, the ways between them, and everything that can go wrong.

Each step is one small thing: a command reaches its server, a reply its node, a connection breaks, a
server fails over and forgets, a node freezes. What must never happen is checked at once, what must
have happened when all is well again (`settle`).
"""

from __future__ import annotations

import string
from collections import deque
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from tests.log.model_valkey import Data, Refused, Server
from tests.log.node import Link, Node
from triode.app.log.shared.calls import Call, Reload, read_attached
from triode.app.log.shared.patience import WINDOW_S
from triode.app.log.shared.terms import common, parse_terms

if TYPE_CHECKING:
    from tests.log.model_valkey import Begun

NODES: Final = 3


class Violation(AssertionError):
    """What must never happen did."""


class World:
    """One cluster. Everything that is drawn comes from `random`."""

    server_type = Server

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 1000.0
        # The clock of the servers, of which nothing but windows and leases may depend.
        self.clock_ms = 5_000_000
        self._names = 0
        self.primary = self._new_server(None)
        # An old primary that some still take for the one.
        self.stale: Server | None = None
        self.nodes = [Node(self, self.name()) for _ in range(NODES)]
        # Commands that are still on their way when their connection has broken.
        self.delayed: deque[tuple[Server, Call]] = deque(maxlen=8)
        # What a position means: the epoch under which an entry was written, or was shown, and its
        # number.
        self.content: dict[tuple[str, int], int] = {}
        self.acknowledged: dict[str, int] = {}
        self.announced: set[str] = set()
        self.refused: set[str] = set()
        # Who has ever applied a batch.
        self.holders: dict[str, set[str]] = {}
        self.counts: dict[str, int] = {}

    def name(self) -> str:
        """A name that nobody has."""
        self._names += 1
        number, text = self._names, ""
        while number:
            number, letter = divmod(number, 26)
            text = string.ascii_lowercase[letter] + text
        return text

    def _new_server(self, data: Data | None) -> Server:
        return self.server_type(f"r{self.name()}", data)

    def count(self, what: str) -> None:
        """It came about."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def require(self, is_so: object, what: str) -> None:
        """Raises `Violation` unless it is so."""
        if not is_so:
            raise Violation(what)

    # ── positions ───────────────────────────────────────────────────────────────────────────────

    def show(self, epoch: str, seq: int, content: int) -> None:
        """Somebody shows a position: it means the same for ever."""
        known = self.content.setdefault((epoch, seq), content)
        self.require(known == content, f"{epoch}:{seq} is two states")

    def check_rewound(self, node: Node, reload: Reload, data: Data) -> None:
        """A node says that it has something which the log has not: it had better be so."""
        seq = reload.common + reload.lost_count
        assert node.link is not None
        now = node.link.server.data
        if now.meta.get("lineage") == data.meta.get("lineage"):
            # What was written since is there as well.
            data = now
        if data.meta.get("lineage", "").count(";") < 63:
            for entry in data.log:
                if (entry.epoch, entry.seq) == (node.epoch, seq) and self.content.get(
                    (entry.epoch, seq)
                ) == node.content:
                    self.require(False, "rewound, and it was all there")

    # ── the servers at work ─────────────────────────────────────────────────────────────────────

    def execute(self, server: Server, call: Call) -> object:
        """Run a script; an error reply is an exception, returned."""
        try:
            pieces = (call.snapshot.id,) if call.snapshot else ()
            reply = server.run(call.script, call.args, self.clock_ms, pieces)
        except Refused as refused:
            return refused
        if call.script == "salvage" and reply[0] == "ok":
            self.count("whole logs given" if call.snapshot else "entries given back")
        for begun in server.begun:
            self._check_begun(server, begun)
        server.begun.clear()
        last = server.data.log[-2:]
        self.require(
            [entry.time_ms for entry in last] == sorted(entry.time_ms for entry in last),
            "the time of the log goes back",
        )
        if call.script == "attach":
            return read_attached(reply)
        return reply

    def _check_begun(self, server: Server, begun: Begun) -> None:
        """A term was begun. Nobody that lives may lose by it what it had a chance to give back."""
        self.count("terms")
        terms = parse_terms(begun.lineage)
        self.require(len(terms) <= 64, "more than 64 terms are kept")
        self.require(
            [term.since for term in terms] == sorted(term.since for term in terms), "not in order"
        )
        rosters = {name for bid in begun.bids.values() for name in bid.split(" ")[2].split(",")}
        is_over = begun.now_ms - begun.opened_ms >= WINDOW_S * 1000
        best = (0, 0)
        for node in self.nodes:
            member = node.member
            at = node.bid_at()
            bid = begun.bids.get(node.name)
            if bid is None:
                self.require(
                    is_over or node.name not in rosters, "begun without waiting for a node"
                )
            elif bid.split(" ")[:2] == [str(at[0]), str(at[1])]:
                best = max(best, at)
                kept = common(member.terms, member.seq, terms, begun.seq)
                had = (terms[-2].number if len(terms) > 1 else 0, begun.seq)
                self.require(
                    not member.is_based or kept == member.seq or at <= had,
                    "begun without what a node had bid",
                )
        self.require((terms[-1].number, begun.seq) > best, "a term that is not the highest")
        self._check_can_boot(server.data)

    def _check_can_boot(self, data: Data) -> None:
        seq = int(data.meta["seq"])
        snap = data.meta.get("snap", "")
        if not snap:
            self.require(seq == 0, "the log has no beginning")
        at = int(snap.split(";")[0].split(" ")[1]) if snap else 0
        for entry in data.log:
            if entry.seq > at:
                self.require(entry.since <= at, "a hole in the log")
                at = entry.seq
        self.require(at >= seq, "the log has no beginning")

    # ── steps: what goes on ─────────────────────────────────────────────────────────────────────

    def advance(self, seconds: float) -> None:
        """Time passes, for all the same."""
        self.now += seconds
        self.clock_ms += round(seconds * 1000)

    def any_node(self) -> Node:
        """One of them."""
        return self.random.choice(self.nodes)

    def connect(self, node: Node) -> None:
        """Discovery finds the primary; or the stale one, if the node is on its side."""
        if node.link is None and not node.is_frozen:
            server = self.stale if node.is_aside and self.stale else self.primary
            node.connect(Link(server))

    def cut(self, node: Node, late: float = 0.4) -> None:
        """The connection breaks. What was sent may arrive or not, or only much later."""
        link = node.link
        if link is None:
            return
        self.count("cuts")
        for call in link.up:
            fate = self.random.random()
            if fate < late:
                self.delayed.append((link.server, call))
            elif fate < 0.8:
                self.execute(link.server, call)
        node.cut()

    def arrive(self) -> None:
        """A command arrives whose connection is long gone."""
        if self.delayed:
            server, call = self.delayed.popleft()
            self.count("delayed")
            self.execute(server, call)

    # ── steps: what goes wrong ──────────────────────────────────────────────────────────────────

    def _take_over(self, server: Server) -> None:
        self.primary = server

    def fail_over(self, states: int, *, is_dead: bool = True) -> None:
        """A replica that lacks so many writes becomes the primary. The old one is dead, or goes on
        for those who are on its side.
        """
        self.count("failovers" if is_dead else "splits")
        old = self.primary
        self._take_over(self._new_server(old.earlier(states)))
        if is_dead:
            old.is_primary = False
            self._drop_links(old)
        else:
            self.heal()
            self.stale = old

    def heal(self) -> None:
        """The stale primary is a replica now, of the one that is."""
        if self.stale is not None:
            self.stale.is_primary = False
            self.stale.put(self.primary.data)
            self.stale.replication_id = self.primary.replication_id
            self.stale = None
        for node in self.nodes:
            node.is_aside = False

    def promote_stale(self) -> None:
        """Discovery takes the stale one for the primary again, and the other is gone."""
        if self.stale is not None:
            self.count("switched back")
            gone, self.primary, self.stale = self.primary, self.stale, None
            gone.is_primary = False
            self.primary.replication_id = f"r{self.name()}"
            self._drop_links(gone)

    def restart(self, states: int) -> None:
        """The primary comes back from its file, which lacks so many writes."""
        self.count("restarts")
        old = self.primary
        old.is_primary = False
        self._drop_links(old)
        self._take_over(self._new_server(old.earlier(states)))

    def bounce(self, states: int) -> None:
        """The primary was a replica for a moment, of one that lacks so many writes, and is the
        primary again. Connections stay.
        """
        self.count("bounces")
        server = self.primary
        server.put(server.earlier(states))
        server.replication_id = f"r{self.name()}"

    def restart_empty(self) -> None:
        """It had no file."""
        self.count("restarts, empty")
        old = self.primary
        old.is_primary = False
        self._drop_links(old)
        self._take_over(self._new_server(None))

    def flush(self) -> None:
        """FLUSHALL."""
        self.count("flushes")
        self.primary.put(Data())

    def trim(self) -> None:
        """Somebody takes away the oldest entries that are in the snapshot anyway, or pieces."""
        data = self.primary.data
        snap = data.meta.get("snap", "")
        if snap:
            self.count("trims")
            newest = int(snap.split(";")[0].split(" ")[1])
            kept = tuple(entry for entry in data.log if entry.seq > newest)
            self.primary.put(replace(data, log=kept))

    def turn_clock(self, seconds: float) -> None:
        """The servers' clock is set."""
        self.count("clocks set")
        self.clock_ms = max(1, self.clock_ms + round(seconds * 1000))

    def kill(self, node: Node) -> None:
        """Another process in its place, which knows nothing."""
        self.count("kills")
        self.nodes[self.nodes.index(node)] = Node(self, self.name())

    def _drop_links(self, server: Server) -> None:
        for node in self.nodes:
            if node.link is not None and node.link.server is server and not node.is_frozen:
                self.cut(node)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """All is well again: then all nodes come to one state, and what was promised is so."""
        self.heal()
        self.delayed.clear()
        self.primary.is_full = False
        for node in self.nodes:
            node.thaw()
        for _round in range(400):
            for node in self.nodes:
                self.connect(node)
                node.exhaust()
            self.advance(0.05)
            if all(node.is_settled() for node in self.nodes):
                break
        self.require(all(node.is_settled() for node in self.nodes), "somebody waits for ever")
        self._check_end()

    def _check_end(self) -> None:
        contents = {node.content for node in self.nodes}
        self.require(len(contents) == 1, "nodes have different documents")
        final = self.nodes[0]
        self.require(final.member.seq == int(self.primary.data.meta["seq"]), "not at the end")
        alive = {node.name for node in self.nodes}
        for nonce in self.acknowledged:
            if nonce not in final.applied and nonce not in self.announced:
                self.count("lost with all who had it")
                self.require(not alive & self.holders[nonce], "acknowledged, and lost unannounced")
        for nonce in self.refused:
            self.require(nonce not in final.applied, "refused, and there")
