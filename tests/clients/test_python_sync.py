"""The Python client without `async`, as scripts, web applications and notebooks use it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.auth import ADMIN, signed
from tests.behaviour.server import Server, free_port
from tests.clients.doors import living
from triode_client import CannotConnect, Closed, Ended, NotAllowed, Options, Triode

CLIENT = Path(__file__).resolve().parents[2] / "clients/python"
PATIENCE_S = 45.0


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def t(server: Server) -> Iterator[Triode]:
    with Triode(url(server)) as one:
        one.set(".", {})
        yield one
    assert not list(living()), "its thread was left behind"


def run(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, with warnings as errors."""
    program = [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(source)]
    return subprocess.run(
        [*program, *arguments],
        capture_output=True, text=True, timeout=30, check=True, env={"PYTHONPATH": str(CLIENT)},
    )  # fmt: skip


def test_a_few_lines(t: Triode) -> None:
    t.set(".orders.17", {"total": 20}, create=True)
    t.increment(".hits.today") if t.get(".hits.today") else t.set(".hits.today", 1, create=True)
    assert t.get() == {"orders": {"17": {"total": 20}}, "hits": {"today": 1}}
    for change in t.watch(".orders"):
        assert change.value == {"17": {"total": 20}}
        break
    with t.view(".hits.today") as view:
        t.increment(".hits.today")
        while view.value != 2:
            view.wait_changed(PATIENCE_S)
    with t.room("chat") as room:
        room.publish("say", "hello", echo=True)
        assert next(room).data == "hello"


def test_nothing_happens_before_it_is_used() -> None:
    t = Triode(f"http://127.0.0.1:{free_port()}")
    assert t.state == "connecting"
    assert not list(living())
    t.close()
    with pytest.raises(Closed):
        t.get()


def test_many_threads_share_one_connection(t: Triode) -> None:
    t.set(".n", 0)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: t.increment(".n"), range(200)))
    assert t.get(".n") == 200
    assert len(list(living())) == 1


def test_a_running_event_loop_is_no_matter(t: Triode) -> None:
    """As in a cell of Jupyter."""

    async def cell() -> Any:
        t.set(".loss", 0.5)
        return next(t.watch(".loss")).value

    assert asyncio.run(cell()) == 0.5


def test_a_watch_ends_when_it_is_closed_by_another_thread(t: Triode) -> None:
    watch = t.watch(".n")
    assert next(watch).kind == "snapshot"
    timer = threading.Timer(0.1, watch.close)
    timer.start()
    assert list(watch) == []
    timer.join()


def test_a_watch_that_is_dropped_ends(t: Triode) -> None:
    for _ in t.watch(".n"):
        break
    gc.collect()
    thread = t._running()
    until = time.monotonic() + PATIENCE_S
    while thread.look(lambda: list(thread.link._topics)):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_waits_can_be_limited(t: Triode) -> None:
    watch = t.watch(".n")
    next(watch)
    with pytest.raises(TimeoutError):
        watch.next(0.05)
    with t.view(".n") as view, t.room("chat") as room:
        with pytest.raises(TimeoutError):
            view.wait_changed(0.05)
        with pytest.raises(TimeoutError):
            room.next(0.05)
        t.set(".n", 1)
        change = watch.next(PATIENCE_S)
        assert change is not None
        assert change.value == 1


def test_whoever_waits_when_it_is_closed_is_told(server: Server) -> None:
    t = Triode(url(server))
    watch = t.watch(".none")
    next(watch)
    timer = threading.Timer(0.1, t.close)
    timer.start()
    with pytest.raises(Closed):
        next(watch)
    timer.join()


def test_a_loop_of_writes_waits_for_the_servers_rate(guarded: Server) -> None:
    """50 a second, 10 at once; this was refused for most of it."""
    with Triode(url(guarded), token=ADMIN) as t:
        t.set(".", {"n": 0})
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: t.increment(".n"), range(60)))
        assert t.get(".n") == 60
        assert time.monotonic() - began > 0.5


def test_without_a_server_the_limit_of_a_call_holds_and_what_was_not_sent_is_not() -> None:
    with Triode(f"http://127.0.0.1:{free_port()}", timeout_s=0.2) as t:
        with pytest.raises(TimeoutError, match=r"0\.2 s"):
            t.set(".n", 1)
        thread = t._running()
        assert len(thread.link._outbox) == 0


def test_a_failure_is_told_and_the_next_call_tries_anew(mortal: Server) -> None:
    mortal.stop()
    options = Options(attempts=2, delay_s=0.02)
    with Triode(url(mortal), options=options) as t:
        for _ in range(2):
            with pytest.raises(CannotConnect):
                t.get()
    with Triode(url(mortal), options=options) as t:
        with pytest.raises(CannotConnect):
            t.get()
        mortal.start()
    with Triode(url(mortal), options=options) as t:
        assert t.get() is not None


def test_no_token_where_one_is_needed(guarded: Server) -> None:
    with Triode(url(guarded)) as t:
        with pytest.raises(NotAllowed):
            t.get()
        with pytest.raises(NotAllowed):
            next(t.watch("."))


def test_the_end_of_a_token_ends_a_watch(guarded: Server) -> None:
    token = signed({"exp": time.time() + 1, "read": "*"})
    with Triode(url(guarded), token=token) as t, pytest.raises(Ended) as caught:
        for _ in t.watch(".none"):
            pass
    assert caught.value.code == 4401


def test_a_token_function_may_block_but_not_use_the_client(guarded: Server) -> None:
    threads: list[threading.Thread] = []

    def token() -> str:
        threads.append(threading.current_thread())
        time.sleep(0.05)
        return ADMIN

    with Triode(url(guarded), token=token) as t:
        assert t.get() is not None
        assert threads[0] not in living()

    async def circular() -> str:
        return str(circle.get(".token"))

    with Triode(url(guarded), token=circular) as circle:
        with pytest.raises(RuntimeError, match="must not use the client"):
            circle.get()


def test_a_program_that_forgets_to_close_ends_and_says_goodbye(server: Server) -> None:
    source = """
        import sys, time
        from triode_client import Triode

        t = Triode(sys.argv[1])
        print(t.set(".", 1))
        held = t.watch(".")
        next(held)
        assert "trio" not in sys.modules
    """
    began = time.monotonic()
    assert ":" in run(source, url(server)).stdout
    assert time.monotonic() - began < 10


def test_it_can_be_interrupted_while_it_waits(server: Server) -> None:
    """By Ctrl-C, or the stop button of a notebook; and goes on afterwards."""
    source = """
        import os, signal, sys, threading
        from triode_client import Triode

        # Who started the tests may ignore it, as a shell does for what runs in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def interrupt():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

        t = Triode(sys.argv[1])
        t.set(".", {"n": 1})
        try:
            for change in t.watch(".n"):
                interrupt()
        except KeyboardInterrupt:
            print("a watch")
        with t.view(".n") as view:
            try:
                interrupt()
                view.wait_changed()
            except KeyboardInterrupt:
                print("a call")
        print(t.get(".n"))
    """
    assert run(source, url(server)).stdout == "a watch\na call\n1\n"


def test_a_child_of_a_fork_has_a_connection_of_its_own(server: Server) -> None:
    """As with Gunicorn's `--preload`, or Celery."""
    source = """
        import os, sys, warnings
        from triode_client import Triode

        t = Triode(sys.argv[1])
        t.set(".", {"n": 0})
        mine = t.client_id
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork itself
        child = os.fork()
        if not child:
            t.increment(".n")
            os._exit(0 if t.client_id != mine else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        t.increment(".n")
        assert t.client_id == mine
        print(t.get(".n"))
    """
    assert run(source, url(server)).stdout == "2\n"
