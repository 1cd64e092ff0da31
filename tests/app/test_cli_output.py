"""What the command line says where it cannot say it as it would: other encodings, a full disk, a
broken file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return] # options of its own
        [sys.executable, *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        timeout=60,
        check=False,
    )


def test_what_the_encoding_lacks_is_shown_as_an_escape() -> None:
    code = (
        "from triode.app.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: print('\\u65e5')"
    )
    done = run("-c", code, env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "\\u65e5"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_full_disk_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = run("-m", "triode", "--help", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "triode: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"a":1', "cannot be loaded: the text ends too early"),
        (None, "No such file or directory"),
    ],
)
def test_a_document_that_cannot_be_loaded_is_one_sentence(
    content: bytes | None, fault: str, tmp_path: Path
) -> None:
    file = tmp_path / "document.json"
    if content is not None:
        file.write_bytes(content)
    done = run("-m", "triode", "serve", "--data", "memory", "--port", "0", "--load", str(file))
    told = [line for line in done.stderr.splitlines() if line.startswith("triode:")]
    assert done.returncode != 0
    assert len(told) == 1
    assert fault in told[0]
    assert "Traceback" not in done.stderr
