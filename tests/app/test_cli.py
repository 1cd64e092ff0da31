"""The command line against a server that is a function: what is sent, printed, and returned.

How `triode watch` reconnects is in test_watch.py.
"""

from __future__ import annotations

import json
import os
import pty
import resource
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner

from tests.app.fake_server import SECRET, FakeServer, problem
from triode.app.cli import main
from triode.app.cli.banner import OpenFiles, banner, url_of
from triode.app.cli.event_line import EventPrinter
from triode.app.cli.render import clean, escape, print_json
from triode.app.cli.serve import raise_open_files
from triode.app.config.loading import load
from triode.app.config.settings import Settings
from triode.app.remote.http_client import HttpClient
from triode.app.wire.sse_parser import StreamEvent


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def position(text: str = "e:7") -> httpx.Response:
    return httpx.Response(200, json={"id": text})


# ---- values ----


def test_get_prints_the_value_as_it_came(server: FakeServer) -> None:
    server.answer = httpx.Response(200, content=b'{"b":1.0,"a":12345678901234567890}')
    result = server.triode("get", ".x")
    assert server.asked == ("GET", "/store?path=.x")
    assert (result.exit_code, result.stdout) == (0, '{"b":1.0,"a":12345678901234567890}\n')


def test_get_without_a_path_is_the_root(server: FakeServer) -> None:
    server.triode("get")
    assert server.asked == ("GET", "/store?path=.")


@pytest.mark.parametrize(
    "text", ["1", "-5", "-1.5e3", "true", "null", '"x"', '{"a": [1]}', " 7 ", '{"a":1,"a":2}']
)
def test_json_is_sent_as_it_was_typed(server: FakeServer, text: str) -> None:
    server.answer = position()
    result = server.triode("set", ".a", text)
    (request,) = server.requests
    assert (request.method, request.content) == ("PUT", text.encode())
    assert request.headers["Content-Type"] == "application/json"
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok, at e:7\n", "")


@pytest.mark.parametrize("text", ["hello", "NaN", "-Infinity", "1,5", "Grüße", "[" * 100_000])
def test_what_is_not_json_is_a_text_and_that_is_said(server: FakeServer, text: str) -> None:
    server.answer = position()
    result = server.triode("set", ".a", text)
    assert json.loads(server.requests[0].content) == text
    assert result.stderr.startswith("note: ")


def test_a_text_that_begins_like_json_is_doubted(server: FakeServer) -> None:
    server.answer = position()
    assert "missing?" in server.triode("set", ".a", '{"a": 1').stderr


@pytest.mark.parametrize(("stdin", "body"), [('{"a":1}\n', b'{"a":1}'), ("hello\n", b'"hello"')])
def test_a_dash_reads_standard_input(server: FakeServer, stdin: str, body: bytes) -> None:
    server.answer = position()
    assert server.triode("set", ".a", "-", stdin=stdin).exit_code == 0
    assert server.requests[0].content == body


def test_a_path_is_quoted_in_the_url(server: FakeServer) -> None:
    server.answer = position()
    server.triode("set", '.a["&=%é"]', "1", "--create")
    assert server.requests[0].url.params.multi_items() == [
        ("path", '.a["&=%é"]'),
        ("create", "true"),
    ]


def test_merge_and_delete_and_conditions(server: FakeServer) -> None:
    server.answer = position()
    server.triode("merge", ".a", '{"b":null}', "--if", "e:5")
    assert server.triode("delete", ".a", "--if", "e:6", "--json").stdout == '{"id":"e:7"}\n'
    merge, delete = server.requests
    assert merge.method == "PATCH"
    assert merge.headers["Content-Type"] == "application/merge-patch+json"
    assert merge.headers["If-Match"] == '"e:5"'
    assert (delete.method, delete.headers["If-Match"]) == ("DELETE", '"e:6"')


# ---- refusals ----


def test_a_refusal_says_what_and_where(server: FakeServer) -> None:
    server.answer = problem(400, "malformed filter", column=4, filter=".x[")
    result = server.triode("get", ".x[")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "No: malformed filter\n  .x[\n     ^\n"


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "TRIODE_TOKEN"), (403, "token that may"), (412, "Read it again"), (404, "--create")],
)
def test_a_refusal_says_what_to_do(server: FakeServer, status: int, advice: str) -> None:
    server.answer = problem(status, "no")
    assert advice in server.triode("set", ".a", "1").stderr


def test_a_token_that_does_not_hold_is_not_asked_for_again(server: FakeServer) -> None:
    server.answer = problem(401, "no")
    assert "new token" in server.triode("get", token=SECRET).stderr


def test_a_refusal_for_now_says_for_how_long(server: FakeServer) -> None:
    refusal = problem(429, "too many")
    refusal.headers["Retry-After"] = "90"
    server.answer = refusal
    assert "Try again in 90s." in server.triode("get").stderr


@pytest.mark.parametrize(
    "content", [b"<html>", b'"text"', b"[1]", b"\xff", b"", b'{"status":"x","title":1}']
)
def test_any_other_answer_is_a_refusal_too(server: FakeServer, content: bytes) -> None:
    server.answer = httpx.Response(502, content=content)
    result = server.triode("get")
    assert result.exit_code == 1
    assert result.stderr


def test_a_redirect_is_not_followed(server: FakeServer) -> None:
    server.answer = httpx.Response(307, headers={"Location": "http://elsewhere.example/"})
    assert server.triode("get", token=SECRET).exit_code == 1
    assert len(server.requests) == 1


def test_no_answer_is_exit_3(server: FakeServer) -> None:
    server.answer = httpx.ConnectError("refused")
    result = server.triode("get")
    assert result.exit_code == 3
    assert "http://127.0.0.1:8080" in result.stderr
    assert "TRIODE_URL" in result.stderr
    assert "triode serve" in result.stderr
    elsewhere = server.triode("get", "--url", "http://elsewhere.example").stderr
    assert "--url" in elsewhere
    assert "triode serve" not in elsewhere


def test_a_certificate_that_is_not_trusted_is_explained(server: FakeServer) -> None:
    server.answer = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert "SSL_CERT_FILE" in server.triode("get", "--url", "https://h").stderr


def test_failures_are_json_when_asked_for(server: FakeServer) -> None:
    server.answer = problem(404, "nothing at .x")
    result = server.triode("get", ".x", "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(result.stderr)["status"] == 404
    server.answer = httpx.ConnectError("refused")
    result = server.triode("get", ".x", "--json")
    assert result.exit_code == 3
    assert "refused" in json.loads(result.stderr)["detail"]


def test_a_write_without_an_answer_is_in_doubt(server: FakeServer) -> None:
    server.answer = httpx.ReadError("reset")
    assert "may or may not" in server.triode("set", ".a", "1").stderr
    assert "may or may not" not in server.triode("get").stderr
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "--url", "ftp://x"],
        ["get", "--url", "http://"],
        ["get", "--url", "http://h:port"],
        ["get", "--url", "http://h/?x=1"],
        ["get", "--token", "two words"],
        ["get", "--token", "line\nbreak"],
        ["set", ".a"],
        ["set", ".a", "--creat"],
        ["set", ".a", "1", "--creat"],
        ["get", ".a", ".b"],
        ["token", "new"],
        ["token", "new", "--all", "--read", ".a"],
        ["token", "new", "--all", "--ttl", "soon"],
        ["publish", "chat"],
        ["publish"],
        ["publish", "--to", "c_1", "--tag", "a=b", "say"],
        ["publish", "--tag", "ab", "say"],
        ["publish", "chat", "--hello"],
        ["publish", "chat", "say", "1", "2"],
        ["top", "--limit", "0"],
        ["top", "--interval", "0"],
        ["tail", "--policy", "never"],
        ["completion", "powershell"],
        ["load", "/nowhere.json"],
        ["load", "-"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_exit_2_and_asks_nobody(server: FakeServer, arguments: list[str]) -> None:
    result = server.triode(*arguments)
    assert (result.exit_code, server.requests) == (2, [])
    assert "two words" not in result.output


# ---- tokens ----


def test_the_token_is_sent_and_never_shown(server: FakeServer) -> None:
    for answer in (httpx.Response(200, json=1), problem(403, "no"), httpx.ConnectError("x")):
        server.answer = answer
        result = server.triode("get", token=SECRET)
        assert SECRET not in result.output
        assert server.requests[-1].headers["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in server.triode("get", "--help", token=SECRET).output


def test_a_new_token_stands_alone_on_standard_output(server: FakeServer) -> None:
    server.answer = httpx.Response(201, json={"token": "SECRET=", "id": "t_1"})
    result = server.triode("token", "new", "--read", ".a", "--read", ".b", "--ttl", "1h")
    assert result.stdout == "SECRET=\n"
    assert "t_1" in result.stderr
    assert json.loads(server.requests[0].content) == {
        "grant": {"read": [".a", ".b"], "write": [], "rooms": [], "admin": False},
        "ttl_s": 3600,
        "label": "",
    }


def test_only_all_leaves_scopes_out(server: FakeServer) -> None:
    server.answer = httpx.Response(201, json={"token": "s", "id": "t_1"})
    server.triode("token", "new", "--all")
    server.triode("token", "new", "--admin")
    grants = [json.loads(request.content)["grant"] for request in server.requests]
    assert grants == [
        {"read": "*", "write": "*", "rooms": "*", "admin": False},
        {"read": [], "write": [], "rooms": [], "admin": True},
    ]


def test_tokens_are_listed_and_revoked(server: FakeServer) -> None:
    row = {"id": "t_1", "label": "x\x1b[2J", "expires_at": None, "grant": {"read": [".a"]}}
    server.answer = httpx.Response(200, json={"tokens": [row]})
    result = server.triode("token", "list")
    assert "t_1" in result.stdout
    assert "never" in result.stdout
    assert "\x1b" not in result.stdout
    server.answer = httpx.Response(204)
    assert server.triode("token", "revoke", "a/../b").stdout == "revoked a/../b\n"
    assert server.requests[-1].url.raw_path == b"/tokens/a%2F..%2Fb"


def test_all_pages_of_tokens_are_listed(server: FakeServer) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("after", "0~").partition("~")[0])
        row: dict[str, object] = {"id": f"t_{number}", "label": "", "expires_at": None, "grant": {}}
        after = f"{number + 1}~t/&" if number < 2 else None
        return httpx.Response(200, json={"tokens": [row], "next": after})

    server.answer = answer
    rows = json.loads(server.triode("token", "list", "--json").stdout)["tokens"]
    assert [row["id"] for row in rows] == ["t_0", "t_1", "t_2"]
    assert server.requests[-1].url.params["after"] == "2~t/&"


# ---- rendering ----


def test_control_characters_do_not_reach_the_terminal() -> None:
    value = {"a": "\x7f\x9b2J\u202e"}
    text = json.dumps(value, ensure_ascii=False)
    assert json.loads(escape(text)) == value
    assert escape(text).isascii()
    assert clean("a\x1b[2J\r\nb") == "a\ufffd[2J\ufffd\nb"


EVENTS = [
    ("connected", {"client": "c_1", "resumed": False}, ["connected"]),
    ("snapshot", {"filter": ".", "items": [{"path": ".a", "value": 1}]}, [".a 1"]),
    ("update", {"filter": ".", "path": ".a", "value": {"b": "é"}, "time": 0}, ['.a {"b":"é"}']),
    ("delete", {"filter": ".", "path": ".a", "time": 0}, [".a gone"]),
    ("gap", {"filter": ".", "missed": 3}, ["gap", '"missed":3']),
    ("message", {"room": "r", "event": "e", "data": 1, "time": 0}, ["r e 1"]),
    ("anything", {"new": 1}, ["anything", '"new":1']),
]


@pytest.mark.parametrize(("kind", "body", "parts"), EVENTS)
def test_an_event_is_a_line(
    kind: str, body: dict[str, object], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    event = StreamEvent(kind, json.dumps(body), "e:1")
    EventPrinter(as_json=False).take(event)
    plain = capsys.readouterr().out
    EventPrinter(as_json=True).take(event)
    assert json.loads(capsys.readouterr().out) == {"type": kind, "id": "e:1"} | body
    assert all(part in plain for part in parts)
    assert plain.count("\n") == 1


def test_an_event_that_is_not_json_is_shown_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    EventPrinter(as_json=True).take(StreamEvent("message", "plain", ""))
    assert json.loads(capsys.readouterr().out) == {"type": "message", "data": "plain"}


def test_a_terminal_gets_laid_out_json(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setenv("TERM", "dumb")
        print_json(b'{"a":1}', compact=False)
        terminal.flush()
        assert b'\n  "a": 1\r\n' in screen.read(200)


@pytest.mark.parametrize(
    ("address", "url"),
    [(("127.0.0.1", 80), "http://127.0.0.1:80"), (("::1", 81, 0, 0), "http://[::1]:81")],
)
def test_addresses_are_urls(address: tuple[object, ...], url: str) -> None:
    assert url_of(address, tls=False) == url
    assert url_of(address, tls=True) == url.replace("http", "https")


# ---- serve ----


def shown(settings: Settings, files: OpenFiles) -> str:
    return click.unstyle(banner(settings, ["http://0.0.0.0:8080"], files, version="1"))


def test_the_start_up_block_says_what_is_in_force() -> None:
    flags = {"host": "0.0.0.0", "admin_token": SECRET, "http_rate": "0", "max_clients": 5000}
    text = shown(load(flags, {}), OpenFiles(limit=1024, before=256, wanted=5100))
    for part in (
        "http://0.0.0.0:8080",
        "console     http://127.0.0.1:8080/",
        "native",
        "Hypercorn",
        "5 000 at once",
        "HTTP without limit; WebSocket 100/s, bursts of 200",
        "1 024 (raised from 256)",
        "raise the hard limit to 5100",
        "tokens needed",
        "! Tokens travel without TLS",
        'curl -gN -H "Authorization: Bearer $TRIODE_TOKEN" ',
    ):
        assert part in text
    assert SECRET not in text


def test_the_start_up_block_says_where_the_document_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = OpenFiles(limit=20_000, before=20_000, wanted=11_000)
    text = shown(Settings(data=Path("/srv/kept")), files)
    assert "kept in /srv/kept; what is answered outlives a power failure" in text
    relaxed = shown(Settings(data=Path("/srv/kept"), durability="relaxed"), files)
    assert "outlives a crash, not a power failure" in relaxed
    assert "in memory: it ends with this process" in shown(Settings(), files)
    monkeypatch.setattr("triode.app.cli.banner.file_system", lambda _: "tmpfs")
    volatile = shown(Settings(data=Path("/run/kept")), files)
    assert "kept in /run/kept, which is in memory: it ends with a restart" in volatile
    assert "power failure" not in volatile


def test_an_open_server_says_so() -> None:
    files = OpenFiles(limit=20_000, before=20_000, wanted=10_100)
    text = shown(load({"host": "0.0.0.0", "insecure": True}, {}), files)
    assert "everyone may read and write" in text
    assert "! Everyone who reaches 0.0.0.0" in text
    assert "hard limit" not in text


def test_the_open_file_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(soft, 256)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    try:
        files = raise_open_files(100)
        assert files.before == lower
        assert files.limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= soft
        assert files.enough
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("name", "said"), [("wtach", "; did you mean 'watch'?"), ("nonsense", "'nonsense'\n")]
)
def test_an_unknown_command_names_the_nearest(name: str, said: str) -> None:
    result = CliRunner().invoke(main, [name])
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_banner_names_the_command_as_it_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = OpenFiles(limit=20_000, before=20_000, wanted=11_000)
    monkeypatch.setattr("sys.argv", [".venv/bin/triode"])
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert " .venv/bin/triode watch '.'" in shown(Settings(), files)
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/triode")
    assert " triode watch '.'" in shown(Settings(), files)


def test_all_faults_of_the_configuration_are_named() -> None:
    arguments = ["serve", "--port", "x", "--heartbeat", "soon", "--host", "0.0.0.0"]
    result = CliRunner().invoke(main, arguments, env={"TRIODE_HTTP_RAET": "1"})
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("triode: ") for line in lines)


def test_serve_has_the_flags_of_the_issue() -> None:
    text = CliRunner().invoke(main, ["serve", "--help"]).output
    for flag in [
        "--host",
        "--port",
        "--http-rate",
        "--ws-rate",
        "--max-clients",
        "--queue-items",
        "--queue-bytes",
        "--write-deadline",
        "--heartbeat",
        "--history-items",
        "--history-bytes",
        "--admin-token",
        "--jwt-key",
        "--insecure",
        "--debug",
    ]:
        assert flag in text


# ---- publish ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chat", "say", '{"a":1}'], {"room": "chat", "event": "say", "data": {"a": 1}}),
        (["chat", "say"], {"room": "chat", "event": "say", "data": None}),
        (["chat", "say", "-5"], {"room": "chat", "event": "say", "data": -5}),
        (["chat", "say", "hello"], {"room": "chat", "event": "say", "data": "hello"}),
        (["chat", "say", "-"], {"room": "chat", "event": "say", "data": "typed"}),
        (["--to", "c_1", "say", "1"], {"to": "c_1", "event": "say", "data": 1}),
        (["say", "--tag", "a=b=c", "--tag", "d="], {"tags": {"a": "b=c", "d": ""}}),
    ],
)
def test_publish_says_to_whom(
    server: FakeServer, arguments: list[str], message: dict[str, object]
) -> None:
    server.answer = httpx.Response(200, json={"reached": 2})
    result = server.triode("publish", *arguments, stdin="typed\n")
    assert (result.exit_code, result.stdout) == (0, "reached 2\n")
    assert server.asked == ("POST", "/publish")
    sent = json.loads(server.requests[0].content)
    assert {name: sent[name] for name in message} == message
    assert len(sent) == 3


def test_publish_that_nobody_hears_says_so(server: FakeServer) -> None:
    server.answer = httpx.Response(200, json={"reached": 0})
    assert "nobody" in server.triode("publish", "chat", "say").stderr
    quiet = server.triode("publish", "chat", "say", "--json")
    assert (quiet.stdout, quiet.stderr) == ('{"reached":0}\n', "")


async def test_a_client_is_closed_when_left(server: FakeServer) -> None:
    async with HttpClient("http://h", None, transport=httpx.MockTransport(server)) as client:
        await client.request("GET", "/health")
    with pytest.raises(RuntimeError):
        await client.request("GET", "/health")
