"""One accepted connection: a non-blocking socket, or TLS over one, and the bytes read beyond what
was asked for.

Plain connections use the stdlib socket directly and wait with `trio.lowlevel`: a task that waits in
`receive` costs 3.6 KB, in `SocketStream.receive_some` 5.3 KB (docs/design.md 5). Rules:

- One reader and one writer at a time. `send_now` gives way (returns 0) while a `send_all` is under
  way, so that a direct write never lands inside a frame that is half out.
- A write that failed, was cut by its deadline, or was cancelled with a part sent leaves a frame
  half out: the connection is aborted on the spot and nothing can be sent on it any more.
- `abort` throws away what is unsent and resets the peer; `close` lets the kernel deliver it;
  `finish` also waits a bounded while for the peer to take it. All are idempotent, and after any of
  them every waiting task is woken with `trio.ClosedResourceError`.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import ssl
import struct
import sys
import termios
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.net import idle_wait

if TYPE_CHECKING:
    from triode.app.net.request_head import Head

RECEIVE_BYTES: Final = 64 * 1024
LOOKS: Final = 10
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


class Connection:
    """A client's connection.

    `peer` is its address without the port; `buffer` what was read but not yet taken. `parsed` is
    the head that the buffer begins with and its length, when somebody has parsed it and left it
    there; whoever takes it out of the buffer sets it to None. `secure`: its bytes go through TLS;
    `alpn` is the protocol agreed on during the handshake, e.g. "h2".
    """

    __slots__ = (
        "_tls",
        "_writing",
        "alpn",
        "buffer",
        "closed",
        "parsed",
        "peer",
        "secure",
        "sock",
    )

    def __init__(self, sock: socket.socket, peer: str) -> None:
        """Takes over `sock`, which must be non-blocking."""
        self.sock = sock
        self.peer = peer
        self.buffer = bytearray()
        self.parsed: tuple[Head, int] | None = None
        self.closed = False
        self.secure = False
        self.alpn: str | None = None
        self._tls: trio.SSLStream[trio.SocketStream] | None = None
        self._writing = False

    async def secure_with(self, context: ssl.SSLContext) -> None:
        """Do the server's side of the TLS handshake. The deadline is the caller's; a failure leaves
        it useless.

        Raises trio.BrokenResourceError when the peer speaks no TLS or leaves.
        """
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(self.sock))
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await tls.do_handshake()
        self._tls, self.secure, self.alpn = tls, True, tls.selected_alpn_protocol()

    def receive(self, max_bytes: int = RECEIVE_BYTES) -> Coroutine[Any, Any, bytes]:
        """Await it for the next bytes, those in `buffer` first; b"" when the peer has ended its
        side.

        Cancellation loses nothing. Raises trio.BrokenResourceError when the connection failed and
        trio.ClosedResourceError when it was closed here.
        """
        # No coroutine of its own: its frame would stay in memory for as long as a client is idle.
        return self._receive_held(max_bytes) if self.buffer else self.receive_new(max_bytes)

    @property
    def waits_cheaply(self) -> bool:
        """Whether `idle_wait.wait_readable` and `receive_now` do instead of `receive`."""
        return self._tls is None and not self.buffer

    def receive_now(self, max_bytes: int) -> bytes | None:
        """What a plain socket has, without waiting: b"" at its end, None when there is nothing.
        Raises trio.BrokenResourceError and trio.ClosedResourceError as `receive`.
        """
        try:
            return self.sock.recv(max_bytes)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as exc:
            raise self._failure() from exc

    async def _receive_held(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        data = bytes(self.buffer[:max_bytes])
        del self.buffer[:max_bytes]
        return data

    async def receive_new(self, max_bytes: int = RECEIVE_BYTES) -> bytes:
        """As `receive`, but past `buffer`: for those who add to it."""
        if self._tls is not None:
            try:
                return bytes(await self._tls.receive_some(max_bytes))
            except trio.BrokenResourceError:
                raise self._failure() from None
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            data = self.receive_now(max_bytes)
            if data is not None:
                # A fast sender must not keep the loop to itself; who waited has let others run.
                if not waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return data
            await trio.lowlevel.wait_readable(self.sock)
            waited = True

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Hand what fits to the kernel without waiting; the number of bytes taken, 0 when it would
        block.

        Always 0 over TLS, whose records cannot be sent in part, and while a `send_all` is under
        way. Raises trio.BrokenResourceError when the connection failed or is closed.
        """
        if self._writing or self._tls is not None:
            if self.closed:
                raise trio.BrokenResourceError("the connection is closed")
            return 0
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc

    async def send_all(self, data: bytes | bytearray | memoryview, deadline_s: float) -> None:
        """Send all of `data` to a peer that goes on reading (math.inf: to any peer).

        When the peer has taken nothing for `deadline_s` seconds the connection is aborted and
        trio.TooSlowError raised; over TLS, where that cannot be known, when it has not taken all.
        Cancelled with nothing sent it stays usable (not over TLS); with a part sent it is aborted.
        Raises trio.BrokenResourceError or trio.ClosedResourceError like `receive`,
        trio.BusyResourceError for a second writer.
        """
        if self._writing:
            raise trio.BusyResourceError("another task is sending on this connection")
        self._writing = True
        try:
            if self._tls is None:
                await self._send_plain(data, deadline_s)
            else:
                with trio.fail_after(deadline_s):
                    await self._send_tls(data)
        except trio.TooSlowError:
            self.abort()
            raise
        finally:
            self._writing = False

    async def _send_plain(self, data: bytes | bytearray | memoryview, deadline_s: float) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        with memoryview(data) as view:
            sent = 0
            try:
                while sent < len(view):
                    try:
                        sent += self.sock.send(view[sent:])
                    except (BlockingIOError, InterruptedError):
                        await self._until_writable(deadline_s)
                await trio.lowlevel.cancel_shielded_checkpoint()
            except OSError as exc:
                raise self._failure() from exc
            except trio.Cancelled:
                if sent:
                    self.abort()
                raise

    async def _until_writable(self, deadline_s: float) -> None:
        """Wait until more can be sent. A slow reader may need minutes to make room for that, so
        what counts is that the kernel gets rid of something: looked at ten times in `deadline_s`.
        """
        started = trio.current_time()
        unsent = self._unsent()
        while True:
            with trio.move_on_after(deadline_s / LOOKS):
                await trio.lowlevel.wait_writable(self.sock)
                return
            now, left = trio.current_time(), self._unsent()
            if left < unsent:
                started, unsent = now, left
            elif now - started >= deadline_s:
                raise trio.TooSlowError(f"the peer took nothing for {deadline_s} s")

    def _unsent(self) -> int:
        """Bytes that the peer's side has not acknowledged; 0 where the system does not tell."""
        try:
            return int.from_bytes(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    async def _send_tls(self, data: bytes | bytearray | memoryview) -> None:
        assert self._tls is not None
        try:
            await self._tls.send_all(data)
        except trio.Cancelled:
            self.abort()
            raise
        except trio.BrokenResourceError:
            raise self._failure() from None

    def _failure(self) -> Exception:
        """The error to raise: a socket that was closed here fails in ways that look like the peer's
        doing."""
        if self.closed:
            return trio.ClosedResourceError("this connection was closed here")
        return trio.BrokenResourceError("the connection failed")

    def abort(self) -> None:
        """End it now: unsent bytes are thrown away, the peer sees a reset."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._close()

    def close(self) -> None:
        """End it; the kernel still delivers what it has taken. Over TLS without close_notify: see
        `finish`.

        Bytes of the peer that nobody read make the kernel send a reset after them, which can
        overtake an answer.
        """
        if not self.closed:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
            self._close()

    async def finish(self, linger_s: float) -> None:
        """End it in order: no more is sent, then the peer's bytes are read away until it ends too,
        then close.

        Takes `linger_s` seconds at most; closed in any case on return, also when cancelled.
        """
        try:
            with trio.move_on_after(linger_s):
                await self._end_sending()
                while await self.receive_new():
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.close()

    async def _end_sending(self) -> None:
        if self._tls is not None:
            # SSLStream cannot end one direction; its aclose sends close_notify and closes both.
            await self._tls.aclose()
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self._failure() from exc
        await trio.lowlevel.cancel_shielded_checkpoint()

    def end_sending(self) -> None:
        """Send the end of file of a plain connection; over TLS nothing, `finish` does it."""
        if self._tls is None and not self.closed:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def _close(self) -> None:
        self.closed = True
        if self.sock.fileno() >= 0:
            idle_wait.notify_closing(self.sock)
            self.sock.close()
