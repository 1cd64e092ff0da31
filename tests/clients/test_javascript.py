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
    probe = re.sub(r"-c '.*'", "-c 'esbuild --version && terser --version'", scripts["build"])
    if shutil.which("npx") is None or run(["sh", "-c", probe], TOOL_DEADLINE_S).returncode:
        pytest.skip("needs esbuild and terser from npm")
    done = run(["npm", "run", "build"], TOOL_DEADLINE_S, OUT=str(tmp_path))
    assert done.returncode == 0, done.stdout
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (SERVED.parent / made.name).read_bytes()


def test_it_needs_nothing() -> None:
    package = json.loads((CLIENT / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    assert not re.search(r"\bimport\b[^.]|\brequire\(", SERVED.read_text(encoding="utf-8"))


@needs_node
def test_types(tmp_path: Path) -> None:
    """The declarations are sound, and say no to what is wrong."""
    files = []
    for name, code in {"use": USE, "typed": TYPED}.items():
        files.append(str(tmp_path / f"{name}.ts"))
        (tmp_path / f"{name}.ts").write_text(code.replace("TRIODE", str(CLIENT / "triode.js")))
    flags = "--noEmit --strict --target es2022 --module nodenext --lib es2023,dom"
    tool("typescript@5", "tsc", *flags.split(), *files)


USE = """
import { triode, TriodeError, type View } from 'TRIODE';
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
"""

# Paths are checked, and values have their types.
TYPED = """
import { triode, type Position } from 'TRIODE';
interface Order { item: string; count: number; tags: string[] }
interface Shop {
  open: boolean;
  orders: { [id: string]: Order };
  queue: Order[];
  'last seen': { by?: string };
  note: string | null;
}
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2
  ? true : false;
const is = <A, B>(same: Same<A, B>) => same;
const t = triode<Shop>('https://example.org');

const count = t.watch('.orders.a.count').value;
is<typeof count, number | undefined>(true);
const order = t.watch('.queue[0]').value;
is<typeof order, Order | undefined>(true);
const tag = t.watch('.queue[-1].tags[2]').value;
is<typeof tag, string | undefined>(true);
const all = t.watch('.orders.*').value;
is<typeof all, ReadonlyMap<string, Order>>(true);
const items = t.watch('.queue[*].item', { policy: 'latest' }).value;
is<typeof items, ReadonlyMap<string, string>>(true);
const by = t.watch('["last seen"].by').value;
is<typeof by, string | undefined>(true);
const quoted = t.watch('.orders["a b"].item').value;
is<typeof quoted, string | undefined>(true);
const shop = t.watch().value;
is<typeof shop, Shop>(true);
const whole = t.watch('.').value;
is<typeof whole, Shop | undefined>(true);
// What cannot be told is anything; one's own word counts.
const evaluated = t.watch('..price').value;
is<typeof evaluated, any>(true);
const dynamic = t.watch('.orders' as string).value;
is<typeof dynamic, any>(true);
const own = t.watch<{ x: 1 }>('$.orders[?@.count > 1]').value;
is<typeof own, { x: 1 }>(true);
const free = triode().watch('.anything.at.all').value;
is<typeof free, any>(true);

export async function main(id: string) {
  const position: Position = await t.set('.orders.a.count', 2);
  await t.set('.open', true, { if: position });
  await t.merge('.orders.a', { count: 3, item: null });
  await t.append('.queue', { item: 'x', count: 1, tags: [] });
  await t.append('.queue[0].tags', 'red');
  await t.increment('.orders.a.count');
  await t.set(`.orders.${id}.count`, 4);
  await t.delete('.note', { optimistic: true });
  const left: number = await t.transaction(".orders.a.count", async (n) => (n ?? 1) - 1);
  const got = await t.get('.orders.a', { signal: AbortSignal.timeout(1000) });
  is<typeof got, Order | undefined>(true);
  // @ts-expect-error the value is of another type
  await t.transaction('.open', () => 'yes');
  // @ts-expect-error no such place
  t.watch('.order');
  // @ts-expect-error no such place below
  t.watch('.queue[0].price');
  // @ts-expect-error an array has no names
  t.watch('.queue.first');
  // @ts-expect-error the value is of another type
  await t.set('.open', 'yes');
  // @ts-expect-error no such place
  await t.delete('.nots');
  // @ts-expect-error an element is of another type
  await t.append('.queue[0].tags', 7);
  // @ts-expect-error the value is of another type
  await t.merge('.orders.a', { count: 'many' });
}
"""
