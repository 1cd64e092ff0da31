"""A sensor board: somebody's own Quart-Trio application, with Triode inside under /live.

Run `python -m examples.embedded` or `hypercorn -k trio examples.embedded:app`; then look at
http://127.0.0.1:8000/, or `curl -N 'http://127.0.0.1:8000/live/events?filter=.sensors'`.
"""

import random

import trio
from quart import request
from quart_trio import QuartTrio

from triode import attach
from triode.app.config.settings import Settings
from triode.app.service.triode import Triode
from triode.store.path import format_path

PAGE = """<!doctype html><title>Sensors</title><pre id=board></pre><b id=note></b><script>
const board = {}, stream = new EventSource('live/events?filter=.sensors.*&room=alarms')
const show = (id, text) => document.getElementById(id).textContent = text
const set = item => { board[item.path] = item.value; show('board', JSON.stringify(board, null, 2)) }
stream.addEventListener('snapshot', event => JSON.parse(event.data).items.forEach(set))
stream.addEventListener('update', event => set(JSON.parse(event.data)))
stream.addEventListener('message', event => show('note', JSON.parse(event.data).data))
</script>"""

app = QuartTrio(__name__)
triode = Triode(Settings(), {"sensors": {}, "limits": {"t1": 22}})
attach(app, triode, url_prefix="/live")
reading = trio.CancelScope()


@app.before_serving
async def start() -> None:
    app.nursery.start_soon(read_sensors)


@app.after_serving
async def stop() -> None:
    reading.cancel()  # or the nursery waits some seconds for it


async def read_sensors() -> None:
    """Real ones would be awaited here. What gets too hot is told to the room."""
    with reading:
        while True:
            for name in ("t1", "t2"):
                value = round(random.gauss(20, 2), 1)
                await triode.set(f".sensors.{name}", value)
                limit = triode.store.document.get(("limits", name))
                if isinstance(limit, int) and value > limit:
                    triode.publish(rooms=["alarms"], event="hot", data=f"{name}: {value}")
            await trio.sleep(1)


@app.get("/")
async def page() -> str:
    return PAGE


@app.post("/limits/<name>/<int(signed=True):degrees>")
async def warn_above(name: str, degrees: int) -> dict[str, str]:
    return {"id": str(await triode.set(format_path(("limits", name)), degrees))}


@app.errorhandler(404)
async def nothing_here(_error: Exception) -> tuple[str, int]:
    return f"the sensor board has no page {request.path}\n", 404


if __name__ == "__main__":
    app.run(port=8000)
