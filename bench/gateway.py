"""`gateway`: the k6 scenario of wsgateway. 100 clients, each for 5 to 40 s, say `ping` and "hello"
every 1 to 3 s; a worker sends "routine message" to all of them by tag, again as soon as it is
answered.
"""

from __future__ import annotations

from typing import Any, Final

from bench.machine import build, load, serving, triode
from bench.report import OTHERS, OURS, bars, chart, keep, middle, progress, spread, table

# What wsgateway's README prints; its machine, not ours.
WSGATEWAY_PER_S: Final = 164_212


def run(*, quick: bool = False, repeats: int = 3) -> list[dict[str, Any]]:
    """Measure, print, keep, draw."""
    build()
    seconds, repeats = (3.0, 1) if quick else (20.0, min(repeats, 2))
    results: list[dict[str, Any]] = []
    with progress() as shown:
        task = shown.add_task("gateway", total=repeats)
        for _ in range(repeats):
            command, port = triode("--admin-token", "bench-bench-bench-bench-bench-bench")
            with serving(command, port) as server:
                results.append(
                    load(
                        "gateway",
                        server,
                        clients=100,
                        seconds=seconds,
                        transport="ws",
                        path="/ws?tag.app=bench&snapshot=none&filter=.none",
                        header="Authorization: Bearer bench-bench-bench-bench-bench-bench\r\n",
                        pub_path="POST /connections/send?tag.app=bench",
                        pub_text='{"type":"publish","room":"hall","event":"hello","data":"hello"}',
                        body='{"text":"routine message"}',
                    )
                )
            shown.advance(task)
    table(
        "100 clients, a worker that sends to all",
        ["received/s", "sends", "failed", "send ms p50", "p99", "said", "sessions", "CPU"],
        [
            [
                spread([r["per_s"] for r in results]),
                spread([r["sends"] for r in results]),
                str(sum(r["failed"] for r in results)),
                spread([r["send"]["p50"] for r in results]),
                spread([r["send"]["p99"] for r in results]),
                spread([r["said"] for r in results]),
                spread([r["sessions"] for r in results]),
                f"{middle([r['cpu'] for r in results]):.2f}",
            ]
        ],
    )
    keep("gateway", results)
    values = [middle([r["per_s"] for r in results]), WSGATEWAY_PER_S]
    chart("gateway", lambda figure: _draw(figure, values), size=(8.4, 2.6))
    return results


def _draw(figure: Any, values: list[float]) -> None:
    axes = figure.subplots()
    names = ["Triode, here", "wsgateway, as its README prints"]
    bars(axes, names, values, [OURS, OTHERS], "messages received per second")
    axes.set_title("wsgateway's k6 scenario", loc="left", fontsize=11)
