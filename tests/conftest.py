"""What all tests share: where the suites and acceptance cases lie that are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(name: str) -> Path:
    """A folder beside that of the cases; skips the test plainly when it is absent."""
    cases = Path(os.environ.get("TRIODE_CASES", ROOT.parent / "shared" / "cases"))
    folder = cases.parent / name if name != "cases" else cases
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there (set TRIODE_CASES to the folder of the cases)")
    return folder


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of the acceptance cases, `AREA.jsonl` each."""
    return _folder("cases")


@pytest.fixture(scope="session")
def suites() -> Path:
    """The folder of the public test suites, beside the cases."""
    return _folder("suites")
