"""A node of a cluster: by itself, step by step, and among others in a model in which everything
goes wrong (`tests.log.terms` is the long form).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.log import chaos
from tests.log.mutations import MUTATIONS, Mutation, notices
from tests.log.terms import soak
from tests.log.world import World
from triode.app.log.shared.calls import (
    Action,
    Apply,
    Attached,
    Call,
    Kept,
    Live,
    Read,
    Reload,
    Seed,
    UnknownFormat,
    read_attached,
)
from triode.app.log.shared.member import Member
from triode.app.log.shared.patience import LEASE_S, NOT_LIVE_S, REPLY_S
from triode.app.log.shared.recent import LogEntry
from triode.app.log.shared.state import State
from triode.app.log.shared.terms import parse_terms

# Of the model, here: 2000 steps each.
STEPS = 60_000
# What the log begins with.
BASE = Kept("base", 0, 1, 1)
# In which a fault has to show.
WORLDS = 40


def open_at(lineage: str, seq: int, *snapshots: Kept, follows: bool = True) -> Attached:
    return Attached(
        "open", parse_terms(lineage), seq, 0, 0, "", 0, follows, snapshots, ("me", "other"), 0
    )


def recovering_at(lineage: str, seq: int, elected: str = "") -> Attached:
    return Attached(
        "recovering", parse_terms(lineage), seq, 0, 400, elected, 3, True, (BASE,), ("me",), 0
    )


def entry(seq: int, epoch: str = "aaaa", nonce: str = "", ops: int = 1, term: int = 1) -> LogEntry:
    return LogEntry(term, seq, nonce or f"other:{seq}", ops, 0, epoch, b"x")


def is_ready(one: Member) -> bool:
    return one.can_append


def kinds(actions: Sequence[Action]) -> list[str]:
    return [
        action.script if isinstance(action, Call) else type(action).__name__ for action in actions
    ]


def member(seq: int = 0) -> Member:
    """One that is open, and has applied so much."""
    made = Member("me", lambda: "eeee", 0.0)
    assert kinds(made.connected(0.0)) == ["attach"]
    assert kinds(made.attached(open_at("1 aaaa 0", seq, BASE), 0.0)) == ["Reload"]
    assert kinds(made.reloaded(BASE, 0.0)) == ["attach"]
    assert kinds(made.attached(open_at("1 aaaa 0", seq, BASE), 0.0)) == ["Read", "Live"]
    made.tailed([entry(number) for number in range(1, seq + 1)], 0.0)
    assert made.seq == seq
    return made


# ── attaching ───────────────────────────────────────────────────────────────────────────────────


def test_says_where_it_stands() -> None:
    one = member(3)
    (call,) = one.tick(1.0)
    assert isinstance(call, Call)
    assert call.args == ("me", "1", "aaaa", "3", "1", "me,other", "eeee", "500", "10000")


def test_asks_each_second_and_goes_on_reading() -> None:
    one = member(3)
    assert one.next_at == 1.0
    assert one.tick(0.9) == []
    assert kinds(one.tick(1.0)) == ["attach"]
    assert one.attached(open_at("1 aaaa 0", 3), 1.0) == []
    assert one.next_at == 2.0


def test_a_new_term_behind_what_it_has_costs_nothing() -> None:
    one = member(3)
    one.tick(1.0)
    assert one.attached(open_at("1 aaaa 0;2 bbbb 3", 5), 1.0) == [Read("2-3")]
    assert one.position == "bbbb:3"


def test_what_is_not_in_the_log_is_rewound_and_listed() -> None:
    one = member(3)
    one.tick(1.0)
    kept = Kept("snap", 1, 1, 1)
    (reload,) = one.attached(open_at("1 aaaa 0;2 bbbb 2", 5, kept), 1.0)
    assert reload == Reload("rewound", (kept,), 2, [entry(3)], 1)
    assert not one.can_append
    # What it had of the log is there again at once: while it was read anew, the server lost it too.
    applied, attach = one.reloaded(kept, 1.1)
    assert applied == Apply(entry(2), False)
    assert kinds([attach]) == ["attach"]
    assert one.attached(open_at("1 aaaa 0;2 bbbb 2", 5, kept), 1.2) == [Read("2-2")]
    assert one.seq == 2


def test_what_it_has_of_the_log_is_kept_until_it_has_begun_anew() -> None:
    """The first try may fail; and by the second one the log may have lost some of it."""
    one = member(4)
    one.tick(1.0)
    kept = Kept("snap", 1, 1, 1)
    assert kinds(one.attached(open_at("1 aaaa 0;2 bbbb 3", 5, kept), 1.0)) == ["Reload"]
    one.reload_failed(1.1)
    one.tick(2.0)
    assert kinds(one.attached(open_at("1 aaaa 0;3 cccc 2", 5, kept), 2.0)) == ["Reload"]
    applied, _attach = one.reloaded(kept, 2.1)
    assert applied == Apply(entry(2), False)
    assert one.seq == 2


def test_nothing_acknowledged_is_lost_while_a_node_begins_anew() -> None:
    """A second failover while a node reads what it had, and the only other one that has it dies."""
    soak(1, 1023)


def test_what_was_trimmed_away_is_reloaded() -> None:
    one = member(3)
    one.tick(1.0)
    kept = Kept("snap", 9, 1, 1)
    (reload,) = one.attached(open_at("1 aaaa 0", 12, kept, follows=False), 1.0)
    assert reload == Reload("behind", (kept,), 3, [], 0)


def test_where_nothing_can_be_begun_from_it_waits() -> None:
    one = member(3)
    one.tick(1.0)
    assert one.attached(open_at("1 aaaa 0", 12, follows=False), 1.0) == []
    assert one.state is State.ASKING
    assert one.next_at == 1.5


def test_a_new_node_begins_from_a_snapshot() -> None:
    one = Member("me", lambda: "eeee", 0.0)
    one.connected(0.0)
    kept = Kept("snap", 9, 1, 1)
    assert kinds(one.attached(open_at("1 aaaa 0", 12, kept, follows=False), 0.0)) == ["Reload"]
    # It is asked for again where its pieces were not there.
    assert one.reload_failed(0.1) == []
    assert kinds(one.tick(one.next_at)) == ["attach"]


def test_a_new_log_begins_with_its_first_snapshot() -> None:
    one = Member("me", lambda: "eeee", 0.0)
    one.connected(0.0)
    assert kinds(one.attached(open_at("1 aaaa 0", 0), 0.0)) == ["Read", "Live"]
    assert not is_ready(one)
    # Another node has begun it, and written.
    assert one.tailed([entry(1)], 0.5) == []
    (call,) = one.tick(1.0)
    assert isinstance(call, Call)
    assert call.args[4] == "0"
    assert kinds(one.attached(open_at("1 aaaa 0", 1, BASE), 1.0)) == ["Reload"]


# ── time and connections ────────────────────────────────────────────────────────────────────────


def test_without_a_reply_the_connection_is_dropped() -> None:
    one = member(3)
    one.tick(1.0)
    assert one.tick(1.0 + REPLY_S - 0.1) == []
    assert kinds(one.tick(1.0 + REPLY_S))[-1] == "Reconnect"
    assert one.state is State.AWAY


def test_without_contact_the_clients_are_told_once() -> None:
    one = member(3)
    one.lost(0.5)
    assert one.next_at == NOT_LIVE_S
    assert one.tick(NOT_LIVE_S) == [Live(False, 0.0)]
    assert one.tick(NOT_LIVE_S + 5) == []
    one.connected(9.0)
    assert one.attached(open_at("1 aaaa 0", 3), 9.0)[-1] == Live(True, 9.0)


def test_after_a_freeze_it_attaches_before_anything_else() -> None:
    one = member(3)
    one.append(b"x", 1, 0.5)
    one.tick(1.0)
    assert kinds(one.appended("ok", 4, 0, 1.0 + LEASE_S)) == ["attach"]
    assert one.tailed([entry(4)], 1.0 + LEASE_S) == []
    # The reply of the call that was made before it froze.
    assert one.attached(open_at("1 aaaa 0", 4), 1.0 + LEASE_S) == []
    assert one.state is State.ASKING
    assert kinds(one.attached(open_at("1 aaaa 0", 4), 1.0 + LEASE_S)) == ["Read"]


# ── appending ───────────────────────────────────────────────────────────────────────────────────


def test_a_batch_is_applied_when_the_server_has_it() -> None:
    one = member(3)
    assert one.append(b"two", 2, 1.0) == [Call("append", ("me", "1", "aaaa", "2", b"two"))]
    assert not is_ready(one)
    assert one.appended("ok", 5, 77, 1.0) == [
        Apply(LogEntry(1, 5, "me:1", 2, 77, "aaaa", b"two"), True)
    ]
    assert is_ready(one)
    # It comes by the stream as well.
    assert one.tailed([entry(5, ops=2, nonce="me:1")], 1.0) == []


def test_what_was_before_it_is_applied_first() -> None:
    one = member(3)
    one.append(b"mine", 1, 1.0)
    assert one.appended("ok", 5, 0, 1.0) == []
    first, second = entry(4), entry(5, nonce="me:1")
    assert one.tailed([first, second], 1.0) == [Apply(first, False), Apply(second, True)]


def test_a_reply_that_comes_after_the_entry_is_not_for_the_next_batch() -> None:
    one = member(3)
    one.append(b"a", 1, 1.0)
    one.tailed([entry(4, nonce="me:1")], 1.0)
    assert one.append(b"b", 1, 1.0) == []
    assert one.appended("ok", 4, 0, 1.0) == [Call("append", ("me", "2", "aaaa", "1", b"b"))]


def test_a_lost_reply_is_repeated_with_its_number_once_all_is_seen() -> None:
    one = member(3)
    one.append(b"a", 1, 1.0)
    one.lost(1.0)
    one.connected(1.1)
    assert kinds(one.attached(open_at("1 aaaa 0", 4), 1.1)) == ["Read"]
    assert one.tailed([entry(4)], 1.1) == [
        Apply(entry(4), False),
        Call("append", ("me", "1", "aaaa", "1", b"a")),
    ]


def test_who_has_to_begin_anew_does_not_know_what_became_of_it() -> None:
    one = member(3)
    one.append(b"a", 1, 1.0)
    one.lost(1.0)
    one.connected(1.1)
    kept = Kept("snap", 9, 1, 1)
    actions = one.attached(open_at("1 aaaa 0", 12, kept, follows=False), 1.1)
    assert kinds(actions) == ["Unknown", "Reload"]


def test_a_full_server_has_done_nothing_unless_it_was_sent_before() -> None:
    one = member(3)
    one.append(b"a", 1, 1.0)
    assert kinds(one.refused(1.0)) == ["Full"]
    one.append(b"b", 1, 1.0)
    one.lost(1.0)
    one.connected(1.0)
    one.attached(open_at("1 aaaa 0", 3), 1.0)
    assert kinds(one.refused(1.0)) == ["Unknown"]


@pytest.mark.parametrize(
    "strange", [entry(5), entry(4, epoch="bbbb"), entry(5, ops=1), entry(6, ops=2)]
)
def test_an_entry_that_does_not_fit_is_not_applied(strange: LogEntry) -> None:
    one = member(3)
    assert kinds(one.tailed([strange], 1.0)) == ["attach"]
    assert one.seq == 3
    assert one.tailed([entry(4)], 1.0) == []


# ── recovering ──────────────────────────────────────────────────────────────────────────────────


def test_the_elected_gives_back_what_the_server_lacks() -> None:
    one = member(3)
    one.tick(1.0)
    (call,) = one.attached(recovering_at("1 aaaa 0", 1, "me"), 1.0)
    assert isinstance(call, Call)
    assert call.args[:7] == ("me", "3", "0", "1", "1 aaaa 0", "3", "")
    assert call.args[7::6] == ("1-2", "1-3")
    assert kinds(one.salvaged("ok", 1.0)) == ["attach"]


def test_in_place_of_another_log_it_gives_the_whole_one() -> None:
    one = member(3)
    one.tick(1.0)
    assert one.attached(recovering_at("1 other 0", 2, "me"), 1.0) == [Seed(3)]
    kept = Kept("snap", 3, 1, 4)
    assert kinds(one.seeded(kept, 1.1)) == ["attach"]
    (call,) = one.attached(recovering_at("1 other 0", 2, "me"), 1.1)
    assert isinstance(call, Call)
    assert call.args[:7] == ("me", "3", "1", "0", "1 aaaa 0", "3", "snap 3 1 4")
    assert call.snapshot == kept
    # Its pieces were put into another server.
    assert kinds(one.salvaged("missing", 1.2)) == ["attach"]
    assert one.attached(recovering_at("1 other 0", 2, "me"), 1.2) == [Seed(3)]


def test_who_cannot_leaves_it_to_others() -> None:
    one = member(3)
    one.tick(1.0)
    one.attached(recovering_at("1 other 0", 2, "me"), 1.0)
    one.seed_failed(1.0)
    (call,) = one.tick(one.next_at)
    assert isinstance(call, Call)
    assert call.args[4] == "0"


def test_while_the_server_recovers_it_asks_often() -> None:
    one = member(3)
    one.tick(1.0)
    assert one.attached(recovering_at("1 aaaa 0", 3), 1.0) == []
    assert one.next_at == 1.05
    assert not one.can_append


def test_another_format_is_refused() -> None:
    with pytest.raises(UnknownFormat):
        read_attached([b"format", b"2"])


# ── among others ────────────────────────────────────────────────────────────────────────────────


def test_many_small_steps() -> None:
    counts = soak(STEPS, 7)
    common = (
        "acknowledged", "announced as lost", "cuts", "delayed", "entries given back",
        "long freezes", "reload: behind", "reload: boot", "reload: rewound", "unknown",
        "whole logs given",
    )  # fmt: skip
    assert not [what for what in common if not counts[what]]


@pytest.mark.parametrize(
    "mutation", [m for m in MUTATIONS if not m.is_rare], ids=lambda mutation: mutation.name
)
def test_each_fault_is_noticed(mutation: Mutation) -> None:
    assert notices(mutation, worlds=WORLDS)


class Cluster(RuleBasedStateMachine):
    """The same steps, drawn by hypothesis, which looks for the shortest that goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(0)
        # From here on each node can write.
        self.world.settle()

    @rule(number=st.integers(0, 2), step=st.sampled_from([step for step, _ in chaos.GOES_ON]))
    def go_on(self, number: int, step: chaos.Step) -> None:
        step(self.world, self.world.nodes[number])

    @rule(writers=st.lists(st.integers(0, 2), max_size=3))
    def flow(self, writers: list[int]) -> None:
        for node in self.world.nodes:
            self.world.connect(node)
            node.exhaust()
        for number in writers:
            self.world.nodes[number].write()
            self.world.nodes[number].exhaust()
        self.world.advance(0.3)

    @rule(number=st.integers(0, 2), step=st.sampled_from([step for step, _ in chaos.GOES_WRONG]))
    def go_wrong(self, number: int, step: chaos.Step) -> None:
        step(self.world, self.world.nodes[number])

    @invariant()
    def knows_itself(self) -> None:
        for node in self.world.nodes:
            assert node.member.seq == 0 or node.member.terms

    def teardown(self) -> None:
        self.world.settle()


Cluster.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestCluster = Cluster.TestCase
