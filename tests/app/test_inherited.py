"""A listening socket that outlives the server: who connects during a restart is served."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from triode.app.net.inherited import CannotListen, inherited_sockets

ROOT = Path(__file__).resolve().parents[2]
REQUEST = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def start(listener: socket.socket) -> subprocess.Popen[bytes]:
    """As systemd does: the socket is descriptor 3, the variables name the process."""
    script = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" -m triode serve'
    return subprocess.Popen(
        ["bash", "-c", script, sys.executable],
        cwd=ROOT,
        env={**os.environ, "TRIODE_PORT": "1", "TRIODE_DATA": "memory"},  # a port it may not take
        pass_fds=[listener.fileno()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def ask(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(REQUEST)
    return client


def answers_and_ends(server: subprocess.Popen[bytes], client: socket.socket) -> None:
    """It answers the one who has asked, and ends in order."""
    try:
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()


def test_who_connects_during_a_restart_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=10) as listener:
        port = listener.getsockname()[1]
        for _ in range(2):
            # When this client connects nobody is there yet, or any more.
            with ask(port) as client, start(listener) as server:
                answers_and_ends(server, client)


def test_variables_for_another_process_are_not_ours() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    assert inherited_sockets(environment, 2) == []
    assert environment == {}


@pytest.mark.parametrize("count", ["one", "-1", "\u00b2"])
def test_a_number_that_is_none_is_told(count: str) -> None:
    with pytest.raises(CannotListen, match="must be a number"):
        inherited_sockets({"LISTEN_PID": "2", "LISTEN_FDS": count}, 2)


def test_a_socket_that_is_open_to_others_needs_tokens() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        server = start(listener)
        _, said = server.communicate(timeout=30)
    assert server.returncode == 1
    assert b"triode: 0.0.0.0 is open to others" in said


def served_by(sock: socket.socket, *options: str) -> subprocess.Popen[bytes]:
    """`triode serve --fd N`, with a socket of ours."""
    return subprocess.Popen(
        [sys.executable, "-m", "triode", "serve", "--fd", str(sock.fileno()), *options],
        cwd=ROOT,
        env={**os.environ, "TRIODE_PORT": "1", "TRIODE_DATA": "memory"},
        pass_fds=[sock.fileno()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_a_socket_by_its_number(tmp_path: Path) -> None:
    """A Unix socket that was handed over; its file is whoever's that made it."""
    path = tmp_path / "t.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen()
        client.connect(str(path))
        client.sendall(REQUEST)
        client.settimeout(30)
        with served_by(listener) as server:
            answers_and_ends(server, client)
    assert path.exists()


def test_a_number_that_is_no_listener_is_told(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        server = served_by(deaf)
        _, said = server.communicate(timeout=30)
    assert server.returncode == 1
    assert b"does not listen" in said
    assert b"Traceback" not in said
