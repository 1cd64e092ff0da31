"""A client that stops reading is noticed soon, not when the kernel has taken megabytes for it."""

from __future__ import annotations

import contextlib
import socket

import pytest

from triode.app.net.listener import UNSENT_BYTES, open_sockets

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the system has no such bound"
)


def test_the_kernel_takes_little_for_a_client_that_does_not_read() -> None:
    (listener,) = open_sockets("127.0.0.1", 0)
    with listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        ours, _address = listener.accept()
        with ours:
            ours.setblocking(False)
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < 16 * UNSENT_BYTES:
                    taken += ours.send(b"x" * 10_000)
            assert 0 < taken < 2 * UNSENT_BYTES
