"""What the Triodes that share a log know of each other, for people: each tells the others once a
second how it stands, and reads what they tell. Nothing is decided by it.

They also compare what they hold: each notes the checksum of its document at the same entries of the
log, so two that differ are found out, however it came about.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from triode.app.log.log import LogError
from triode.app.service.cluster_words import advice

if TYPE_CHECKING:
    from triode.app.log.log import SharedLog
    from triode.app.service.applier import Applier
    from triode.app.service.journal import Journal

log = logging.getLogger("triode")

BEAT_S: Final = 1.0
# Checksums are compared each time that so many entries more are carried out, and where it is quiet.
MARK_EVERY: Final = 1000
MARKS: Final = 8


class Report(msgspec.Struct, forbid_unknown_fields=False):
    """What a Triode tells of itself. `beat` is another number each time; `marks` are positions, the
    oldest first, each with the checksum there.
    """

    beat: int = 0
    where: str = ""
    version: str = ""
    position: str = ""
    term: int = 0
    seq: int = 0
    lag_ops: int = 0
    lag_s: float = 0.0
    clients: int = 0
    draining: bool = False
    rtt_s: float = 0.0
    waiting: int = 0
    rewinds: int = 0
    reloads: int = 0
    lost: int = 0
    answered_lost: int = 0
    given_back: int = 0
    marks: list[tuple[str, str]] = []


_decode: Final = msgspec.json.Decoder(Report).decode
_encode: Final = msgspec.json.Encoder().encode


class Lag:
    """How far behind the log. Fed with how far that is known to go."""

    def __init__(self) -> None:
        self._known: deque[tuple[float, int]] = deque(maxlen=10_000)
        self.heard_at = trio.current_time()

    def saw(self, seq: int, *, is_live: bool) -> None:
        """The log goes up to `seq`, by now."""
        now = trio.current_time()
        if is_live:
            self.heard_at = now
        if not self._known or self._known[-1][1] != seq:
            self._known.append((now, seq))

    def seconds(self, seq: int) -> float:
        """For so long there has been something that who stands at `seq` has not; and what is there
        is not known while nothing is heard.
        """
        while self._known and self._known[0][1] <= seq:
            self._known.popleft()
        behind_since = self._known[0][0] if self._known else trio.current_time()
        return max(0.0, trio.current_time() - min(behind_since, self.heard_at))


class Cluster:
    """One Triode's view of all. `mismatches` were found in all; `differ` are those whose document
    is another one than ours, each with where that was seen.
    """

    def __init__(self, triode: Applier, journal: Journal, shared: SharedLog) -> None:
        self._triode = triode
        self._journal = journal
        self._shared = shared
        self._beat = 0
        self._marks: deque[tuple[str, str]] = deque(maxlen=MARKS)
        self._marked = 0
        self._lag: Lag | None = None
        self.reports: dict[str, Report] = {}
        # Node → its newest number, and when that came.
        self._beats: dict[str, tuple[int, float]] = {}
        self.differ: dict[str, str] = {}
        self.mismatches = 0
        assert journal.end is not None
        journal.end.carried_out = self._carried_out

    def _carried_out(self) -> None:
        """A batch of the log was: all see the same ones, so all note the same places."""
        store = self._triode.store
        if store.seq // MARK_EVERY != self._marked:
            self._marked = store.seq // MARK_EVERY
            self._marks.append(self._here)

    async def run(self) -> None:
        """Tell, and read, once a second until cancelled."""
        while True:
            self._look()
            self._beat += 1
            try:
                told = await self._shared.tell(_encode(self.own()))
            except LogError:
                pass  # said elsewhere; what was told last stands, and looks its age
            else:
                self._heard(told)
            await trio.sleep(BEAT_S)

    def _look(self) -> Lag:
        if self._lag is None:
            self._lag = Lag()
        self._lag.saw(self._shared.standing.seq, is_live=self._shared.is_live)
        return self._lag

    def own(self) -> Report:
        """What is told of us."""
        triode, journal, store = self._triode, self._journal, self._triode.store
        standing = self._shared.standing
        here = self._here
        return Report(
            beat=self._beat,
            where=triode.listens or socket.gethostname(),
            version=triode.version,
            position=here[0],
            term=standing.term,
            seq=store.seq,
            lag_ops=max(0, standing.seq - store.seq),
            lag_s=round(self._look().seconds(store.seq), 3),
            clients=len(triode.hub.clients),
            draining=triode.draining,
            rtt_s=round(standing.rtt_s, 6),
            waiting=journal.under_way,
            rewinds=journal.anew["rewound"],
            reloads=journal.anew["behind"],
            lost=journal.lost,
            answered_lost=standing.lost,
            given_back=standing.given_back,
            marks=[*self._marks, here],
        )

    def _heard(self, told: dict[str, bytes]) -> None:
        now = trio.current_time()
        self.reports = {}
        for node, text in told.items():
            try:
                report = _decode(text)
            except msgspec.DecodeError:
                continue  # of another version, or of nobody's
            self.reports[node] = report
            if self._beats.get(node, (-1, 0.0))[0] != report.beat:
                self._beats[node] = (report.beat, now)
        self._beats = {node: self._beats[node] for node in self.reports}
        self._compare()

    def _compare(self) -> None:
        own = dict([*self._marks, self._here])
        differ: dict[str, str] = {}
        for node, report in self.reports.items():
            for position, checksum in reversed(report.marks):
                if position in own:
                    # Once they differ they go on differing: the newest says it.
                    if checksum != own[position]:
                        differ[node] = position
                    break
            else:
                if node in self.differ:
                    differ[node] = self.differ[node]  # nothing new to be seen
        for node in differ.keys() - self.differ.keys():
            self.mismatches += 1
            log.critical(
                "the document of node %s (%s) is another one than ours, at %s: report this, and "
                "see `triode cluster`",
                node,
                self.reports[node].where,
                differ[node],
            )
        self.differ = differ

    @property
    def _here(self) -> tuple[str, str]:
        """Where we stand, and the checksum there."""
        store = self._triode.store
        return str(store.position), str(store.checksum)

    # ── for people ──────────────────────────────────────────────────────────────────────────────

    def facts(self) -> dict[str, Any]:
        """The member `cluster` of `/stats`."""
        shared = self._shared
        standing = shared.standing
        nodes = [self._node(node, report) for node, report in self._all().items()]
        nodes.sort(key=lambda node: (node["where"], node["node"]))
        facts: dict[str, Any] = {
            "node": shared.node,
            "server": standing.address,
            "live": shared.is_live,
            "state": standing.state,
            "why": "" if shared.is_live else standing.why,
            "term": standing.term,
            "seq": standing.seq,
            "saver": standing.saver,
            "nodes": nodes,
            "differ": self.differ,
        }
        return facts | {"advice": advice(facts)}

    def _all(self) -> dict[str, Report]:
        """Of ourselves what is so now."""
        return self.reports | {self._shared.node: self.own()}

    def _node(self, node: str, report: Report) -> dict[str, Any]:
        told = msgspec.to_builtins(report)
        for name in ("beat", "marks"):
            del told[name]
        is_own = node == self._shared.node
        _, at = self._beats.get(node, (0, trio.current_time()))
        silent_s = 0.0 if is_own else max(0.0, trio.current_time() - at)
        return {"node": node, "own": is_own, "silent_s": round(silent_s, 1), **told}
