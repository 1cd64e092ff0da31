# mypy: ignore-errors
# (It runs in the peers' environment, whose packages are not here.)
"""uWebSockets through socketify: its own publish/subscribe, in C++."""

import sys

from socketify import App, CompressOptions, OpCode

app = App()


def opened(ws):
    ws.subscribe("bench")


def message(ws, text, opcode):
    ws.publish("bench", text, OpCode.TEXT)


app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1 << 20,
        "max_backpressure": 64 << 20,
        "idle_timeout": 120,
        "open": opened,
        "message": message,
    },
)
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: None)
app.run()
