"""The history's bounds, and what it knows of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.store.change import MAX_SEQ, Change, Edit, Position, parse_position
from triode.store.history import History
from triode.store.path import Path
from triode.store.value import MISSING


def change(seq: int, *edits: Edit) -> Change:
    return Change(Position("e", seq), 1000 + seq, edits or (Edit(("n",), seq - 1, seq),))


def filled(count: int, *, max_items: int = 100, max_bytes: int = 10**6) -> History:
    history = History(max_items, max_bytes)
    for seq in range(1, count + 1):
        history.append(change(seq))
    return history


def seqs(changes: list[Change]) -> list[int]:
    return [change.position.seq for change in changes]


class TestBounds:
    def test_empty(self) -> None:
        history = History(10, 1000)
        assert (history.items, history.bytes, history.oldest_seq) == (0, 0, 1)
        assert history.covers(0)
        assert history.since(0) == []
        assert not history.covers(1)

    def test_starts_behind_a_snapshot(self) -> None:
        history = History(10, 10_000, start_seq=41)
        assert not history.covers(40)
        assert history.append(change(42)) == []
        assert seqs(history.since(41)) == [42]

    def test_items(self) -> None:
        history = filled(25, max_items=10)
        assert history.items == 10
        assert history.oldest_seq == 16
        assert [history.covers(seq) for seq in (14, 15, 25, 26)] == [False, True, True, False]
        assert seqs(history.since(15)) == list(range(16, 26))
        assert seqs(history.since(23)) == [24, 25]

    def test_bytes(self) -> None:
        history = History(1000, 20_000)
        for seq in range(1, 100):
            history.append(change(seq, Edit(("a",), "x" * 1000, None)))
            assert history.bytes <= 20_000
        assert 5 < history.items < 20

    def test_bytes_are_given_back(self) -> None:
        history = filled(3, max_items=1)
        assert history.bytes == filled(1).bytes

    def test_what_goes_is_returned(self) -> None:
        history = filled(2, max_items=2)
        assert seqs(history.append(change(3))) == [1]

    def test_a_huge_before_is_a_barrier(self) -> None:
        history = filled(5, max_bytes=10_000)
        gone = history.append(change(6, Edit(("a",), ["x" * 100] * 1000, MISSING)))
        assert seqs(gone) == [1, 2, 3, 4, 5, 6]
        assert (history.items, history.bytes, history.oldest_seq) == (0, 0, 7)
        assert [history.covers(seq) for seq in (5, 6, 7)] == [False, True, False]
        history.append(change(7))
        assert seqs(history.since(6)) == [7]
        assert not history.covers(5)

    def test_many_edits_are_a_barrier_too(self) -> None:
        history = filled(1, max_bytes=10_000)
        history.append(change(2, *[Edit(("a",), 1, 2)] * 100))
        assert history.oldest_seq == 3

    def test_a_gap_is_a_barrier(self) -> None:
        history = filled(5)
        assert seqs(history.append(change(9))) == [1, 2, 3, 4, 5]
        assert [history.covers(seq) for seq in (5, 7, 8, 9)] == [False, False, True, True]

    def test_nothing_kept(self) -> None:
        history = filled(5, max_items=0)
        assert history.items == 0
        assert history.covers(5)
        assert not history.covers(4)

    def test_since_what_is_gone(self) -> None:
        with pytest.raises(ValueError, match="after 2"):
            filled(25, max_items=10).since(2)


class TestTouched:
    @pytest.mark.parametrize(
        ("path", "touched"),
        [
            ((), True),
            (("a",), True),
            (("a", 0), True),
            (("a", 0, "b"), True),
            (("a", 0, "b", "c"), True),
            (("a", 1), False),
            (("a", 0, "c"), False),
            (("b",), False),
        ],
    )
    def test_at_above_or_below(self, path: Path, touched: bool) -> None:
        history = History(10, 10_000)
        history.append(change(1, Edit(("x",), 1, 2), Edit(("a", 0, "b"), 1, 2)))
        assert history.touched_since(path, 0) is touched
        assert history.touched_since(path, 1) is False

    def test_unknown(self) -> None:
        history = filled(20, max_items=10)
        assert history.touched_since(("other",), 5) is None
        assert history.touched_since(("other",), 21) is None
        assert history.touched_since(("other",), 10) is False

    @given(
        st.lists(st.lists(st.sampled_from("ab"), max_size=3).map(tuple), max_size=8),
        st.lists(st.sampled_from("ab"), max_size=3).map(tuple),
        st.integers(0, 8),
    )
    def test_against_a_scan(self, paths: list[Any], path: Any, seq: int) -> None:
        history = History(100, 10**6)
        for number, edited in enumerate(paths, 1):
            history.append(change(number, Edit(edited, 1, 2)))
        if seq > len(paths):
            assert history.touched_since(path, seq) is None
        else:
            expected = any(
                edited[: len(path)] == path or path[: len(edited)] == edited
                for edited in paths[seq:]
            )
            assert history.touched_since(path, seq) is expected


class TestPosition:
    @pytest.mark.parametrize("text", ["k3f9q2:1842", "e:0", f"a_-Z:{MAX_SEQ}"])
    def test_round_trip(self, text: str) -> None:
        position = parse_position(text)
        assert str(position) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ":",
            "e:",
            ":1",
            "e:01",
            "e:-1",
            "e:+1",
            "e:1 ",
            " e:1",
            "e:1\n",
            "e:1:1",
            "e:٣",
            "é:1",
        ],
    )
    def test_malformed(self, text: str) -> None:
        assert parse_position(text) is None

    def test_bounds(self) -> None:
        for text in (f"e:{MAX_SEQ + 1}", "e:" + "9" * 40, "x" * 65 + ":1", "e:1.0", "e\0:1"):
            assert parse_position(text) is None
