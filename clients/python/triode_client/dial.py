"""A stream of bytes to the server: TCP, and TLS where the URL says so."""

from __future__ import annotations

import ssl
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketStream
from anyio.streams.tls import TLSStream

from .errors import CannotConnect
from .options import Options
from .target import Target

# Closing takes no time: what is not sent yet is given up. This is for a library that has a fault.
ABORT_S: Final = 1.0


async def dial(target: Target, options: Options) -> ByteStream:
    """Connect. Raises `CannotConnect`; cancelled, nothing is left open."""
    try:
        tcp = await anyio.connect_tcp(target.host, target.port)
    except OSError as exc:
        why = exc.__cause__ or exc
        raise CannotConnect(f"cannot connect to {target.authority}: {why}") from exc
    return await _wrap(tcp, target, options) if target.is_tls else tcp


async def _wrap(tcp: SocketStream, target: Target, options: Options) -> ByteStream:
    context = options.ssl_context or ssl.create_default_context()
    try:
        return await TLSStream.wrap(
            tcp, hostname=target.host, ssl_context=context, standard_compatible=False
        )
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as exc:
        await abort(tcp)  # noqa: ASYNC120 # shielded within, with a deadline
        raise CannotConnect(f"no TLS with {target.authority}: {exc.__cause__ or exc}") from exc
    except BaseException:
        await abort(tcp)  # noqa: ASYNC102 # shielded within, with a deadline
        raise


async def abort(stream: ByteStream) -> None:
    """Close at once; twice does no harm. Not to be cancelled: the socket would stay open."""
    while isinstance(stream, TLSStream):
        stream = stream.transport_stream  # type: ignore[assignment] # one of bytes, as we made it
    with anyio.move_on_after(ABORT_S, shield=True):
        await stream.aclose()
