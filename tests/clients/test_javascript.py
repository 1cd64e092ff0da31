"""The JavaScript client: its own tests, run by Node against real servers, its size and its types.

What needs Node, or a tool that npm would have to fetch, is skipped where there is none.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[2] / "clients" / "js"
SERVED = CLIENT.parents[1] / "app" / "static" / "client.js"
OLDEST_NODE = 20
# What a page loads: minified and compressed.
MOST_BYTES = 8 * 1024
TESTS_DEADLINE_S = 300
TOOL_DEADLINE_S = 60
TESTS = sorted(path.name for path in (CLIENT / "test").glob("*.test.js"))


@functools.cache
def node_version() -> int:
    """The major version of Node, 0 without one."""
    node = shutil.which("node")
    if node is None:
        return 0
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    return int(shown.stdout.lstrip("v").partition(".")[0])


needs_node = pytest.mark.skipif(
    node_version() < OLDEST_NODE, reason=f"needs Node {OLDEST_NODE} or later"
)


def run(
    command: list[str], deadline_s: float, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run it in the client's folder; at the deadline it and what it has started are killed."""
    process = subprocess.Popen(
        command,
        cwd=CLIENT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\nnot done in {deadline_s} s"
    return subprocess.CompletedProcess(command, process.returncode, output)


def tool(package: str, name: str, *arguments: str) -> str:
    """The output of a tool of npm's; skips where it is not to be had."""
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("needs npx")
    command = [npx, "--yes", "--package", package, name]
    # Its own deadline first: without a network npm tries for minutes.
    if run([*command, "--version"], TOOL_DEADLINE_S).returncode:
        pytest.skip(f"needs {package} from npm")
    done = run([*command, *arguments], TOOL_DEADLINE_S)
    assert done.returncode == 0, done.stdout
    # npm's own warnings go to the same place.
    return "\n".join(line for line in done.stdout.split("\n") if not line.startswith("npm "))


@needs_node
@pytest.mark.slow
@pytest.mark.parametrize("name", TESTS)
def test_in_node(name: str) -> None:
    """As a user of Node 22 and later has it: with a WebSocket. (It has event streams, too.)"""
    node = shutil.which("node")
    assert node is not None
    command = [node, "--test", f"--test-timeout={TESTS_DEADLINE_S * 900}", f"test/{name}"]
    options = "--experimental-websocket" if node_version() < 22 else ""
    done = run(command, TESTS_DEADLINE_S, TRIODE_PYTHON=sys.executable, NODE_OPTIONS=options)
    assert done.returncode == 0, done.stdout
    # A file without tests, or with all of them skipped, succeeds as well.
    passed = re.search(r"^(?:#|ℹ) pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed, done.stdout
    assert int(passed[1]) > 0


def test_it_is_small() -> None:
    assert len(gzip.compress(SERVED.read_bytes(), 9)) < MOST_BYTES


@needs_node
def test_what_is_served_is_what_is_written(tmp_path: Path) -> None:
    """If this fails: `npm run build` in clients/js."""
    scripts = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))["scripts"]
    npx, yes, package, *arguments = scripts["build"].split()
    assert (npx, yes) == ("npx", "--yes")
    made = tmp_path / "client.js"
    tool(package, "esbuild", *arguments[:-1], f"--outfile={made}")
    assert made.read_bytes() == SERVED.read_bytes()


def test_it_needs_nothing() -> None:
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    assert not re.search(r"\bimport\b[^.]|\brequire\(", SERVED.read_text(encoding="utf-8"))


@needs_node
def test_types(tmp_path: Path) -> None:
    """The declarations are sound, and say no to what is wrong."""
    use = tmp_path / "use.ts"
    use.write_text(
        f"import {{ triode, TriodeError, type View }} from {json.dumps(str(CLIENT / 'triode.js'))};"
        """
        const t = triode('https://example.org', { token: async () => 'T', WebSocket: null });
        const view: View<{ bid: number }> = t.watch<{ bid: number }>('.a', { policy: 'latest' });
        view.on('change', ({ type, path }, same) => [type, path, same.value.bid.toFixed(2)]);
        const end: () => void = view.subscribe((value) => value.bid);
        t.on('reconnecting', (attempt, delayMs, error) => attempt + delayMs + error.status);
        export async function main() {
          for await (const value of view) if (value.bid) end();
          const id: string = await t.set('.a', 1, { create: true });
          await t.patch('.a', [{ op: 'add', path: '/x', value: 1 }], { if: id, key: 'mine' });
          const { positions } = await t.batch([{ type: 'delete', path: '.a' }], { atomic: true });
          const room = t.room('chat').on('say', (data, { from }) => [data, from]);
          const reached: number = await room.publish('say', positions, { echo: true });
          t.increment('.n').catch((error: TriodeError) => error.unknown && error.detail);
          return [await room.join(), reached];
        }
        // @ts-expect-error no such policy
        t.watch('.a', { policy: 'newest' });
        // @ts-expect-error no such option
        triode('', { tokn: 'x' });
        // @ts-expect-error no such event
        view.on('changed', () => {});
        """,
        encoding="utf-8",
    )
    flags = "--noEmit --strict --target es2022 --module nodenext --lib es2023,dom"
    tool("typescript@5", "tsc", *flags.split(), str(use))
