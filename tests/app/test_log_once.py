"""What strangers make up does not fill the log."""

from __future__ import annotations

import logging

import pytest

from triode.app.runtime.log_once import MOST_CHARS, MOST_SUBJECTS, LogOnce


def test_lines_are_few_and_short(caplog: pytest.LogCaptureFixture) -> None:
    line = LogOnce(logging.getLogger("triode"), "refused %s")
    for number in range(MOST_SUBJECTS + 5):
        line.warn(f"{number} " + "x" * 16_000)
    assert len(caplog.messages) == MOST_SUBJECTS
    assert max(map(len, caplog.messages)) <= len("refused ") + MOST_CHARS
