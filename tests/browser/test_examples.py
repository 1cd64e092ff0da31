"""The examples' pages in Chromium, each started by the one command that its reader is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running_example import port_in, running

from .chromium import Log, expect, refused, until
from .conftest import PageFactory

ExampleFactory = Callable[[str], str]


@pytest.fixture
def example(tmp_path: Path) -> Iterator[ExampleFactory]:
    """Start an example by its name; its address. It must end in order."""
    with ExitStack() as stack:

        def make(name: str) -> str:
            command = [sys.executable, "-m", f"examples.{name}", "--port", "0"]
            return f"http://127.0.0.1:{port_in(stack.enter_context(running(command, tmp_path)))}"

        yield make


def test_the_dashboard_moves(example: ExampleFactory, open_page: PageFactory) -> None:
    page = open_page(example("dashboard"))
    memory = page.locator("#memory")
    expect(memory).to_contain_text("GiB")
    expect(page.locator("#cpu meter")).to_have_count(os.cpu_count() or 1)
    before = page.locator("main").inner_text()
    expect(page.locator("main")).not_to_have_text(before)


def test_the_console_works_below_a_prefix(example: ExampleFactory, open_page: PageFactory) -> None:
    page = open_page(example("dashboard") + "/live/")
    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("#health-word")).to_have_text("healthy")
    expect(page.locator("#document .key", has_text="memory")).to_be_visible()


def test_two_chat(example: ExampleFactory, open_page: PageFactory) -> None:
    url = example("chat")
    ann, bob = (open_page(f"{url}/?name={name}&room=lobby") for name in ("Ann", "Bob"))
    for page in (ann, bob):
        expect(page.locator("#rooms")).to_contain_text("Ann, Bob")
    ann.fill("#text", "hello <b>Bob</b>")
    ann.keyboard.press("Enter")
    for page in (ann, bob):
        expect(page.locator("#log")).to_contain_text("Ann hello <b>Bob</b>")
    bob.fill("#room", "elsewhere")
    bob.keyboard.press("Tab")
    expect(ann.locator("#rooms")).to_contain_text("elsewhere")
    bob.context.close()
    expect(ann.locator("#rooms")).not_to_contain_text("Bob")


def test_five_hundred_prices(example: ExampleFactory, open_page: PageFactory) -> None:
    page = open_page(example("prices"))
    expect(page.locator("#board div")).to_have_count(500)
    until(page, RATE)
    before = page.locator("#board").inner_text()
    expect(page.locator("#board")).not_to_have_text(before)


RATE = """() => {
  const { textContent } = document.getElementById('rate');
  return /changes.s$/.test(textContent) && parseInt(textContent) > 10;
}"""


def test_a_job_runs_and_one_is_cancelled(example: ExampleFactory, open_page: PageFactory) -> None:
    page = open_page(example("jobs"))
    for name, steps in (("short", 3), ("long", 1000)):
        page.fill("#name", name)
        page.fill("#steps", str(steps))
        page.get_by_role("button", name="Start").click()
    job = page.locator(".job")
    expect(job.filter(has_text="short")).to_contain_text("done", timeout=15_000)
    job.filter(has_text="long").get_by_role("button", name="cancel").click()
    expect(job.filter(has_text="long")).to_contain_text("cancelled")


def test_an_order_is_placed_and_shipped(
    example: ExampleFactory, open_page: PageFactory, log: Log
) -> None:
    log.expect(refused(404))  # browsers ask for an icon
    page = open_page(example("orders"))
    page.fill("#item", "a lamp")
    page.fill("#quantity", "2")
    page.keyboard.press("Enter")
    row = page.locator("#orders tr", has_text="2 × a lamp")
    expect(row).to_be_visible()
    row.get_by_role("button", name="ship").click()
    expect(row).to_contain_text("shipped")
    expect(page.locator("#news")).to_contain_text("shipped")
