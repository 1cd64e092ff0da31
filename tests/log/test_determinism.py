"""The short form of `python -m tests.log.determinism`."""

from __future__ import annotations

import pytest

from tests.log.determinism import compare, small_bounds


def test_processes_agree(capsys: pytest.CaptureFixture[str]) -> None:
    with small_bounds():
        compare(0, 3, 500)
    assert "all agree" in capsys.readouterr().out
