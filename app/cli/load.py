"""`triode load`: a file into the document.

JSON is one write. NDJSON is commands, a line each, sent in chunks of bounded size: each line is
answered for, and whatever ends the work says which lines were not.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec
import trio
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from triode.app.cli.client import REFUSED, Target, server_options
from triode.app.cli.complete import complete_filter
from triode.app.cli.load_report import Line, Report
from triode.app.cli.render import clean, print_json
from triode.app.remote.http_client import CannotConnect, ClientError, HttpClient, Refused

# A chunk is small beside the server's limit for bodies (20 MiB), and takes it well under a second.
CHUNK_LINES: Final = 2000
CHUNK_BYTES: Final = 1_000_000
# The largest line the server could take in its default; more is not read into memory.
MOST_LINE_BYTES: Final = 64 * 1024 * 1024
PIECE_BYTES: Final = 256 * 1024
RETRIES: Final = 20
_FORMATS: Final = {".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_ADVICE: Final = {
    413: "The server's limit for one request is its --max-body-bytes; a document to begin with, of "
    "any size, is given to the server itself: triode serve --load FILE.",
    404: "--create makes what is missing on the way.",
}

Advance = Callable[[int], None]


@click.command(short_help="Load a JSON or NDJSON file, with a progress bar.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--path",
    default=".",
    show_default=True,
    shell_complete=complete_filter,
    help="Where JSON goes.",
)
@click.option("--create", is_flag=True, help="JSON: make missing parents.")
@click.option("--skip", default=0, metavar="N", help="NDJSON: begin after the first N lines.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["json", "ndjson"]),
    help="Format of the file, if its name does not say.",
)
@server_options
def load(target: Target, file: str, path: str, create: bool, skip: int, kind: str | None) -> None:
    """Load FILE: .json sets the value at --path, .ndjson has a command per line; - is
    standard input.

    In NDJSON, each refused line is reported with its number, and the others are carried out. The
    exit status is 1 if a line was refused.

    \b
      triode load document.json
      triode load prices.json --path .prices
      echo '{"type":"set","path":".a","value":1}' | triode load - --format ndjson
    """
    kind = kind or _FORMATS.get(Path(file).suffix.lower())
    if kind is None:
        raise click.UsageError(
            "its name does not say what it is: add --format json or --format ndjson"
        )
    if kind == "json":
        params = [("path", path)] + ([("create", "true")] if create else [])
        target.run(partial(_load_json, target, file, params), advice=_ADVICE)
        return
    report = Report(file, as_json=target.as_json)
    try:
        with click.open_file(file, "rb") as source:
            target.run(partial(_load_lines, source, skip, report), advice=_ADVICE)
    except SystemExit:  # it was said why
        report.stopped()
        raise
    report.finish()
    if report.refused:
        sys.exit(REFUSED)


# ---- JSON ----


async def _load_json(
    target: Target, file: str, params: list[tuple[str, str]], client: HttpClient
) -> None:
    with click.open_file(file, "rb") as source:
        size = _size_of(source)
        with _progress(file, size) as advance:
            response = await client.request(
                "PUT",
                "/store",
                params=params,
                content=_pieces(source, advance),
                headers={} if size is None else {"Content-Length": str(size)},
            )
    if target.as_json:
        print_json(response.content, compact=True)
    else:
        click.echo(f"ok, at {response.json()['id']}")


async def _pieces(source: IO[bytes], advance: Advance) -> AsyncIterator[bytes]:
    read = partial(source.read, PIECE_BYTES)
    while piece := await trio.to_thread.run_sync(read, abandon_on_cancel=True):
        yield piece
        advance(len(piece))


# ---- NDJSON ----


async def _load_lines(source: IO[bytes], skip: int, report: Report, client: HttpClient) -> None:
    size = _size_of(source)
    chunks = chunks_of(source, skip)
    with _progress(report.name, size) as advance:
        while chunk := await trio.to_thread.run_sync(next, chunks, None, abandon_on_cancel=True):
            lines, consumed = chunk
            if lines:
                await _send(client, lines, report)
            advance(consumed)


async def _send(client: HttpClient, lines: list[Line], report: Report) -> None:
    """Send one chunk and account for each of its lines."""
    report.sending(lines)
    try:
        response = await _post(client, b"\n".join(line.text for line in lines))
    except ClientError as exc:
        if not getattr(exc, "in_doubt", False):
            report.not_sent()
        raise
    answers = [msgspec.json.decode(text) for text in response.content.splitlines()]
    report.answered(answers)
    if len(answers) < len(lines):
        raise CannotConnect("the server did not answer for all lines", in_doubt=True)


async def _post(client: HttpClient, body: bytes) -> Any:
    """One chunk, sent again as long as the server says that it was too early for it."""
    for attempt in range(RETRIES):
        try:
            return await client.request(
                "POST", "/store/batch", content=body, content_type="application/x-ndjson"
            )
        except Refused as exc:
            # 429 and 503 are said before anything is run.
            if exc.status not in (429, 503) or exc.retry_after_s is None or attempt == RETRIES - 1:
                raise
            await trio.sleep(exc.retry_after_s)
    raise AssertionError("the last attempt raises or returns")


def chunks_of(source: IO[bytes], skip: int) -> Iterator[tuple[list[Line], int]]:
    """The lines of a file in chunks, with the bytes that each chunk takes from it."""
    lines: list[Line] = []
    held = consumed = number = 0
    while text := source.readline(MOST_LINE_BYTES):
        if len(text) == MOST_LINE_BYTES:
            raise click.UsageError(
                f"line {number + 1} is longer than {MOST_LINE_BYTES} bytes: is this NDJSON?"
            )
        number += 1
        consumed += len(text)
        if number > skip and (bare := text.strip()):
            lines.append(Line(number, bare))
            held += len(bare) + 1
        if held >= CHUNK_BYTES or len(lines) >= CHUNK_LINES:
            yield lines, consumed
            lines, held, consumed = [], 0, 0
    if consumed:
        yield lines, consumed


# ---- progress ----


def _size_of(source: IO[bytes]) -> int | None:
    """The bytes of a file; None for what is no file."""
    try:
        size = source.seek(0, 2)
        source.seek(0)
    except (OSError, ValueError):
        return None
    return size


@contextmanager
def _progress(name: str, size: int | None) -> Iterator[Advance]:
    """A bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        expand=True,
    )
    with bar:
        task: TaskID = bar.add_task(clean(Path(name).name), total=size)
        yield partial(bar.advance, task)
