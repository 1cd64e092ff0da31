"""Which server is the primary: the Sentinels that watch over it are asked, for each connection."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from triode.app.log.shared.resp import Lost, ServerError, connect

if TYPE_CHECKING:
    from triode.app.config.log_address import LogAddress
    from triode.app.log.shared.resp import Connection


async def primary_of(address: LogAddress) -> LogAddress:
    """Where the server is that keeps the log now: the address itself, unless it names Sentinels.
    The first that knows it is believed. Raises `Lost`.
    """
    why = ""
    for host, port in address.sentinels:
        sentinel = replace(
            address, host=host, port=port, sentinels=(), database=0, user="", password=""
        )
        try:
            found = await _ask(sentinel, address.primary)
        except (Lost, ServerError) as error:
            why = str(error)
            continue
        if found is not None:
            return replace(address, host=found[0], port=found[1], sentinels=())
        why = f"the Sentinel {host}:{port} knows no primary called {address.primary}"
    if address.sentinels:
        raise Lost(f"{address}: no Sentinel says where the primary is: {why}", is_sent=False)
    return address


async def _ask(sentinel: LogAddress, primary: str) -> tuple[str, int] | None:
    connection = await connect(sentinel)
    try:
        reply = await connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", primary)
    finally:
        await connection.aclose()  # noqa: ASYNC102 # closes first, and only then looks
    return (reply[0].decode(), int(reply[1])) if reply else None


async def connect_primary(address: LogAddress) -> Connection:
    """As `connect`, to the primary. A Sentinel may be slow to learn of another one, so the server
    is asked itself. Raises `Lost` and `ServerError`.
    """
    found = await primary_of(address)
    connection = await connect(found)
    if not address.sentinels:
        return connection
    try:
        role = (await connection.call("ROLE"))[0]
        if role != b"master":
            raise Lost(f"{found} is a {role.decode()}, not the primary", is_sent=False)
    except BaseException:
        await connection.aclose()
        raise
    return connection
