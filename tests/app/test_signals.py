"""Signals that come while the server starts: none is lost, none ends it without order."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Puts something into a server that starts, then runs the command line.
MAIN = """
import os, signal, sys, trio
import triode.app.cli as cli
{patch}
sys.argv[:] = ["triode", "serve", "--port", "0", "--json", "--data", {data!r}]
cli.main()
"""
HANG_UP_WHILE_IMPORTED = """
real = cli.import_module
def import_module(name):
    os.kill(os.getpid(), signal.SIGHUP)
    return real(name)
cli.import_module = import_module
"""
WAIT_AT = """
import triode.app.service.{module} as module
real = module.{name}
async def waiting(*args, **kwargs):
    result = await real(*args, **kwargs)
    print("waiting", flush=True)
    {then}
    return result
module.{name} = waiting
"""


@contextmanager
def starting(tmp_path: Path, patch: str) -> Iterator[subprocess.Popen[str]]:
    script = MAIN.format(patch=patch, data=str(tmp_path / "data"))
    command = [sys.executable, "-c", script]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True) as one,
    ):
        try:
            yield one
        finally:
            one.kill()


def ends_in_order(process: subprocess.Popen[str], tmp_path: Path) -> str:
    """Send SIGTERM; the log of a process that ended at once, and let go of its files."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not list((tmp_path / "data").glob("*-wal"))
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text, text
    return text


def listens(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    # `boot` is called again when the services begin.
    return any("listening" in line for line in iter(process.stdout.readline, ""))


def test_a_hangup_before_anything_is_loaded_is_kept(tmp_path: Path) -> None:
    """It ended the process."""
    with starting(tmp_path, HANG_UP_WHILE_IMPORTED) as process:
        assert listens(process)
        assert "SIGHUP: certificate" in ends_in_order(process, tmp_path)


def test_a_hangup_while_the_log_is_read_is_kept(tmp_path: Path) -> None:
    """It was passed over: what had changed in the meantime stayed unread."""
    then = "os.kill(os.getpid(), signal.SIGHUP)"
    patch = WAIT_AT.format(module="running", name="boot", then=then)
    with starting(tmp_path, patch) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        assert listens(process)
        assert "SIGHUP: certificate" in ends_in_order(process, tmp_path)


def test_a_start_is_ended_in_order(tmp_path: Path) -> None:
    """While the log is read, and when all of it is."""
    for name in ("_begin_new", "_read"):
        patch = WAIT_AT.format(module="boot", name=name, then="await trio.sleep_forever()")
        with starting(tmp_path, patch) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            assert "SIGTERM: ending before the start is done" in ends_in_order(process, tmp_path)


def test_a_start_whose_log_is_there_is_ended_in_order(tmp_path: Path) -> None:
    patch = WAIT_AT.format(module="running", name="boot", then="await trio.sleep_forever()")
    with starting(tmp_path, patch) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        assert "SIGTERM: ending before the start is done" in ends_in_order(process, tmp_path)
