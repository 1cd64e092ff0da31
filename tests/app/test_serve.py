"""When a service fails while clients are served: no way of serving goes on as if nothing were."""

from __future__ import annotations

import faulthandler
import logging
import socket
from functools import partial
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_by_hypercorn

from tests.app.serving import Client
from triode.app.application import create_app
from triode.app.cli.serve import run
from triode.app.config.settings import Settings
from triode.app.delivery.flusher import Flusher
from triode.app.lanes.hypercorn import LifespanEnded
from triode.app.net.listener import open_sockets
from triode.app.serve import serve

FAULT = "the flusher failed"
EVENTS = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def fail(_flusher: Flusher) -> None:
    await trio.lowlevel.checkpoint()
    raise RuntimeError(FAULT)


@pytest.fixture(autouse=True)
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flusher fails as soon as it has anything to flush."""
    monkeypatch.setattr(Flusher, "_pass", fail)


async def connect(port: int) -> Client:
    return Client(await trio.open_tcp_stream("127.0.0.1", port))


def logged_traceback(caplog: pytest.LogCaptureFixture) -> bool:
    return any(record.exc_info and FAULT in caplog.text for record in caplog.records)


async def test_serve_ends_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def serve_until_it_fails() -> None:
        async with trio.open_nursery() as nursery:
            [address, *_] = await nursery.start(partial(serve, Settings(port=0)))
            client = await connect(address[1])
            await client.send(EVENTS)
            await client.ended()
            await client.close()

    with trio.fail_after(10), pytest.raises(ExceptionGroup) as caught:
        await serve_until_it_fails()
    assert caught.group_contains(LifespanEnded)
    assert logged_traceback(caplog)


def test_the_command_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bound = trio.Event()

    async def fail_once_bound(flusher: Flusher) -> None:
        await bound.wait()
        await fail(flusher)

    monkeypatch.setattr(Flusher, "run", fail_once_bound)
    with pytest.raises(SystemExit) as caught:
        run(Settings(port=0), lambda _addresses: bound.set())
    assert caught.value.code == 1
    message = "triode: stopped, because one of its services failed; the log says why\n"
    assert capsys.readouterr().err == message
    assert logged_traceback(caplog)


async def test_under_hypercorn_the_probes_tell(caplog: pytest.LogCaptureFixture) -> None:
    """Which nobody can end from inside; so that whoever watches it does."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger("hypercorn.test")
    stop = trio.Event()
    app: Any = create_app(Settings())
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            start = partial(serve_by_hypercorn, app, config, shutdown_trigger=stop.wait)
            [url] = await nursery.start(start)
            probe, client = [await connect(int(url.rpartition(":")[2])) for _ in range(2)]
            assert (await probe.get("/healthz")) == (200, b"ok\n")
            await client.send(EVENTS)
            while not logged_traceback(caplog):  # noqa: ASYNC110 # a log sets no event
                await trio.sleep(0.01)
            assert (await probe.get("/healthz")) == (503, b"the flusher has ended\n")
            assert (await probe.get("/readyz"))[0] == 503
            await client.close()
            await probe.close()
            stop.set()


async def test_no_socket_stays_open_when_the_start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []

    def open_and_note(*args: Any, **options: Any) -> list[socket.socket]:
        opened.extend(open_sockets(*args, **options))
        return opened

    async def fail_at_once(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("a service does not start")

    monkeypatch.setattr("triode.app.net.listening.open_sockets", open_and_note)
    monkeypatch.setattr("triode.app.serve.run_lifespan", fail_at_once)
    with pytest.raises(ExceptionGroup):
        await serve(Settings(port=0))
    assert [sock.fileno() for sock in opened] == [-1]


def test_a_fault_of_the_processor_is_not_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapped file that was cut short ended the server, and nobody knew why."""
    was_enabled: list[bool] = []
    monkeypatch.setattr(trio, "run", lambda _work: was_enabled.append(faulthandler.is_enabled()))
    faulthandler.disable()
    try:
        run(Settings(port=0), lambda _addresses: None)
    finally:
        faulthandler.enable(file=2)
    assert was_enabled == [True]
