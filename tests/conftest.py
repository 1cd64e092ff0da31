"""What all tests share: where suites and cases lie that are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "native(reason): a behaviour that only the native lane can have, and why"
    )


def cases_folder() -> Path:
    """The folder of the acceptance cases, `AREA.jsonl` each; it may be absent."""
    return Path(os.environ.get("TRIODE_CASES", ROOT.parent / "shared" / "cases"))


@pytest.fixture(scope="session")
def suites() -> Path:
    """The folder of the public test suites, beside the cases; skips plainly when it is absent."""
    folder = cases_folder().parent / "suites"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there (set TRIODE_CASES to the folder beside it)")
    return folder


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of the acceptance cases; skips plainly when it is absent."""
    if not (folder := cases_folder()).is_dir():
        pytest.skip(f"{folder} is not there (set TRIODE_CASES to the folder of the cases)")
    return folder
