"""A job queue with a progress view.

    POST /jobs {"name": "…", "steps": 20}    queues a job; its id
    DELETE /jobs/ID                          cancels it

Three workers take jobs in order. Each job is state in `.jobs.ID`: whoever watches sees it queued,
run and end; nobody has to ask.

Run `python -m examples.jobs`, and open http://127.0.0.1:8000/.
"""

from collections import deque
from typing import Any

import trio
from quart import request

from examples.site import main, make_site, run_with
from triode.store.operation import Delete, Merge, Set

WORKERS, WAITING, KEPT, STEP_S = 3, 100, 20, 0.2

app, triode = make_site("jobs.html", {"jobs": {}})
give, take = trio.open_memory_channel[tuple[str, int]](WAITING)
scopes: dict[str, trio.CancelScope] = {}
ended: deque[str] = deque()
last_id = 0


async def tell(job: str, **members: Any) -> None:
    """Change some members of a job."""
    await triode.write(Merge(("jobs", job), members))


async def work() -> None:
    """A worker: one job after the other."""
    async for job, steps in take:
        with scopes[job]:
            await tell(job, state="running")
            for step in range(1, steps + 1):
                await trio.sleep(STEP_S)  # the work itself
                await tell(job, done=step)
        await tell(job, state="cancelled" if scopes.pop(job).cancelled_caught else "done")
        ended.append(job)
        while len(ended) > KEPT:
            await triode.write(Delete(("jobs", ended.popleft())))


async def work_all() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(work)


@app.post("/jobs")
async def queue() -> tuple[dict[str, str], int]:
    global last_id
    match await request.get_json():
        case {"name": str(name), "steps": int(steps)} if len(name) <= 80 and 1 <= steps <= 1000:
            pass
        case _:
            return {"error": "name: a text of up to 80 characters; steps: 1 to 1000"}, 400
    last_id += 1
    job = f"j{last_id}"
    state = {"name": name, "state": "queued", "done": 0, "steps": steps}
    # Before a worker can have it: with a log a write takes its time.
    await triode.write(Set(("jobs", job), state))
    scopes[job] = trio.CancelScope()
    try:
        give.send_nowait((job, steps))
    except trio.WouldBlock:
        del scopes[job]
        await triode.write(Delete(("jobs", job)))
        return {"error": "the queue is full"}, 503
    return {"id": job}, 202


@app.delete("/jobs/<job>")
async def cancel(job: str) -> tuple[dict[str, str], int]:
    if job not in scopes:
        return {"error": "no such job, or it has ended"}, 404
    scopes[job].cancel()
    return {"id": job}, 202


run_with(app, work_all)

if __name__ == "__main__":
    main(app, __doc__)
