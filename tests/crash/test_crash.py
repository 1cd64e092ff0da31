"""A few loops of `python -m tests.crash`, and that its checker finds what it is for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.server import OPEN
from tests.crash.checker import Checker, changes_differ
from tests.crash.crash import WIDE, CrashServer, crash
from tests.crash.followers import Follower
from tests.crash.ledger import Ledger, Violation
from tests.crash.operations import START, Write


# A body whose connection dies while it is sent is left to the garbage collector by httpx.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
async def test_nothing_is_lost_in_five_kills(tmp_path: Path) -> None:
    result = await crash(tmp_path, 5, seed=11)
    assert result.loops == 5
    assert result.answered > 100
    assert result.refused > 10
    assert result.resumed >= 5 * 8


class World:
    """A document that one client of all of it has seen from the start."""

    def __init__(self, tmp_path: Path) -> None:
        self._server = CrashServer("native", {**OPEN, **WIDE}, tmp_path)
        self.ledger = Ledger()
        self.checker = Checker(self.ledger, copy.deepcopy(START), 0)
        self.client = self.follower("sse")

    def follower(self, transport: str) -> Follower:
        follower = Follower(self._server, self.ledger, transport, ".")
        follower._assembler.assume(".", {(): START})
        return follower

    def sent(self, label: int, value: Any = None, **more: Any) -> Write:
        value = label if value is None else value
        command = {"type": "set", "path": ".s.a", "value": value, **more}
        write = Write(label, command, ("s", "a"), value)
        self.ledger.send(write)
        return write

    def saw(self, seq: int, value: Any, follower: Follower | None = None) -> None:
        frame = {"type": "update", "filter": ".", "path": ".s.a", "value": value, "id": f"e:{seq}"}
        (follower or self.client).changes.append((seq, [frame]))

    def check(self) -> None:
        self.checker.advance(self.client)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestChecker:
    def test_all_is_well(self, world: World) -> None:
        world.ledger.answer(world.sent(7), "e:1")
        world.ledger.refuse(world.sent(8), 404)
        world.sent(9)
        world.sent(10)
        world.saw(1, 7)
        world.saw(3, 9)  # never answered, and there
        world.check()
        assert world.checker.root["s"] == {"a": 9}
        assert (world.checker.found, world.checker.forget_unanswered()) == (1, 1)

    def test_an_answered_write_is_missing(self, world: World) -> None:
        world.ledger.answer(world.sent(7), "e:1")
        world.ledger.answer(world.sent(8), "e:2")
        world.saw(2, 8)
        with pytest.raises(Violation, match="1 was answered and is not there"):
            world.check()

    def test_the_last_answered_write_is_missing(self, world: World) -> None:
        world.ledger.answer(world.sent(7), "e:1")
        with pytest.raises(Violation, match="1 was answered and is not there"):
            world.check()

    def test_a_refused_write_is_there(self, world: World) -> None:
        world.ledger.refuse(world.sent(7), 404)
        world.saw(1, 7)
        with pytest.raises(Violation, match="was refused, and is there as 1"):
            world.check()

    def test_what_had_to_be_refused_was_answered(self, world: World) -> None:
        write = Write(7, {"type": "set", "path": ".no.way", "value": 7}, ("no", "way"), 7)
        world.ledger.send(write)
        world.ledger.answer(write, "e:1")
        world.saw(1, 7)
        with pytest.raises(Violation, match="which has to be refused"):
            world.check()

    def test_half_a_write(self, world: World) -> None:
        parts = [
            {"type": "set", "path": ".s.a", "value": 7},
            {"type": "set", "path": ".s.b", "value": 7},
        ]
        write = Write(7, {"type": "batch", "atomic": True, "ops": parts}, ("s", "a"), 7)
        world.ledger.send(write)
        world.saw(1, 7)
        with pytest.raises(Violation, match="it should be"):
            world.check()

    def test_a_change_that_nobody_asked_for(self, world: World) -> None:
        world.sent(7)
        world.saw(1, 8)
        with pytest.raises(Violation, match="1 is nobody's"):
            world.check()

    def test_what_was_lost_comes_later(self, world: World) -> None:
        world.sent(7)
        world.check()
        world.checker.forget_unanswered()
        world.saw(1, 7)
        with pytest.raises(Violation, match="was refused, and is there"):
            world.check()

    def test_a_condition_that_did_not_hold(self, world: World) -> None:
        world.ledger.answer(world.sent(7), "e:1")
        world.ledger.answer(world.sent(8, **{"if": "e:1"}), "e:2")
        world.ledger.answer(world.sent(9, **{"if": "e:1"}), "e:3")
        for seq in (1, 2, 3):
            world.saw(seq, seq + 6)
        with pytest.raises(Violation, match="though its place had changed"):
            world.check()
        assert world.checker.seq == 2

    def test_a_number_twice(self, world: World) -> None:
        world.sent(7)
        world.ledger.answer(world.sent(8), "e:1")
        with pytest.raises(Violation, match="both got 1"):
            world.ledger.answer(world.ledger.unanswered[7], "e:1")

    def test_order(self, world: World) -> None:
        world.ledger.answer(world.sent(7), "e:5")
        with pytest.raises(Violation, match="5 was answered before it was sent"):
            world.ledger.answer(world.sent(8), "e:4")

    def test_another_epoch(self, world: World) -> None:
        world.ledger.answer(world.sent(7), "e:1")
        with pytest.raises(Violation, match="the epoch was e"):
            world.ledger.answer(world.sent(8), "f:2")

    def test_one_position_with_two_contents(self, world: World) -> None:
        other = world.follower("ws")
        for follower in (world.client, other):
            world.saw(1, 7, follower)
        assert changes_differ(world.client, other) == ""
        world.saw(2, 8)
        assert changes_differ(world.client, other).startswith("2: ")
        world.saw(2, 9, other)
        assert changes_differ(world.client, other).startswith("2: ")

    def test_a_client_that_could_not_resume(self, world: World) -> None:
        with pytest.raises(Violation, match="could not resume"):
            world.client._check_resumed({"type": "connected", "resumed": False})
        with pytest.raises(Violation, match="got"):
            world.client._check_other({"type": "snapshot"})
