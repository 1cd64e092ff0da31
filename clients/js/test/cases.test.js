// The acceptance cases of clients (TRIODE_CASES names another folder of them): each is done, or
// overruled with a reason; a new one fails until somebody has decided.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { triode } from '../triode.js';
import { fakeWebSocket, settle } from './kit/fake.js';

const FOLDER =
  process.env.TRIODE_CASES ?? fileURLToPath(new URL('../../../tests/cases/data/', import.meta.url));
const FILE = join(FOLDER, 'client.jsonl');

/** What a case expects and is not so, and why. */
const OVERRULED = {
  // A page has to come back after any outage, not only after one shorter than half a minute; who
  // wants an end says `attempts: 5`.
  attempts: 5,
};

/** A client on a clock that the case turns; `down` sockets cannot be opened. */
function start(context, options) {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const { sockets, WebSocket } = fakeWebSocket();
  const fetch = async () => {
    throw new TypeError('fetch failed');
  };
  const t = triode('http://triode.test', { WebSocket, fetch, ...options });
  context.after(() => t.close());
  const told = { reconnecting: [], error: [] };
  t.on('reconnecting', (...event) => told.reconnecting.push(event));
  t.on('error', (error) => told.error.push(error.message.replace(/: http.*/, '')));
  let now = 1000;
  context.mock.method(performance, 'now', () => now);
  const pass = async (seconds) => {
    await settle();
    now += seconds * 1000;
    context.mock.timers.tick(seconds * 1000);
    await settle();
  };
  return { t, sockets, told, pass };
}

/** Which member of `given` says what a case is about, and what is to be done and seen then. */
const KINDS = {
  async options(context, given) {
    const { t, sockets, told, pass } = start(context, { jitter: false, ...given.options });
    await pass(0);
    const seen = { auto_connect: sockets.length === 1, timeout_s: 0 };
    while (!told.error.length) {
      await pass(1);
      seen.timeout_s++;
    }
    seen.delay_s = told.reconnecting[0][1] / 1000;
    seen.reconnection = t.state === 'waiting';
    return seen;
  },

  async offline_emits(context, { offline_emits }) {
    const { t, sockets, pass } = start(context);
    for (const event of offline_emits) t.publish({ room: 'r', event }).catch(() => {});
    await pass(0);
    sockets[0].welcome();
    await pass(1);
    const said = sockets[0].sent.filter(({ type }) => type === 'publish');
    return { server_receives: said.map(({ event }) => event) };
  },

  async failures(context, { delay_s, failures, jitter }) {
    const { sockets, told, pass } = start(context, { delayMs: delay_s * 1000, jitter });
    await pass(0);
    for (let failed = 1; failed <= failures; failed++) {
      sockets.at(-1).end();
      await pass(0);
      if (failed < failures) await pass(told.reconnecting.at(-1)[1] / 1000);
    }
    return { waits_s: told.reconnecting.map(([, ms]) => ms / 1000) };
  },

  async fail(context, { fail, then_fail }) {
    const { sockets, told, pass } = start(context, { jitter: false });
    await pass(0);
    const failTimes = async (count) => {
      for (; count > 0; count--) {
        sockets.at(-1).end();
        await pass(0);
        await pass(told.reconnecting.at(-1)[1] / 1000);
      }
    };
    await failTimes(fail);
    sockets.at(-1).welcome();
    await failTimes(then_fail);
    return { reconnecting_args: told.reconnecting.map(([attempt]) => attempt) };
  },

  async server_closes(context, { server_closes }) {
    const { sockets, pass } = start(context);
    await pass(0);
    sockets[0].welcome();
    sockets[0].end(server_closes);
    await pass(1);
    return { reconnects_min: sockets.length - 1 };
  },

  async server_emits(context, { on, on_off, server_emits }) {
    const { t, sockets, pass } = start(context);
    let calls = 0;
    const listener = () => calls++;
    const room = t.room('r').on(on ?? on_off, listener);
    if (on_off) room.off(on_off, listener);
    await pass(0);
    sockets[0].welcome();
    for (let n = 0; n < server_emits; n++)
      sockets[0].say({ type: 'message', room: 'r', event: on ?? on_off, data: n, time: 1 });
    return { calls };
  },

  async server(context, { timeout_s }) {
    const { told, pass } = start(context, { timeoutMs: timeout_s * 1000 });
    await pass(timeout_s - 0.001);
    assert.deepEqual(told.error, []);
    await pass(0.001);
    return { error: told.error[0], at_s: timeout_s };
  },
};

for (const line of readFileSync(FILE, 'utf8').split('\n').filter(Boolean)) {
  const { id, name, given, expect } = JSON.parse(line);
  test(`${id} ${name}`, async (context) => {
    const kind = Object.keys(KINDS).find((member) => member in given);
    assert.ok(kind, `nobody has decided what is to be done with ${JSON.stringify(given)}`);
    const seen = await KINDS[kind](context, given);
    for (const [member, value] of Object.entries(expect))
      if (OVERRULED[member] !== value) assert.deepEqual(seen[member], value, member);
  });
}
