"""How commits went of late."""

from __future__ import annotations

from triode.app.log.commits import RECENT, Commits


def test_of_late_is_of_late() -> None:
    commits = Commits()
    assert (commits.group, commits.took(0.5), commits.last_at) == (0, 0, None)
    commits.note(1000, 0, 50)
    for number in range(RECENT):
        commits.note(2, 100 + number, 100 + number + (number + 1) / RECENT)
    assert (commits.total, commits.entries) == (RECENT + 1, 1000 + 2 * RECENT)
    assert commits.group == 2
    assert abs(commits.took(0.5) - 0.5) < 0.01
    assert abs(commits.took(0.99) - 0.99) < 0.01
    assert commits.took(1) == 1
    assert commits.last_at == 100 + RECENT - 1 + 1
    assert abs(commits.seconds - (50 + (RECENT + 1) / 2)) < 1e-6
