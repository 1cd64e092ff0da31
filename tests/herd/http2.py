"""The same EventSource over HTTP/2 without TLS, as between a browser and its proxy: one connection
that stays while streams come and go.
"""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import trio

from tests.herd.event_source import PIECE_BYTES, Body, EventSource


class Http2EventSource(EventSource):
    """One client, with a connection of its own."""

    _stream: trio.SocketStream | None = None
    _h2: h2.connection.H2Connection

    async def _connect(self) -> bool:
        if self._stream is None:
            self._stream = await trio.open_tcp_stream("127.0.0.1", self._port)
            self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            self._h2.initiate_connection()
        number = self._h2.get_next_available_stream_id()
        fields = [(name.lower(), value) for name, value in self._fields()]
        pseudo = [(":method", "GET"), (":scheme", "http"), (":path", self._path)]
        self._h2.send_headers(
            number, [*pseudo, (":authority", "localhost"), *fields], end_stream=True
        )
        try:
            return await self._follow(self._stream, number)
        except BaseException:
            await trio.aclose_forcefully(self._stream)
            self._stream = None
            raise

    async def _follow(self, stream: trio.SocketStream, number: int) -> bool:
        body, text = Body(), b""
        while True:
            await stream.send_all(self._h2.data_to_send())
            data = await stream.receive_some(PIECE_BYTES)
            if not data:
                raise trio.BrokenResourceError("the connection ended")
            for event in self._h2.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self._h2.acknowledge_received_data(event.flow_controlled_length, number)
                    text = self._take_lines(text + body.feed(event.data))
                elif isinstance(event, h2.events.ResponseReceived):
                    head = {name.decode(): value.decode() for name, value in event.headers}
                    if not self._is_stream(head[":status"], head):
                        return False
                elif isinstance(event, h2.events.StreamEnded):
                    return True
                elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                    raise trio.BrokenResourceError("the stream was reset")
