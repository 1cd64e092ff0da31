"""What a native EventSource does at the stream of `.n`: it comes back with the last id it has seen,
after as long as it was told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import trio


@dataclass
class EventSource:
    """`values` is all that it saw; of each connection `resumed` says how it began, and `nodes` with
    whom. Any status but 200 fails: it would close a browser's for good. `retry_s`: None is as told.
    """

    port: int
    retry_s: float | None = None
    values: list[int] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    _last_id: str = ""
    _told_s: float = 1.0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._connection()
            except (OSError, trio.BrokenResourceError):
                pass
            await trio.sleep(self._told_s if self.retry_s is None else self.retry_s)

    def is_connected(self) -> bool:
        """Whether it has ever been."""
        return bool(self.nodes)

    async def _connection(self) -> None:
        last = f"Last-Event-ID: {self._last_id}\r\n" if self._last_id else ""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            # Of HTTP/1.0 the body has no chunks.
            await stream.send_all(
                f"GET /events?filter=.n HTTP/1.0\r\nHost: localhost\r\n{last}"
                "Accept: text/event-stream\r\n\r\n".encode()
            )
            data = b""
            async for some in stream:
                *blocks, data = (data + some).replace(b"\r\n", b"\n").split(b"\n\n")
                for block in blocks:
                    self._take(block.decode())

    def _take(self, block: str) -> None:
        if block.startswith("HTTP/"):
            assert block.split()[1] == "200", block
            return
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        self._last_id = fields.get("id", self._last_id)
        if "retry" in fields:
            self._told_s = int(fields["retry"]) / 1000
        body = json.loads(fields.get("data", "{}"))
        match fields.get("event"):
            case "connected":
                self.resumed.append(body["resumed"])
                self.nodes.append(body["client"].split("_")[1])
            case "snapshot":
                self.values += [item["value"] for item in body["items"]]
            case "update":
                self.values.append(body["value"])
