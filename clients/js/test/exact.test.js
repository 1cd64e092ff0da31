// What every view holds is what its filter selects, through cuts, restarts, frozen readers and bursts.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startProxy } from './kit/proxy.js';
import { startServer } from './kit/server.js';
import { client, TRANSPORTS, untilTrue } from './kit/wait.js';

const FILTERS = [
  '.',
  '.users',
  '.users[*].name',
  '.users[role=admin]',
  '.users[-1]',
  '.prices.*',
  '.prices["BTC-USD"]',
  '..n',
  '.users[0:2]',
  '$.users[?@.n > 4].n',
];
const ROUNDS = 12;
const RESTARTS = [4, 9]; // the rounds with one

/** Numbers from a seed, so that a failure can be repeated. */
function numbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function writes(random) {
  const below = (n) => Math.floor(random() * n);
  const pick = (...choices) => choices[below(choices.length)];
  const user = () => ({
    name: pick('ada', 'bob', 'cyd'),
    role: pick('admin', 'guest'),
    n: below(9),
    tags: [below(3)],
  });
  const index = () => below(4);
  const symbol = () => pick('["BTC-USD"]', '.ETH', '["a\\"b]"]');
  return () =>
    pick(
      () => ({ type: 'append', path: '.users', value: user() }),
      () => ({ type: 'set', path: `.users[${index()}]`, value: user() }),
      () => ({ type: 'set', path: `.users[${index()}].role`, value: pick('admin', 'guest') }),
      () => ({ type: 'set', path: `.users[${index()}].n`, value: pick(below(9), { n: below(9) }) }),
      () => ({ type: 'append', path: `.users[${index()}].tags`, value: below(3) }),
      () => ({ type: 'delete', path: `.users[${index()}]` }),
      () => ({ type: 'delete', path: `.users[${index()}].${pick('role', 'n', 'tags')}` }),
      () => ({
        type: 'patch',
        path: '.users',
        patch: [{ op: 'add', path: `/${index()}`, value: user() }],
      }),
      () => ({ type: 'set', path: '.users', value: [user(), user()] }),
      () => ({ type: 'set', path: `.prices${symbol()}`, value: pick(below(100), { n: below(5) }) }),
      () => ({ type: 'delete', path: `.prices${symbol()}` }),
      () => ({
        type: 'merge',
        path: '.',
        patch: { prices: { SOL: pick(null, below(9)) }, n: below(9) },
      }),
      () => ({ type: 'set', path: '.prices', value: { ETH: below(9) } }),
      () => ({ type: 'delete', path: pick('.n', '.users', '.prices') }),
      () => ({ type: 'set', path: pick('.users', '.prices'), value: pick([], {}) }),
    )();
}

for (const transport of TRANSPORTS) {
  test(`views over ${transport} stay exact`, async (context) => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9));
    context.diagnostic(`SEED=${seed}`);
    const random = numbers(seed);
    const next = writes(random);
    const server = await startServer({ queue_items: 30 }, context);
    const proxy = await startProxy(context, server.port);
    const t = client(context, proxy.url, transport);
    const views = FILTERS.map((filter) => t.watch(filter));
    t.watch('.fence');
    const burst = (count) => server.ask('POST', 'store/batch', Array.from({ length: count }, next));
    const counts = { cuts: 0, restarts: 0, gaps: 0, changes: 0 };
    const shown = new Map(); // what was handed out, and what it was then
    for (const view of views) {
      view.on('gap', () => counts.gaps++);
      view.on('change', () => {
        counts.changes++;
        if (random() < 0.2) shown.set(view.items, JSON.stringify([...view.items]));
      });
    }
    for (let round = 1; round <= ROUNDS; round++) {
      const trouble = random();
      proxy.cutAfter = random() < 0.3 ? Math.floor(random() * 4000) : null;
      await burst(1 + Math.floor(random() * 60));
      if (RESTARTS.includes(round)) {
        await server.kill();
        await server.start();
        counts.restarts++;
      } else if (trouble < 0.5) {
        proxy.cut();
        counts.cuts++;
      } else if (trouble < 0.7) {
        proxy.freeze();
        for (let n = 0; n < 8; n++) await burst(40);
        proxy.thaw();
      }
      await burst(1 + Math.floor(random() * 30));
      proxy.cutAfter = null;
      // A loss may not have been announced yet, so it is the position that says when all has arrived.
      const { id } = await server.put('.fence', round);
      for (const view of views) {
        await untilTrue(() => hasArrived(view, id));
        assert.deepEqual(
          sorted(view.items),
          sorted(await server.select(view.filter)),
          `${view.filter} in round ${round}`,
        );
      }
    }
    for (const [items, was] of shown)
      assert.equal(JSON.stringify([...items]), was, 'what was handed out has changed');
    context.diagnostic(
      JSON.stringify({ ...counts, connections: proxy.accepted, shown: shown.size }),
    );
    assert.ok(counts.changes > 100);
  });
}

/** Whether a view has all up to a position of the same epoch. */
function hasArrived(view, id) {
  const [epoch, seq] = (view.position ?? '').split(':');
  return !view.stale && id.startsWith(`${epoch}:`) && Number(seq) >= Number(id.split(':')[1]);
}

/** By path, because places that come later are at the end of a view, and anywhere in a document. */
const sorted = (items) => [...items].sort(([a], [b]) => (a < b ? -1 : 1));
