"""A few of `python -m tests.crash.power`, and what it finds on a disk that lies."""

from __future__ import annotations

import random

import pytest

from tests.crash.disk import Image
from tests.crash.ledger import Violation
from tests.crash.power import cut_power

# SQLite goes on where some of its calls fail, which apsw has nobody to tell.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_what_was_answered_outlives_thirty_cuts() -> None:
    seen = cut_power(30, seed=8)
    assert seen.batches > 500
    assert seen.found  # nor is it only what was answered that comes back


def test_relaxed_it_is_a_whole_prefix() -> None:
    assert cut_power(20, seed=4, is_synced=False).batches > 200


@pytest.mark.parametrize("seed", range(3))
def test_a_disk_that_lies_is_found_out(seed: int) -> None:
    with pytest.raises(Violation):
        cut_power(25, seed, lies=True)


def test_what_was_synced_stays_and_of_the_rest_a_part() -> None:
    parts = set()
    for seed in range(50):
        image = Image()
        image.write(0, b"a" * 1024)
        image.sync()
        image.write(1024, b"b" * 1024)
        left = bytes(image.after_cut(random.Random(seed)).seen)
        assert left[:1024] == b"a" * 1024
        parts.add(left[1024:])
    assert {b"", b"b" * 512, b"b" * 1024, bytes(512) + b"b" * 512} <= parts
