"""One connection to a Valkey or Redis server: commands out, replies in, over a Trio stream.

hiredis packs and parses; all waiting is here. A client library would cost ten times as much for
each call, and some repeat a command whose reply was lost: a write would be there twice. Here
nothing is ever repeated.

    Lost          the connection is of no use any more; what became of the commands is not known
    ServerError   the server answered: an error
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

import hiredis
import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.config.log_address import LogAddress

Arg = bytes | str | int
# Of RESP: text is bytes, an array is a list, nothing is None.
Reply = Any

CONNECT_S: Final = 3.0
REPLY_S: Final = 5.0
# The most that the replies of one call may take: an entry holds a commit, which is a few megabytes.
MAX_REPLY_BYTES: Final = 256 * 1024 * 1024
RECEIVE_BYTES: Final = 256 * 1024
# A longer message is sent on its own: joined to others it would be copied once more.
JOIN_BYTES: Final = 64 * 1024

# Its types say that a command is one word.
_pack: Final[Any] = hiredis.pack_command


class Lost(Exception):
    """There is no connection. Unless `is_sent`, the server has nothing of the commands."""

    def __init__(self, text: str, *, is_sent: bool = True) -> None:
        super().__init__(text)
        self.is_sent = is_sent


class ServerError(Exception):
    """What the server says, such as `OOM command not allowed …`."""

    @property
    def code(self) -> str:
        """Its first word: WRONGTYPE, OOM, NOSCRIPT …"""
        return str(self).partition(" ")[0]


class Connection:
    """A stream to a server. One call at a time: others wait for their turn.

    After `Lost`, and after a call was cancelled, it is closed: a reply could be taken for that of
    the next command.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        address: LogAddress,
        *,
        max_reply_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        self._stream = stream
        self.address = address
        self._address = str(address)
        self._max_reply_bytes = max_reply_bytes
        self._reader = hiredis.Reader(replyError=ServerError)
        self._turn = trio.StrictFIFOLock()
        self._closed = False
        # Replies of the call under way that have not come.
        self._unanswered = 0

    def __repr__(self) -> str:
        return f"<connection to {self._address}{', closed' * self._closed}>"

    @property
    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._closed

    async def call(self, *command: Arg, deadline_s: float = REPLY_S) -> Reply:
        """One command; its reply. Raises `Lost` and `ServerError`."""
        reply = (await self.calls((command,), deadline_s=deadline_s))[0]
        if isinstance(reply, ServerError):
            raise reply
        return reply

    async def calls(
        self, commands: Sequence[Sequence[Arg]], *, deadline_s: float = REPLY_S
    ) -> list[Reply]:
        """Several commands in one go; their replies, a `ServerError` among them where it failed.

        `deadline_s` is for all of it, from when it is our turn. Raises `Lost`. Cancelled, the
        connection is closed, and the commands may be carried out.
        """
        async with self._turn:
            if self._closed:
                raise Lost(f"the connection to {self._address} is closed", is_sent=False)
            try:
                with trio.move_on_after(deadline_s):
                    await self._send(commands)
                    return await self._receive(len(commands))
                raise Lost(f"{self._address} has not answered for {deadline_s:g} s")
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Lost(f"{self._address}: {error.__cause__ or error}") from error
            except hiredis.ProtocolError as error:
                raise Lost(f"{self._address} does not speak RESP: {error}") from error
            finally:
                if self._unanswered:
                    await self.aclose()  # noqa: ASYNC102 # closes first, and only then looks

    async def _send(self, commands: Sequence[Sequence[Arg]]) -> None:
        self._unanswered = len(commands)
        waiting: list[bytes] = []
        for command in commands:
            packed = _pack(tuple(command))
            waiting.append(packed)
            if len(packed) > JOIN_BYTES:
                await self._stream.send_all(b"".join(waiting))
                waiting = []
        await self._stream.send_all(b"".join(waiting))

    async def _receive(self, count: int) -> list[Reply]:
        replies: list[Reply] = []
        reader, left = self._reader, self._max_reply_bytes
        while True:
            # `False` is what hiredis gives when there is no whole reply yet.
            while (reply := reader.gets()) is not False:
                replies.append(reply)
                self._unanswered -= 1
                if len(replies) == count:
                    return replies
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise Lost(f"{self._address} has closed the connection")
            left -= len(data)
            if left < 0:
                raise Lost(f"{self._address} answers with more than {self._max_reply_bytes} bytes")
            reader.feed(bytes(data))

    async def aclose(self) -> None:
        """Close it at once; who waits for a reply gets `Lost`."""
        self._closed = True
        await trio.aclose_forcefully(self._stream)


async def connect(address: LogAddress, *, ssl_context: ssl.SSLContext | None = None) -> Connection:
    """A connection that is logged in, to the database of the address. Raises `Lost`, and
    `ServerError` for a wrong password or database.
    """
    where = str(address)
    try:
        with trio.fail_after(CONNECT_S):
            stream = await _open(address, ssl_context)
    except trio.TooSlowError:
        raise Lost(f"{where} cannot be reached in {CONNECT_S:g} s", is_sent=False) from None
    except (OSError, trio.BrokenResourceError) as error:
        raise Lost(
            f"{where} cannot be reached: {error.__cause__ or error}", is_sent=False
        ) from error
    connection = Connection(stream, address)
    try:
        await _log_in(connection, address)
    except BaseException as error:
        await connection.aclose()
        if isinstance(error, Lost):
            error.is_sent = False
        raise
    return connection


async def _open(address: LogAddress, ssl_context: ssl.SSLContext | None) -> trio.abc.Stream:
    plain = await trio.open_tcp_stream(address.host, address.port)
    if not address.tls:
        return plain
    context = ssl_context or _context_of(address)
    secure = trio.SSLStream(plain, context, server_hostname=address.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(plain)  # noqa: ASYNC102 # closes first, and only then looks
        raise
    return secure


def _context_of(address: LogAddress) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=address.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise Lost(
            f"{address}: the certificates of {address.ca}: {error}", is_sent=False
        ) from error


async def _log_in(connection: Connection, address: LogAddress) -> None:
    commands: list[tuple[Arg, ...]] = []
    if address.password:
        who = (address.user,) if address.user else ()
        commands.append(("AUTH", *who, address.password))
    if address.database:
        commands.append(("SELECT", address.database))
    commands.append(("CLIENT", "SETNAME", "triode"))
    for reply in await connection.calls(commands):
        if isinstance(reply, ServerError):
            raise reply
