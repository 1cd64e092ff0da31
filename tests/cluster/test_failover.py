"""A primary dies whose replica lacks what was acknowledged last: the nodes give it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.conftest import FOUND, NONE
from tests.cluster.failover import one_round, split


@pytest.mark.parametrize("name", sorted(FOUND) or [""])
async def test_nothing_acknowledged_is_lost(name: str, tmp_path: Path) -> None:
    if not FOUND:
        pytest.skip(NONE)
    found = await one_round(FOUND[name], tmp_path)
    assert found.lacked, "the replica had everything"
    assert not found.missing
    assert not found.began_anew


@pytest.mark.parametrize("name", sorted(FOUND) or [""])
async def test_who_stayed_with_the_old_primary_begins_anew(name: str, tmp_path: Path) -> None:
    if not FOUND:
        pytest.skip(NONE)
    here, aside, kept, lost = await split(FOUND[name], tmp_path)
    # The first try to read the snapshot may find its connection cut.
    assert aside.reasons[0] == "rewound"
    assert here.reasons == []
    assert here.applied == aside.applied
    assert kept <= set(here.applied)
    assert not lost & set(here.applied)
