"""Some of the bytes that `python -m tests.crash.damage` turns over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.damage import Damaged, damaged, in_use, try_all
from tests.crash.ledger import Violation
from triode.app.log import tables


@pytest.fixture
def it() -> Iterator[Damaged]:
    with damaged() as one:
        yield one


def test_as_it_was_left_it_is_whole(it: Damaged) -> None:
    assert it.look() == "whole"


def test_nothing_is_believed_that_was_not_written(it: Damaged) -> None:
    db, used = len(it.files["triode.db"]), in_use(it.files["triode.db-wal"])
    # The head of each of the last frames whole, of the rest a sample.
    tail = range(used - 24 - 4096, used - 4096)
    seen = try_all(it, range(3, db, 401), [*range(0, used, 401), *tail])
    assert seen["file"].keys() == {"refused", "whole"}
    assert seen["file"]["refused"] > 50
    for what in ("WAL", "WAL cut"):
        assert seen[what].keys() <= {"its beginning", "whole"}
        assert seen[what]["its beginning"] > 50


def test_without_checksums_it_would_be(it: Damaged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "checked", lambda row, _what: tuple(row[:-1]))
    with pytest.raises(Violation, match="is not what was written"):
        try_all(it, range(3, len(it.files["triode.db"]), 401), [])
