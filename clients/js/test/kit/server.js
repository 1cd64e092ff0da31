// A real Triode server for the tests, on a port that stays its own over restarts.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
const OWN = join(ROOT, '.venv/bin/python');
const PYTHON = process.env.TRIODE_PYTHON ?? (existsSync(OWN) ? OWN : 'python3');
const START_DEADLINE_MS = 60_000;

const children = new Set();
process.once('exit', () => children.forEach((child) => child.kill('SIGKILL')));

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** Start a server; `settings` are `TRIODE_*` variables by their small names. Killed with the test of the
 *  `context`, if there is one. */
export async function startServer(settings = {}, context = null) {
  const server = new Server(await freePort(), {
    http_rate: 0,
    ws_rate: 0,
    cpu_share: 0,
    ...settings,
  });
  context?.after(() => server.kill());
  await server.start();
  return server;
}

class Server {
  #process = null;
  #settings;
  #log = '';

  constructor(port, settings) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}/`;
    this.#settings = settings;
  }

  async start() {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith('TRIODE_'));
    const env = { ...Object.fromEntries(own), PYTHONPATH: ROOT, PYTHONUNBUFFERED: '1' };
    for (const [name, value] of Object.entries(this.#settings))
      env[`TRIODE_${name.toUpperCase()}`] = String(value);
    const cwd = mkdtempSync(join(tmpdir(), 'triode-js-')); // no configuration file of the project's
    const child = spawn(PYTHON, ['-m', 'triode', 'serve', '--port', String(this.port)], {
      cwd,
      env,
    });
    this.#process = child;
    children.add(child);
    child.once('exit', () => children.delete(child));
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (data) => (this.#log += data));
    const deadline = Date.now() + START_DEADLINE_MS;
    while (!(await this.isReady())) {
      if (child.exitCode !== null || Date.now() > deadline)
        throw new Error(`no server:\n${this.#log}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }

  async isReady() {
    try {
      return (await fetch(`${this.url}readyz`)).ok;
    } catch {
      return false;
    }
  }

  /** End it at once, as a crash does. */
  async kill() {
    await this.#end('SIGKILL');
  }

  /** End it in order: it drains, and tells every client when to come back. */
  async stop() {
    await this.#end('SIGTERM');
  }

  async #end(signal) {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }

  /** One HTTP request; the JSON of its answer. */
  async ask(method, path, body, token) {
    const headers = {
      'Content-Type': 'application/json',
      ...(token && { Authorization: `Bearer ${token}` }),
    };
    const answer = await fetch(new URL(path, this.url), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    const text = await answer.text();
    return text && JSON.parse(text);
  }

  put(path, value, token) {
    return this.ask('PUT', `store?create=true&path=${encodeURIComponent(path)}`, value, token);
  }

  /** What a filter selects: path → value. */
  async select(filter, token) {
    const items = await this.ask(
      'GET',
      `store?filter=${encodeURIComponent(filter)}`,
      undefined,
      token,
    );
    return new Map(items.map(({ path, value }) => [path, value]));
  }
}
