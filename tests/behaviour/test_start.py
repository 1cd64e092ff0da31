"""Starting: what is printed, and what is refused before anything listens. The native lane's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .server import ROOT, Server

pytestmark = [
    pytest.mark.trio,
    pytest.mark.native(reason="under Hypercorn it is Hypercorn that starts and binds"),
]


def serve(folder: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`triode serve` with a configuration that must not start."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIODE_")}
    return subprocess.run(
        [sys.executable, "-m", "triode", "serve", "--port", "0", *flags],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_what_it_prints(server: Server) -> None:
    text = server.log()
    for word in (str(server.port), "native", "Hypercorn", "open files", "10 000", "20 MiB"):
        assert word in text, word


async def test_opening_to_the_world_without_authentication(tmp_path: Path) -> None:
    done = serve(tmp_path, "--host", "0.0.0.0")
    assert done.returncode != 0
    assert "--insecure" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


async def test_all_faults_at_once(tmp_path: Path) -> None:
    (tmp_path / "triode.toml").write_text('heartbeat = "soon"\nnonsense = 1\n')
    done = serve(tmp_path, "--max-clients", "0", TRIODE_HTTP_RATE="fast", TRIODE_NO_SUCH="1")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    for fault in ("heartbeat", "nonsense", "max-clients", "TRIODE_HTTP_RATE", "TRIODE_NO_SUCH"):
        assert fault in said, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--admin-token", "x" * 20, "--anonymous-read", ",.public"), "it is empty"),
        (("--admin-token", "x" * 20, "--anonymous-read", ".public,"), "it is empty"),
        (("--admin-token", "x" * 20, "--anonymous-read", ""), "it is empty"),
        (("--trusted-proxies", "10.0.0.0/8,"), "no empty part"),
        (("--cors-origins", "null"), "sandboxed"),
        (("--cors-origins", "https://a.*.example.org"), "https://*.example.org"),
        (("--cors-origins", "https://*"), "https://*.example.org"),
        (("--cors-origins", "https://app.example.org:99999"), "is none of these"),
        (("--jwt-default-grant", '{"reed":["*"]}'), "did you mean 'read'"),
    ],
)
async def test_what_would_open_more_than_it_says_does_not_start(
    tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    done = serve(tmp_path, *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_folder_that_cannot_hold_a_log_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = serve(tmp_path, "--data", str(tmp_path / "file"))
    assert done.returncode == 1
    assert "--data" in done.stderr
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_unknown_option_is_told_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "triode.toml").write_text(
        'max_client = 3\n[[socket]]\npath = "/x"\nrates = "1/1"\n'
    )
    done = serve(tmp_path, TRIODE_ADMIN_TOKN="x")
    for meant in ("'max_clients'", "'TRIODE_ADMIN_TOKEN'", "'rate'"):
        assert f"did you mean {meant}" in done.stderr
