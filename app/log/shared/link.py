"""The two connections of a node to the server of its log: one for commands, one that waits for
entries. And whether a server is fit to keep a log.
"""

from __future__ import annotations

import hashlib
import logging
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from triode.app.log.log import LogRefused
from triode.app.log.shared.recent import LogEntry
from triode.app.log.shared.resp import ServerError, connect
from triode.app.log.shared.scripts import script
from triode.app.log.shared.sentinel import connect_primary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from triode.app.config.log_address import LogAddress
    from triode.app.log.shared.calls import Kept
    from triode.app.log.shared.resp import Arg, Connection, Reply
    from triode.app.log.shared.scripts import Name

log = logging.getLogger("triode")

# Entries of one read, and how long it waits for the first.
READ_ENTRIES: Final = 200
READ_WAIT_MS: Final = 250
OLDEST: Final = 7


class Keys:
    """Where a document is kept; all in one slot."""

    def __init__(self, name: str) -> None:
        self._prefix = f"tri:{{{name}}}:"
        self.log = f"{self._prefix}log"
        self.nodes = f"{self._prefix}nodes"
        # Node → what it tells of itself, for people.
        self.reports = f"{self._prefix}reports"
        self.own = (f"{self._prefix}meta", self.log, self.nodes, f"{self._prefix}bids")

    def box(self, node: str) -> str:
        """Letters for a node."""
        return f"{self._prefix}box:{node}"

    def piece(self, snapshot: int | str, number: int) -> str:
        """A piece of a snapshot."""
        return f"{self._prefix}snap:{snapshot}:{number}"

    def pieces(self, snapshot: Kept | None) -> list[str]:
        """All pieces of a snapshot; none of none."""
        if snapshot is None:
            return []
        return [self.piece(snapshot.id, number) for number in range(snapshot.pieces)]


class Link:
    """Both connections, to one server. Raises `Lost` and `ServerError`; after either it is of no
    use any more, but for an `OOM`.
    """

    def __init__(self, commands: Connection, tail: Connection, keys: Keys) -> None:
        self.commands = commands
        self._tail = tail
        self._keys = keys

    async def run(self, name: Name, args: Sequence[Arg], keys: Sequence[str] = ()) -> Reply:
        """A script; its reply."""
        return await run_script(self.commands, self._keys, name, args, keys)

    async def read(self, after: str) -> list[tuple[str, LogEntry]]:
        """Entries behind the id `after`, each with its own. None, when none came for a while."""
        reply = await self._tail.call(
            "XREAD", "COUNT", READ_ENTRIES, "BLOCK", READ_WAIT_MS, "STREAMS", self._keys.log, after
        )
        return entries_of(reply[0][1]) if reply else []


async def run_script(
    connection: Connection, keys: Keys, name: Name, args: Sequence[Arg], more: Sequence[str] = ()
) -> Reply:
    """By its hash; a server that does not know it gets the text. Raises `Lost`, `ServerError`."""
    rest = (len(keys.own) + len(more), *keys.own, *more, *args)
    text = script(name)
    try:
        return await connection.call("EVALSHA", _sha1(text), *rest)
    except ServerError as error:
        if error.code != "NOSCRIPT":
            raise
    return await connection.call("EVAL", text, *rest)


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def entries_of(reply: Reply) -> list[tuple[str, LogEntry]]:
    """Of a part of the stream, as XREAD and XRANGE give it."""
    found: list[tuple[str, LogEntry]] = []
    for id_, fields in reply:
        term, _, seq = id_.partition(b"-")
        nonce, ops, time_ms, epoch, body = fields[1::2]
        entry = LogEntry(
            int(term), int(seq), nonce.decode(), int(ops), int(time_ms), epoch.decode(), body
        )
        found.append((id_.decode(), entry))
    return found


@asynccontextmanager
async def linked(address: LogAddress, keys: Keys) -> AsyncIterator[Link]:
    """A link to the server at this address; closed at once when it is left."""
    commands = await connect_primary(address)
    try:
        # The same server, whatever a Sentinel says meanwhile.
        tail = await connect(commands.address)
        try:
            yield Link(commands, tail, keys)
        finally:
            await tail.aclose()  # noqa: ASYNC102 # closes first, and only then looks
    finally:
        await commands.aclose()  # noqa: ASYNC102 # as above


# ── is it fit? ──────────────────────────────────────────────────────────────────────────────────


async def require_fit(link: Link, address: LogAddress) -> None:
    """Raises `LogRefused` for a server that could lose a log or cannot keep one. What only makes
    it less safe is warned of.
    """
    info = _info(await link.commands.call("INFO"))
    name, version = "Valkey", info.get("valkey_version", "")
    if not version:
        name, version = "Redis", info.get("redis_version", "0")
    if int(version.partition(".")[0] or 0) < OLDEST:
        raise LogRefused(f"{address} is {name} {version}; Triode needs Valkey, or Redis 7 or newer")
    if info.get("cluster_enabled") == "1":
        raise LogRefused(
            f"{address} is a node of a {name} Cluster, which Triode does not use: give it a server "
            "of its own (with replicas, if you like)"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise LogRefused(
            f"{address} throws keys away when its memory is full (maxmemory-policy {policy}): it "
            "could delete the log. Set maxmemory-policy noeviction"
        )
    if "master_replid" not in info:
        raise LogRefused(
            f"{address} does not say which server it is (master_replid in INFO replication): "
            "Triode could not tell when it has lost something"
        )
    if info.get("aof_enabled") != "1":
        log.warning(
            "%s keeps no file (appendonly no): if it and all Triodes end at once, the document is "
            "what its last saved file has. Set appendonly yes",
            address,
        )
    if int(info.get("connected_slaves", "0")) and info.get("min_slaves_good_slaves") is None:
        log.warning(
            "%s takes writes that none of its replicas has (min-replicas-to-write 0): in a split "
            "both sides acknowledge. Set min-replicas-to-write 1 and min-replicas-max-lag 10",
            address,
        )


def _info(reply: bytes) -> dict[str, str]:
    pairs = re.findall(rb"^(\w+):([^\r\n]*)", reply, re.MULTILINE)
    return {name.decode(): value.decode("utf-8", "replace") for name, value in pairs}
