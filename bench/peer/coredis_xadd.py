"""`coredis_xadd.py PORT SECONDS`: what a plain client adds to a stream in pipelines of 100,
as JSON: `{"per_s": …, "cpu_us": …}`.
"""

from __future__ import annotations

import json
import sys
import time

import coredis
import trio

BODY = b'{"time_ms":1767225600000,"op":{"op":"set","path":["w"],"value":17},"by":"anonymous"}'
LINES = 100


async def main(port: int, seconds: float) -> None:
    added = 0
    async with coredis.Redis(host="127.0.0.1", port=port) as client:
        began, cpu_s = time.perf_counter(), time.process_time()
        while time.perf_counter() < began + seconds:
            async with client.pipeline(transaction=False) as pipe:
                for _ in range(LINES):
                    pipe.xadd("bench", field_values={"b": BODY})
            added += LINES
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    print(json.dumps({"per_s": added / took_s, "cpu_us": 1e6 * cpu_s / added}))


trio.run(main, int(sys.argv[1]), float(sys.argv[2]))
