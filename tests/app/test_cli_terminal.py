"""The commands as people use them: in a terminal, against a server, over real sockets."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.behaviour.server import OPEN, ROOT, Server

PATIENCE_S = 60.0
ALTERNATE, NORMAL = b"\x1b[?1049h", b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"
ADMIN = "admin-token-of-the-terminal-tests"
COLOUR = re.compile(rb"\x1b\[(\d+;)*[349][0-7][;m]")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server("native", OPEN, tmp_path_factory.mktemp("server"))
    one.start()
    yield one
    one.stop()


def url_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def environment(server: Server, **more: str) -> dict[str, str]:
    # COLUMNS and LINES come from the readline of a pytest that runs tests in other processes.
    others = ("TRIODE_", "NO_COLOR", "COLUMNS", "LINES")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    ours = {"TRIODE_URL": url_of(server), "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    return keep | ours | more


def triode(
    server: Server, *arguments: str, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "triode", *arguments],
        env=environment(server, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Terminal:
    """A command in a terminal of 100 columns and 30 lines."""

    def __init__(self, server: Server, *arguments: str, **more: str) -> None:
        self.screen, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        self.output = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "triode", *arguments],
            env=environment(server, **more),
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def wait_for(self, text: str) -> None:
        """Read until that was printed since the last wait, colours aside."""
        deadline = time.monotonic() + PATIENCE_S
        seen = b""
        while text.encode() not in re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen):
            assert time.monotonic() < deadline, f"no {text!r} in {seen[-3000:]!r}"
            assert self.process.poll() is None or select.select([self.screen], [], [], 0)[0], seen
            seen += self._read()

    def press(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def end(self) -> int:
        """Its exit status; the terminal has to be as it was."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.output[-2000:]
            self._read()
        while self._read():
            pass
        assert termios.tcgetattr(self.theirs) == self.before
        return self.process.returncode

    def _read(self) -> bytes:
        if not select.select([self.screen], [], [], 0.05)[0]:
            return b""
        data = os.read(self.screen, 65536)
        self.output += data
        return data

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)
        os.close(self.theirs)


@contextmanager
def terminal(server: Server, *arguments: str, **more: str) -> Iterator[Terminal]:
    one = Terminal(server, *arguments, **more)
    try:
        yield one
    finally:
        one.close()


def leave_with_q(one: Terminal) -> None:
    one.press("q")


def leave_with_interrupt(one: Terminal) -> None:
    one.process.send_signal(signal.SIGINT)


def leave_with_sigterm(one: Terminal) -> None:
    one.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("leave", "status"),
    [(leave_with_q, 0), (leave_with_interrupt, 130), (leave_with_sigterm, 0)],
)
@pytest.mark.parametrize("command", ["watch", "top"])
def test_pictures_leave_the_terminal_as_it_was(
    server: Server, command: str, leave: Any, status: int
) -> None:
    with terminal(server, command) as one:
        one.wait_for(f"triode {command}")
        leave(one)
        assert one.end() == status
        assert one.output.count(ALTERNATE) == one.output.count(NORMAL) == 1
        assert one.output.index(ALTERNATE) < one.output.rindex(SHOW_CURSOR)
        assert b"Traceback" not in one.output


def test_watch_shows_what_is_there_and_what_changes(server: Server) -> None:
    triode(server, "set", ".watched", '{"n": 1}')
    with terminal(server, "watch", ".watched") as one:
        one.wait_for(".watched.n")
        triode(server, "set", ".watched.n", "42")
        one.wait_for("1 → 42 +41")
        one.press("q")
        assert one.end() == 0


def test_watch_outlives_its_server(tmp_path: Path) -> None:
    server = Server("native", OPEN, tmp_path)
    server.start()
    try:
        with terminal(server, "watch") as one:
            one.wait_for("live")
            server.terminate()
            one.wait_for("connecting again")
            server.stop()
            server.start(server.port)
            triode(server, "set", ".after", "1")
            one.wait_for(".after")
            one.press("q")
            assert one.end() == 0
    finally:
        server.stop()


def test_top_shows_clients(server: Server) -> None:
    with terminal(server, "tail", ".a", "--room", "ops") as tail:
        tail.wait_for("connected")
        with terminal(server, "top") as one:
            one.wait_for(".a #ops")
            one.press("q")
            assert one.end() == 0


def test_no_color_and_pipes_are_plain(server: Server) -> None:
    triode(server, "set", ".plain", "1")
    for command in (["get", ".plain"], ["watch", ".plain", "--lines"], ["tail", ".plain"]):
        with terminal(server, *command, NO_COLOR="1") as one:
            one.wait_for("1")
            assert not COLOUR.search(one.output), command
    with terminal(server, "watch", ".plain", "--lines") as one:
        one.wait_for("1")
        assert COLOUR.search(one.output)
    assert triode(server, "get", ".plain").stdout == "1\n"
    assert "\x1b" not in triode(server, "top").stdout


def test_who_is_refused_gets_no_picture(tmp_path: Path) -> None:
    guarded = Server("native", {**OPEN, "admin_token": ADMIN}, tmp_path)
    guarded.start()
    try:
        for command in ("top", "watch"):
            with terminal(guarded, command) as one:
                assert one.end() == 1
                assert b"TRIODE_TOKEN" in one.output
        token = triode(guarded, "token", "new", "--read", ".", TRIODE_TOKEN=ADMIN).stdout.strip()
        with terminal(guarded, "top", TRIODE_TOKEN=token) as one:
            assert one.end() == 1
            assert b"admin rights" in one.output
            assert token.encode() not in one.output
        ends = triode(guarded, "top", "--json", TRIODE_TOKEN=ADMIN).stdout
        assert ADMIN not in ends
        assert json.loads(ends)["gauges"]["clients"] == 0
    finally:
        guarded.stop()


def test_ends_are_tailed(server: Server) -> None:
    with terminal(server, "tail", "--ends") as one:
        with terminal(server, "tail", ".a") as other:
            other.wait_for("connected")
            leave_with_interrupt(other)
            assert other.end() == 130
        one.wait_for("client_closed sse")


def test_messages_are_published_and_tailed(server: Server) -> None:
    with terminal(server, "tail", "--room", "chat") as one:
        one.wait_for("connected")
        assert triode(server, "publish", "chat", "say", '{"a": 1}').stdout == "reached 1\n"
        one.wait_for('chat say {"a":1}')


def test_load_loses_nothing(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "many.ndjson"
    triode(server, "set", ".many", "{}")
    with file.open("w") as out:
        for number in range(5000):
            path = ".nowhere.x" if number == 3456 else f".many.k{number}"
            out.write(json.dumps({"type": "set", "path": path, "value": number}) + "\n")
    with terminal(server, "load", str(file)) as one:
        one.wait_for("4999 done, 1 refused")
        assert one.end() == 1
    assert b"many.ndjson:3457: " in one.output
    loaded = json.loads(triode(server, "get", ".many").stdout)
    assert loaded == {f"k{number}": number for number in range(5000) if number != 3456}


def test_load_shows_its_progress(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_text(json.dumps({f"k{number}": "x" * 100 for number in range(50_000)}))
    with terminal(server, "load", str(file), "--path", ".large") as one:
        one.wait_for("large.json")
        assert one.end() == 0
    assert b"MiB" in one.output
    assert re.search(rb"ok, at \w+:\d+", one.output)
    triode(server, "delete", ".large")  # too large to look for names in


def test_paths_are_completed_from_the_server(server: Server) -> None:
    triode(server, "set", ".shop", '{"tea": {"price": 1}, "toast": [1, 2], "a b": 3}')

    def proposals(typed: str, *options: str) -> list[str]:
        words = ["triode", "get", *options, typed]
        done = subprocess.run(
            [sys.executable, "-c", "from app.cli import main; main(prog_name='triode')"],
            env=environment(
                server,
                _TRIODE_COMPLETE="bash_complete",
                COMP_WORDS=" ".join(words),
                COMP_CWORD=str(len(words) - 1),
            ),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        assert done.stderr == ""
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert ".shop" in proposals(".sh")
    assert proposals(".shop.t") == [".shop.tea", ".shop.toast"]
    assert proposals(".shop.tea.") == [".shop.tea.price"]
    assert proposals(".shop.toast[") == [".shop.toast[0]", ".shop.toast[1]"]
    assert proposals(".shop.nothing.") == []
    # Nobody answers: no proposals, and no complaint in the middle of a command line.
    assert proposals(".s", "--url", "http://127.0.0.1:1") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(server: Server, shell: str) -> None:
    script = triode(server, "completion", shell)
    assert script.returncode == 0
    assert f"_TRIODE_COMPLETE={shell}_complete" in script.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True)


def test_serve_tells_a_machine_where_it_listens(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "triode", "serve", "--port", "0", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        try:
            (url,) = json.loads(process.stdout.readline())["listening"]
            assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", url)
        finally:
            process.terminate()
        assert process.stdout.read() == b""


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[str]:
    """`triode serve` in a folder, as people start it; its address."""
    command = [sys.executable, "-m", "triode", "serve", "--port", "0", "--json", *flags]
    env = {k: v for k, v in os.environ.items() if not k.startswith("TRIODE_")}
    with subprocess.Popen(
        command, cwd=folder, env={**env, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["listening"][0]
        finally:
            process.terminate()
    assert process.returncode == 0


def run_in(folder: Path, url: str, *arguments: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "triode", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRIODE_URL": url}
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=True
    ).stdout


@contextmanager
def following(folder: Path, url: str) -> Iterator[Iterator[str]]:
    """The lines of `triode log -f`, from the next write on."""
    command = [sys.executable, "-m", "triode", "log", "-f", "-n", "1", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRIODE_URL": url, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            next(process.stdout)
            yield process.stdout
        finally:
            process.kill()


def test_the_document_is_kept_beside_the_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seed = tmp_path / "seed.json"
    seed.write_text('{"a":1}')
    with serving(tmp_path, "--load", str(seed)) as url:
        httpx.put(f"{url}/store", params={"path": ".b"}, json=2).raise_for_status()
        backup = run_in(tmp_path, url, "backup", "kept.db")
        assert backup.startswith("kept.db: ")
        assert backup.endswith(":4\n")
        assert [json.loads(line)["op"] for line in run_in(tmp_path, url, "log", "--json")
                .splitlines()] == ["bounds", "set", "bounds", "set"]  # fmt: skip
        with following(tmp_path, url) as lines:
            httpx.put(f"{url}/store", params={"path": ".b"}, json=3).raise_for_status()
            assert json.loads(next(lines))["value"] == 3
    assert (tmp_path / "triode-data" / "triode.db").exists()
    with serving(tmp_path) as url:
        assert httpx.get(f"{url}/store?path=.").json() == {"a": 1, "b": 3}
    # A service manager gives the same options at each start.
    with serving(tmp_path, "--load", str(seed)) as url:
        assert httpx.get(f"{url}/store?path=.").json() == {"a": 1, "b": 3}
    assert capfd.readouterr().err.count("is left out: it is for a new log") == 1
    with serving(tmp_path, "--data", "memory", "--load", str(seed)) as url:
        assert httpx.get(f"{url}/store?path=.").json() == {"a": 1}


def test_the_demo_is_this_machine_and_tells_the_console_s_address(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "triode", "serve", "--demo", "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            console = next(line for line in process.stdout if line.startswith("console")).split()[1]
            assert httpx.get(console).headers["content-type"].startswith("text/html")
            deadline = time.monotonic() + PATIENCE_S
            host: dict[str, Any] = {}
            while "processes" not in host and time.monotonic() < deadline:
                answer = httpx.get(f"{console}store", params={"path": ".host"})
                host = answer.json() if answer.is_success else {}
                time.sleep(0.1)
            assert {"cpu", "memory", "disks", "net", "processes"} <= host.keys()
            assert not list(tmp_path.iterdir()), "a demo is kept nowhere"
        finally:
            process.terminate()
