"""`triode load`: every line is sent once and accounted for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.app.fake_server import FakeServer, problem
from triode.app.cli import load as load_module
from triode.app.cli.load import chunks_of

Reply = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def ndjson(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        file = tmp_path / "x.ndjson"
        file.write_text(text)
        return str(file)

    return write


def answering(refuse: str = "", batches: list[str] | None = None) -> Reply:
    """Answers a batch as the server does; lines that contain `refuse` are refused."""

    def answer(request: httpx.Request) -> httpx.Response:
        lines = request.content.decode().splitlines()
        if batches is not None:
            batches.append(request.content.decode())
        answers = [
            {"ok": False, "error": {"title": "No", "detail": f"not {line}", "line": 99}}
            if refuse and refuse in line
            else {"ok": True, "id": "e:1"}
            for line in lines
        ]
        return httpx.Response(200, content="".join(json.dumps(one) + "\n" for one in answers))

    return answer


def test_json_is_one_write(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"a": 1.0}')
    server.answer = httpx.Response(200, json={"id": "e:7"})
    result = server.triode("load", str(file), "--path", ".p", "--create")
    assert (result.exit_code, result.stdout) == (0, "ok, at e:7\n")
    assert server.asked == ("PUT", "/store?path=.p&create=true")
    (request,) = server.requests
    assert request.content == b'{"a": 1.0}'
    assert request.headers["Content-Length"] == "10"
    assert "Transfer-Encoding" not in request.headers


def test_what_is_too_large_is_told_the_way(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("1")
    server.answer = problem(413, "too large")
    result = server.triode("load", str(file))
    assert result.exit_code == 1
    assert "triode serve --load" in result.stderr


def test_lines_go_in_chunks_and_blank_ones_nowhere(
    server: FakeServer, ndjson: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "CHUNK_LINES", 2)
    batches: list[str] = []
    server.answer = answering(batches=batches)
    result = server.triode("load", ndjson("1\n\n2\r\n  \n3\n4\n5"))
    assert (result.exit_code, result.stdout) == (0, "5 done\n")
    assert batches == ["1\n2", "3\n4", "5"]
    assert server.requests[0].headers["Content-Type"] == "application/x-ndjson"


def test_a_refused_line_has_its_number_in_the_file(
    server: FakeServer, ndjson: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "CHUNK_LINES", 2)
    server.answer = answering(refuse="x")
    file = ndjson("1\n\n2\n3\nx4\n5\nx6\n")
    result = server.triode("load", file)
    assert (result.exit_code, result.stdout) == (1, "4 done, 2 refused\n")
    assert result.stderr == "x.ndjson:5: No: not x4\nx.ndjson:7: No: not x6\n"
    result = server.triode("load", file, "--json")
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"line": 5, "error": {"title": "No", "detail": "not x4"}},
        {"line": 7, "error": {"title": "No", "detail": "not x6"}},
        {"done": 4, "refused": 2},
    ]


def test_what_a_batch_within_a_line_lost_is_told(
    server: FakeServer, ndjson: Callable[[str], str]
) -> None:
    errors = [{"index": 1, "title": "No", "detail": "why"}]
    answer = {"ok": True, "positions": ["e:1", None], "errors": errors}
    server.answer = httpx.Response(200, content=json.dumps(answer))
    result = server.triode("load", ndjson("{}"))
    assert (result.exit_code, result.stdout) == (1, "0 done, 1 refused\n")
    assert result.stderr == "x.ndjson:1: No: why (operation 1)\n"


def test_standard_input_and_a_beginning_that_is_skipped(server: FakeServer) -> None:
    batches: list[str] = []
    server.answer = answering(batches=batches)
    result = server.triode("load", "-", "--format", "ndjson", "--skip", "2", stdin="1\n2\n3\nx\n")
    assert result.stdout == "2 done\n"
    assert batches == ["3\nx"]


def test_too_early_is_tried_again(server: FakeServer, ndjson: Callable[[str], str]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if len(server.requests) < 3:
            refusal = problem(429, "too many")
            refusal.headers["Retry-After"] = "0"
            return refusal
        return answering()(request)

    server.answer = answer
    result = server.triode("load", ndjson("1\n2\n"))
    assert result.stdout == "2 done\n"
    assert [request.content for request in server.requests] == [b"1\n2"] * 3


def test_a_server_that_stays_busy_is_given_up(
    server: FakeServer, ndjson: Callable[[str], str]
) -> None:
    refusal = problem(503, "shutting down")
    refusal.headers["Retry-After"] = "0"
    server.answer = refusal
    assert server.triode("load", ndjson("1\n")).exit_code == 1
    assert len(server.requests) == load_module.RETRIES


@pytest.mark.parametrize("broken", ["connection", "answer"])
def test_lines_in_doubt_are_named(
    server: FakeServer,
    ndjson: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    monkeypatch.setattr(load_module, "CHUNK_LINES", 2)

    def answer(request: httpx.Request) -> httpx.Response:
        if len(server.requests) < 2:
            return answering()(request)
        if broken == "connection":
            raise httpx.ReadError("reset")
        return httpx.Response(200, content='{"ok":true}\n')

    server.answer = answer
    file = ndjson("1\n\n2\n3\n4\n")
    result = server.triode("load", file)
    assert result.exit_code == 3
    first = 4 if broken == "connection" else 5
    assert f"Lines {first} to 5 may have been done or not." in result.stderr
    # On from behind the last line whose fate is known; line 2 is blank.
    assert f"go on with --skip {first - 1}." in result.stderr
    assert result.stdout == ("2 done\n" if broken == "connection" else "3 done\n")
    assert len(server.requests) == 2
    server.requests.clear()
    report = json.loads(server.triode("load", file, "--json").stdout.splitlines()[-1])
    assert report["in_doubt"] == [first, 5]
    assert report["skip"] == first - 1


def test_lines_that_were_never_sent_are_in_no_doubt(
    server: FakeServer, ndjson: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "CHUNK_LINES", 2)

    def answer(request: httpx.Request) -> httpx.Response:
        if len(server.requests) < 2:
            return answering()(request)
        raise httpx.ConnectError("refused")

    server.answer = answer
    result = server.triode("load", ndjson("1\n2\n3\n"))
    assert result.exit_code == 3
    assert "Go on with --skip 2." in result.stderr
    assert "may be done" not in result.stderr
    # A token that has ended: nothing of that request was done.
    server.requests.clear()
    server.answer = problem(401, "ended")
    result = server.triode("load", ndjson("1\n2\n3\n"), "--skip", "1")
    assert (result.exit_code, result.stdout) == (1, "0 done\n")
    assert "Go on with --skip 1." in result.stderr


def test_an_interrupt_says_how_far_it_came(
    server: FakeServer, ndjson: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "CHUNK_LINES", 2)

    def answer(request: httpx.Request) -> httpx.Response:
        if len(server.requests) < 2:
            return answering()(request)
        raise KeyboardInterrupt

    server.answer = answer
    result = server.triode("load", ndjson("1\n2\n3\n"))
    assert (result.exit_code, result.stdout) == (130, "2 done\n")
    assert "Lines 3 to 3 may have been done or not." in result.stderr


def test_chunks_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "CHUNK_BYTES", 10)
    found = list(chunks_of(io.BytesIO(b"aaaa\nbbbb\nc\n" + b"d" * 50 + b"\ne"), 0))
    assert [[line.text for line in lines] for lines, _ in found] == [
        [b"aaaa", b"bbbb"],
        [b"c", b"d" * 50],
        [b"e"],
    ]
    assert sum(taken for _, taken in found) == 12 + 51 + 1


def test_a_file_without_lines_is_refused(
    server: FakeServer, ndjson: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "MOST_LINE_BYTES", 8)
    result = server.triode("load", ndjson("1\n" + "2" * 20))
    assert (result.exit_code, server.requests) == (2, [])
    assert "line 2" in result.stderr


def test_json_comes_from_standard_input_too(server: FakeServer) -> None:
    server.answer = httpx.Response(200, json={"id": "e:7"})
    result = server.triode("load", "-", "--format", "json", stdin="[1, 2]")
    assert (result.exit_code, server.requests[0].content) == (0, b"[1, 2]")
