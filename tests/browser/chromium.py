"""The browser: the system's own Chromium, driven by Playwright. Import `expect` from here.

Where one of the two is missing, every module that imports this is skipped and says so.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Error, Page
    from playwright.sync_api import expect as expect

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
expect = sync_api.expect  # what type checkers have been told above

NAMES = ("chromium", "chromium-browser", "google-chrome")
# What a page may count on when nothing else is said: a desktop in daylight.
DESKTOP = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
# Machines that test are busy.
PATIENCE_MS = 15_000
expect.set_options(timeout=PATIENCE_MS)


def executable() -> str:
    """The path of the browser; skips plainly when there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


@contextmanager
def launch() -> Iterator[Browser]:
    """A headless browser."""
    with sync_api.sync_playwright() as playwright:
        # Containers allow no sandbox; the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=executable(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Log:
    """What the browser's log says of a page: errors, warnings, and what no script caught."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._expected: list[re.Pattern[str]] = []

    def follow(self, page: Page) -> None:
        """Take down what `page` says from now on."""
        page.on("console", self._take)
        page.on("pageerror", self._fault)
        page.on("crash", lambda _page: self.lines.append("the page crashed"))

    def expect(self, pattern: str) -> None:
        """Lines that `pattern` is found in are no fault: a server that was stopped, say."""
        self._expected.append(re.compile(pattern))

    def faults(self) -> list[str]:
        """The lines that nobody expected."""
        return [
            line for line in self.lines if not any(wanted.search(line) for wanted in self._expected)
        ]

    def _take(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.lines.append(f"{message.type}: {message.text}")

    def _fault(self, error: Error) -> None:
        self.lines.append(f"uncaught: {error.message}\n{error.stack}")


# What the browser itself logs when a server goes away, or is about to. Nobody can prevent it.
LOST = (
    r"net::ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|SOCKET_NOT_CONNECTED|EMPTY_RESPONSE"
    r"|INCOMPLETE_CHUNKED_ENCODING|INTERNET_DISCONNECTED|NETWORK_CHANGED)"
    r"|WebSocket connection to .* failed|responded with a status of 503"
)


def refused(*statuses: int) -> str:
    """The browser's line for answers that say no."""
    return f"responded with a status of ({'|'.join(map(str, statuses))})"


def until(page: Page, script: str, argument: Any = None, *, timeout_ms: int = PATIENCE_MS) -> Any:
    """Wait until the function `script` says something true in the page, and return that."""
    return page.wait_for_function(script, arg=argument, timeout=timeout_ms).json_value()
