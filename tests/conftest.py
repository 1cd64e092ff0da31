"""What all tests share: where the public suites and the acceptance cases lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from triode.app.service import filter_parsing

TESTS = Path(__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    # A server loads JSONPath in a thread, by its first use. Virtual time does not wait for threads.
    filter_parsing._jsonpath._is_loaded = True
    config.addinivalue_line(
        "markers", "native(reason): a behaviour that only the native lane can have, and why"
    )
    config.addinivalue_line(
        "markers", "not_sync(reason): a behaviour that a client without async has not, and why"
    )


def cases_folder() -> Path:
    """The folder of the acceptance cases, `AREA.jsonl` each. `TRIODE_CASES` names another one."""
    return Path(os.environ.get("TRIODE_CASES") or TESTS / "cases" / "data")


@pytest.fixture(scope="session")
def suites() -> Path:
    """The folder of the public test suites, each with its licence."""
    return TESTS / "suites"


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of the acceptance cases; skips plainly when `TRIODE_CASES` names none."""
    if not (folder := cases_folder()).is_dir():
        pytest.skip(f"{folder} is not there (TRIODE_CASES names the folder of the cases)")
    return folder
