"""Packages of npm for tests: installed once, into a cache outside the checkout.

Whoever asks for them is skipped where there is no npm, or no registry in reach.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "js"
PACKAGES = (
    "@types/react@19",
    "esbuild@0.25",
    "react@19",
    "react-dom@19",
    "svelte@5",
    "typescript@5",
    "vite@6",
    "vue@3",
)
INSTALL_DEADLINE_S = 180
DEADLINE_S = 60


def run(*command: str | Path, cwd: Path, deadline_s: float = DEADLINE_S, **env: str) -> str:
    """What it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout}\n{done.stderr}"
    return done.stdout


@functools.cache
def node_modules() -> Path:
    """The folder that they are in."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triode-tests"
    folder = caches / hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:16]
    if not folder.exists():
        caches.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=caches))
        (making / "package.json").write_text('{"private": true, "type": "module"}')
        try:
            flags = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
            run(npm, "install", *flags, *PACKAGES, cwd=making, deadline_s=INSTALL_DEADLINE_S)
            making.rename(folder)
        except (AssertionError, subprocess.TimeoutExpired):
            shutil.rmtree(making)
            pytest.skip(f"npm cannot install {' '.join(PACKAGES)}")
        except OSError:  # another run of the tests was first
            shutil.rmtree(making)
    return folder / "node_modules"


def bundle(entry: Path, *flags: str) -> str:
    """A module and all that it imports as one, with the client of this checkout."""
    packages = node_modules()
    return run(
        packages / ".bin" / "esbuild",
        entry,
        "--bundle",
        "--format=esm",
        "--jsx=automatic",
        "--log-level=error",
        f"--alias:triode-client={CLIENT}",
        '--define:process.env.NODE_ENV="development"',
        *flags,
        cwd=packages.parent,
        NODE_PATH=str(packages),
    )


def in_node(entry: Path, folder: Path) -> str:
    """What a module prints in Node, as where pages are made: without a browser."""
    made = folder / "server.cjs"
    made.write_text(bundle(entry, "--platform=node", "--format=cjs"))
    return run("node", made, cwd=folder).strip()
