// Writes that are shown before the server has answered, and transactions.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';

import { fakeStreams, settle, settled, start } from './kit/fake.js';
import { startProxy } from './kit/proxy.js';
import { startServer } from './kit/server.js';
import { client, TRANSPORTS, untilState, untilTrue, untilView } from './kit/wait.js';

const NOW = { optimistic: true };
const quietly = (written) => void written.catch(() => {}); // it is never answered

/** A client that watches these filters, with what is there; `shown` has all values of the first. */
async function watching(context, wanted) {
  const { t, sockets, seconds } = start(context);
  const views = Object.keys(wanted).map((filter) => t.watch(filter));
  const shown = [];
  views[0].on('change', () => shown.push(views[0].value));
  await seconds(0);
  const [socket] = sockets;
  socket.say({ type: 'connected', client: 'c', epoch: 'e1', resumed: false, heartbeat_s: 15 });
  for (const { ref, filter } of socket.sent.filter(({ type }) => type === 'subscribe')) {
    const items = Object.entries(wanted[filter]).map(([path, value]) => ({ path, value }));
    socket.say(
      { type: 'ok', ref, resumed: false },
      { type: 'snapshot', id: 'e1:10', filter, items, more: false },
    );
  }
  await settle();
  shown.length = 0;
  /** Wait for the write to be sent, and answer it. */
  const answer = async (frame) => {
    await seconds(1);
    const { ref } = socket.sent.findLast(({ type }) => ['set', 'delete', 'batch'].includes(type));
    socket.say({ ref, ...frame });
    await settled();
  };
  const update = (filter, path, value, id) =>
    socket.say({ type: 'update', filter, path, value, id, time: 0 });
  return { t, views, view: views[0], shown, answer, update, socket, sockets, seconds };
}

const OK = (seq) => ({ type: 'ok', id: `e1:${seq}` });
const NO = { type: 'error', status: 409, title: 'Conflict', detail: 'no' };

test('it is shown at once, and stays', async (context) => {
  const { t, view, shown, answer, update } = await watching(context, { '.a': { '.a': 1 } });
  const written = t.set('.a', 2, NOW);
  assert.equal(view.value, 2);
  update('.a', '.a', 2, 'e1:11');
  await answer(OK(11));
  assert.equal(await written, 'e1:11');
  assert.equal(view.value, 2);
  assert.ok(shown.every((value) => value === 2));
  update('.a', '.a', 3, 'e1:12');
  assert.equal(view.value, 3);
});

test('the answer may come before the change', async (context) => {
  const { t, view, shown, answer, update } = await watching(context, { '.a': { '.a': 1 } });
  t.set('.a', 2, NOW);
  await answer(OK(12));
  assert.equal(view.value, 2);
  update('.a', '.a', 'older', 'e1:11');
  assert.equal(view.value, 2, 'what was before it is not shown any more');
  update('.a', '.a', 2, 'e1:12');
  update('.a', '.a', 3, 'e1:13');
  assert.equal(view.value, 3);
  assert.deepEqual(new Set(shown), new Set([2, 3]));
});

test('a change of another place, later, settles it too', async (context) => {
  // Written was what is there already, so nothing comes for it.
  const { t, view, answer, update, views } = await watching(context, {
    '.a': { '.a': 1 },
    '.b': { '.b': 1 },
  });
  t.set('.a', 1, NOW);
  await answer(OK(10));
  update('.a', '.a', 5); // no position: all that is up to here came with the last one
  assert.equal(view.value, 5);
  t.set('.a', 6, NOW);
  await answer(OK(11));
  assert.equal(view.value, 6);
  update('.b', '.b', 2, 'e1:12');
  assert.deepEqual([view.value, views[1].value], [5, 2]);
});

test('a refusal takes it back', async (context) => {
  const { t, view, shown, answer } = await watching(context, { '.a': { '.a': 1 } });
  const refused = assert.rejects(t.set('.a', 2, NOW), { status: 409 });
  assert.equal(view.value, 2);
  await answer(NO);
  await refused;
  assert.equal(view.value, 1);
  assert.deepEqual(shown, [2, 1]);
});

test('the newest of several is shown, and each is settled for itself', async (context) => {
  const { t, view, answer, update, socket } = await watching(context, { '.a': { '.a': { n: 1 } } });
  t.set('.a.n', 2, NOW);
  const refused = assert.rejects(t.set('.a.m', 'x', NOW), { status: 409 });
  t.set('.a.n', 3, NOW);
  assert.deepEqual(view.value, { n: 3, m: 'x' });
  update('.a', '.a.other', true, 'e1:11');
  assert.deepEqual(view.value, { n: 3, m: 'x', other: true });
  await answer({
    type: 'ok',
    positions: ['e1:12', null, 'e1:13'],
    errors: [{ index: 1, ...NO }],
  });
  await refused;
  assert.equal(socket.sent.filter(({ type }) => type === 'batch').length, 1);
  assert.deepEqual(view.value, { n: 3, other: true });
  update('.a', '.a.n', 2, 'e1:12');
  assert.deepEqual(view.value, { n: 3, other: true });
  update('.a', '.a.n', 3, 'e1:13');
  update('.a', '.a.n', 4, 'e1:14');
  assert.deepEqual(view.value, { n: 4, other: true });
});

test('what a gap or a new epoch brings counts', async (context) => {
  const { t, view, answer, socket } = await watching(context, { '.a': { '.a': 1 } });
  const snapshot = (value, id) =>
    socket.say({
      type: 'snapshot',
      id,
      filter: '.a',
      items: [{ path: '.a', value }],
      more: false,
    });
  t.set('.a', 2, NOW);
  socket.say({ type: 'gap', filter: '.a', missed: 3, reason: 'queue_full' });
  await answer(OK(15));
  assert.equal(view.value, 2);
  snapshot('before', 'e1:14');
  assert.equal(view.value, 2);
  snapshot('after', 'e1:16');
  assert.equal(view.value, 'after');
  t.set('.a', 3, NOW);
  await answer(OK(17));
  snapshot('another epoch', 'e2:1');
  assert.equal(view.value, 'another epoch');
});

test('it is shown over a reconnect until the answer is there', async (context) => {
  const { t, view, shown, socket, sockets, seconds } = await watching(context, {
    '.a': { '.a': { n: 1 } },
  });
  t.set('.a.n', 2, NOW);
  await seconds(1);
  socket.end();
  await seconds(2);
  const next = sockets.at(-1);
  assert.notEqual(next, socket);
  assert.deepEqual(view.value, { n: 2 });
  next.welcome([{ path: '.a', value: { n: 1, back: true } }], 'e1:10');
  await settled();
  assert.deepEqual(view.value, { n: 2, back: true });
  const { ref } = next.sent.find(({ type }) => type === 'set');
  next.say({ type: 'ok', ref, id: 'e1:11' });
  next.say({ type: 'update', filter: '.a', path: '.a.n', value: 2, id: 'e1:11' });
  await settled();
  assert.deepEqual(view.value, { n: 2, back: true });
  assert.ok(shown.every(({ n }) => n === 2));
});

test('each filter shows what it would select', async (context) => {
  const wanted = {
    '.orders': { '.orders': { a: { n: 1 }, list: [{ n: 5 }] } },
    '.orders.*': { '.orders.a': { n: 1 }, '.orders.list': [{ n: 5 }] },
    '.orders.*.n': { '.orders.a.n': 1 },
    '.orders.list[*].n': { '.orders.list[0].n': 5 },
    '.orders["b c"]': {},
    '..n': { '.orders.a.n': 1, '.orders.list[0].n': 5 },
    '.elsewhere.*': { '.elsewhere.x': 1 },
  };
  const { t, views } = await watching(context, wanted);
  const changes = new Map(views.map((view) => [view.filter, 0]));
  for (const view of views)
    view.on('change', () => changes.set(view.filter, changes.get(view.filter) + 1));
  quietly(t.set('.orders["b c"]', { n: 2 }, NOW));
  quietly(t.set('.["orders"].list', [{ n: 7 }, { n: 8 }], NOW));
  quietly(t.delete('.orders.a', NOW));
  assert.deepEqual(
    views.map(({ items }) => Object.fromEntries(items)),
    [
      { '.orders': { 'b c': { n: 2 }, list: [{ n: 7 }, { n: 8 }] } },
      { '.orders.list': [{ n: 7 }, { n: 8 }], '.orders["b c"]': { n: 2 } },
      { '.orders["b c"].n': 2 },
      { '.orders.list[0].n': 7, '.orders.list[1].n': 8 },
      { '.orders["b c"]': { n: 2 } },
      // Only the server knows what is new there.
      { '.orders.list[0].n': 7 },
      { '.elsewhere.x': 1 },
    ],
  );
  assert.equal(changes.get('.elsewhere.*'), 0);
});

test('what was given stays as it was, and so do values shown before', async (context) => {
  const { t, view } = await watching(context, { '.a': { '.a': { n: [1] } } });
  const was = view.value;
  const given = { n: [2] };
  quietly(t.set('.a', given, NOW));
  given.n.push(3);
  const then = view.value;
  quietly(t.set('.a.n[0]', 9, NOW));
  assert.deepEqual([was, then, view.value], [{ n: [1] }, { n: [2] }, { n: [9] }]);
  assert.equal(view.value, view.value);
});

test('what cannot be guessed is refused before it is sent', async (context) => {
  const { t, socket, seconds } = await watching(context, { '.a': { '.a': 1 } });
  const help = { name: 'TypeError', message: /^optimistic are only set and delete/ };
  await assert.rejects(t.increment('.a', 1, NOW), help);
  for (const path of ['.a[-1]', '/a', '.a[x=1]', '..a', '', '.a.*', '.a[*]', '.a[0:2]'])
    await assert.rejects(t.set(path, 1, NOW), help, path);
  await assert.rejects(t.set('.a', NaN, NOW), /NaN/);
  await seconds(1);
  assert.ok(!socket.sent.some(({ type }) => type === 'set'));
});

test('before the first value nothing is shown', async (context) => {
  const { t } = start(context);
  const view = t.watch('.a');
  quietly(t.set('.a', 1, NOW));
  assert.deepEqual([view.value, view.stale], [undefined, true]);
});

for (const transport of TRANSPORTS)
  describe(transport, () => {
    let server;
    before(async () => {
      server = await startServer({ queue_items: 20, send_buffer_bytes: 4096 });
    });
    after(() => server.kill());
    beforeEach(() => server.put('.', { n: 0, o: { a: 1 } }));

    for (const policy of ['drop-newest', 'latest'])
      test(`written by others too, it ends as the server has it (${policy})`, async (context) => {
        const proxy = await startProxy(context, server.port);
        const t = client(context, proxy.url, transport);
        const other = client(context, server.url, transport);
        const view = t.watch('.n', { policy });
        const all = t.watch('.');
        await Promise.all([view.ready(), all.ready(), untilState(other, 'open')]);
        for (let round = 0; round < 8; round++) {
          if (round % 3 === 2) proxy.cut();
          const mine = t.set('.n', `mine ${round}`, NOW);
          assert.equal(view.value, `mine ${round}`);
          assert.equal(all.value.n, `mine ${round}`);
          for (let i = 0; i < 25; i++) other.set('.n', `theirs ${round} ${i}`);
          await Promise.all([mine, other.set('.o.a', round)]);
        }
        await t.set('.o.end', true);
        const truth = await server.ask('GET', 'store?path=.');
        await untilView(all, () => all.value.o.end && !all.stale && all.value.n === truth.n);
        await untilView(view, () => view.value === truth.n);
        assert.deepEqual(all.value, truth);
      });

    test('a transaction is done once, whoever else writes', async (context) => {
      const clients = [1, 2, 3].map(() => client(context, server.url, transport));
      const counted = clients.flatMap((t) =>
        [1, 2, 3, 4].map(() => t.transaction('.n', async (n) => n + 1)),
      );
      const seen = await Promise.all(counted);
      assert.deepEqual(
        seen.sort((a, b) => a - b),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
      );
      assert.equal(await server.ask('GET', 'store?path=.n'), 12);
      const [t] = clients;
      assert.equal(await t.transaction('.new.deep', (value) => value ?? 'made'), 'made');
      assert.equal(await t.transaction('.n', () => undefined), 12);
      await assert.rejects(
        t.transaction('.n', () => {
          throw new Error('enough');
        }),
        /enough/,
      );
      assert.equal(await server.ask('GET', 'store?path=.n'), 12);
    });
  });
