// A write that was sent and has no answer is sent again with its key, and done once.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { clock, fakeStreams, settled, start } from './kit/fake.js';
import { startProxy } from './kit/proxy.js';
import { startServer } from './kit/server.js';
import { client, TRANSPORTS, untilState, untilTrue } from './kit/wait.js';

const UNKNOWN = ({ unknown, dropped }) => unknown === true && dropped === undefined;
const UNSENT = ({ unknown }) => unknown === undefined;
const END_MS = 300_000;

for (const transport of TRANSPORTS)
  describe(`over ${transport}, cut after the request and before its answer`, () => {
    let server;
    before(async () => {
      server = await startServer();
    });
    after(() => server.kill());

    test('a push gives its new name, one of several at once, too', async (context) => {
      await server.put('.', { a: {}, n: 0 });
      const t = client(context, server.url, transport);
      await untilState(t, 'open');
      const names = [await t.push('.a', 0)];
      names.push(...(await Promise.all([t.push('.a', 1), t.increment('.n'), t.push('.a', 2)])));
      const { a } = await server.ask('GET', 'store?path=.');
      names.splice(2, 1);
      assert.deepEqual(
        names.map((name) => a[name]),
        [0, 1, 2],
      );
      assert.deepEqual(Object.keys(a), names.toSorted());
    });

    test('every kind of write is done once, in order', async (context) => {
      await server.put('.', { n: 0, m: 0, list: [], gone: 1 });
      const proxy = await startProxy(context, server.port);
      const t = client(context, proxy.url, transport);
      await untilState(t, 'open');
      proxy.freeze();
      const written = [
        t.increment('.n'),
        t.append('.list', 'a'),
        t.delete('.gone'),
        t.patch('.list', [{ op: 'add', path: '/0', value: 'first' }]),
        t.batch([
          { type: 'increment', path: '.n' },
          { type: 'append', path: '.list', value: 'b' },
        ]),
        t.batch([{ type: 'increment', path: '.m' }], { atomic: true }),
        t.append('.list', 'c'),
      ];
      const refused = assert.rejects(t.delete('.never'), { status: 404 });
      const said = t.publish({ room: 'r', event: 'e' });
      const lost = assert.rejects(said, UNKNOWN);
      const document = { n: 2, m: 1, list: ['first', 'a', 'b', 'c'] };
      let now;
      do now = await server.ask('GET', 'store?path=.');
      while (now.list.at(-1) !== 'c');
      assert.deepEqual(now, document);
      proxy.cut();
      proxy.thaw();
      const answers = await Promise.all(written);
      await Promise.all([refused, lost]);
      assert.deepEqual(await server.ask('GET', 'store?path=.'), document);
      // The positions of the first time.
      const positions = answers.flatMap((answer) => answer.positions ?? answer);
      const numbers = positions.map((position) => +position.split(':')[1]);
      const first = numbers[0];
      assert.deepEqual(
        numbers,
        [0, 1, 2, 3, 4, 5, 6, 7].map((n) => first + n),
      );
    });

    test('wherever it is cut, each of 200 is done once', async (context) => {
      await server.put('.', { list: [] });
      const proxy = await startProxy(context, server.port);
      const t = client(context, proxy.url, transport, { batchMs: 1 });
      await untilState(t, 'open');
      const written = [];
      for (let n = 0; n < 200; n++) {
        written.push(t.append('.list', n));
        if (n % 25 === 24) {
          const { accepted } = proxy;
          if (n % 2) await new Promise((done) => setTimeout(done, n / 25));
          proxy.cut();
          await untilTrue(() => proxy.accepted > accepted);
        }
      }
      await Promise.all(written);
      assert.deepEqual(
        await t.get('.list'),
        Array.from({ length: 200 }, (_, n) => n),
      );
    });
  });

const WRITES = ['set', 'increment', 'append', 'batch'];
/** The writes that a WebSocket was sent, one by one. */
const writesOf = (socket) =>
  socket.sent.filter(({ type }) => WRITES.includes(type)).flatMap((frame) => frame.ops ?? frame);

/** A client on a WebSocket, and `again`, which cuts it and lets it in anew. */
async function linked(context, options) {
  const started = start(context, options);
  await started.seconds(0);
  started.sockets[0].welcome();
  const again = async () => {
    started.sockets.at(-1).end();
    await started.seconds(1);
    started.sockets.at(-1).welcome();
    await started.seconds(0.1);
  };
  return { ...started, again };
}

test('writes and reads are sent again, in order, and nothing else', async (context) => {
  const { t, sockets, seconds, again } = await linked(context);
  const written = [t.increment('.n'), t.set('.a', 1)];
  const read = t.get('.n');
  const said = assert.rejects(t.publish({ room: 'r', event: 'e' }), UNKNOWN);
  const tagged = assert.rejects(t.command({ type: 'tag', tags: {} }), UNKNOWN);
  await seconds(0.1);
  const sent = writesOf(sockets[0]);
  assert.equal(new Set(sent.map(({ key }) => key)).size, 2);
  for (const { key } of sent) assert.match(key, /^[\x20-\x7e]{20,255}$/);
  assert.ok(sockets[0].sent.every(({ type, key }) => key === undefined || WRITES.includes(type)));
  await again();
  await Promise.all([said, tagged]);
  assert.deepEqual(writesOf(sockets[1]), sent);
  const types = sockets[1].sent.map(({ type }) => type).filter((type) => type !== 'ping');
  assert.deepEqual(types, ['batch', 'get']);
  const [batch, get] = sockets[1].sent.filter(({ type }) => types.includes(type));
  sockets[1].say({ type: 'ok', ref: batch.ref, positions: ['e1:1', 'e1:2'] });
  sockets[1].say({ type: 'ok', ref: get.ref, items: [{ path: '.n', value: 7 }] });
  assert.deepEqual(await Promise.all(written), ['e1:1', 'e1:2']);
  assert.equal(await read, 7);
});

test('two clients have no key in common, and one of the program is kept', async (context) => {
  const keys = [];
  for (let n = 0; n < 2; n++) {
    const { t, sockets, seconds } = await linked(context);
    t.set('.a', 1).catch(() => {});
    t.batch([], { atomic: true, key: `mine ${n}` }).catch(() => {});
    await seconds(0.1);
    for (const { type, key } of sockets[0].sent) if (type !== 'ping') keys.push(key);
    context.mock.timers.reset();
    context.mock.restoreAll();
  }
  assert.equal(new Set(keys).size, 4);
  assert.deepEqual([keys[1], keys[3]], ['mine 0', 'mine 1']);
});

for (const [what, afterMs, isAgain] of [
  ['less than five minutes', END_MS - 1, true],
  ['five minutes', END_MS, false],
  ['a clock that was set back', -1, false],
])
  test(`after ${what} a write is ${isAgain ? '' : 'not '}sent again`, async (context) => {
    const { sleep } = clock(context);
    const { t, sockets, seconds, again } = await linked(context);
    const written = t.increment('.n').catch(({ unknown }) => unknown);
    await seconds(0.1);
    // Each time it is sent counts from the first.
    sleep(afterMs / 2000);
    await again();
    assert.equal(writesOf(sockets[1]).length, afterMs < 0 ? 0 : 1);
    sockets[1].end();
    sleep(afterMs / 2000);
    await seconds(1);
    sockets[2].welcome();
    await seconds(0.1);
    assert.equal(writesOf(sockets[2]).length, isAgain ? 1 : 0);
    if (!isAgain) assert.equal(await written, true);
  });

test('with another token a write is not sent again', async (context) => {
  const { t, sockets, seconds, again } = await linked(context, { token: 'a' });
  const results = [];
  const write = async (n) => {
    t.set('.x', n).catch(({ unknown }) => results.push([n, unknown]));
    await seconds(0.1);
  };
  await write(1);
  t.auth('b').catch(() => {});
  await write(2); // the server may have changed over to the new one by now, or not
  const { ref } = sockets[0].sent.find(({ type }) => type === 'auth');
  sockets[0].say({ type: 'ok', ref });
  await write(3);
  await again();
  assert.deepEqual(results, [
    [1, true],
    [2, true],
  ]);
  assert.deepEqual(
    writesOf(sockets[1]).map(({ value }) => value),
    [3],
  );
});

test('a token that only the link had, or did not have yet, is another one', async (context) => {
  const { t, sockets, seconds, again } = await linked(context, { token: 'a' });
  t.set('.x', 0).catch(() => {});
  t.command({ type: 'auth', token: 'b' }).catch(() => {});
  await seconds(0.1);
  sockets[0].say({ type: 'ok', ref: sockets[0].sent.at(-1).ref });
  const asB = assert.rejects(t.set('.x', 1), UNKNOWN);
  await seconds(0.1);
  await again(); // shows a
  await asB;
  assert.deepEqual(
    writesOf(sockets[1]).map(({ value }) => value),
    [0],
  );
  sockets[1].say({ type: 'ok', ref: writesOf(sockets[1])[0].ref, id: 'e1:1' });
  sockets[1].end();
  await seconds(1);
  t.auth('c'); // while it is being opened with a
  sockets[2].welcome();
  const asA = assert.rejects(t.set('.x', 2), UNKNOWN);
  await seconds(0.1);
  await again(); // shows c
  await asA;
  assert.equal(writesOf(sockets[2]).length, 1);
  assert.equal(writesOf(sockets[3]).length, 0);
});

test('over HTTP, with another token a write is not sent again', async (context) => {
  const { fetch, posts } = fakeStreams();
  const { t, seconds } = start(context, { fetch, WebSocket: null, token: 'a' });
  t.watch('.x');
  await seconds(0);
  await settled();
  const commands = () => posts.filter(({ url }) => url.endsWith('/batch'));
  const first = assert.rejects(t.set('.x', 1), UNKNOWN);
  await seconds(0.1);
  t.auth('b');
  commands()[0].fail(new TypeError('fetch failed'));
  await settled();
  await seconds(1);
  await settled();
  await seconds(0.1);
  await first;
  t.auth('c'); // from the next request on
  const second = t.set('.x', 2);
  await seconds(0.1);
  commands()[1].fail(new TypeError('fetch failed'));
  await settled();
  await seconds(2);
  await settled();
  await seconds(0.1);
  const bodies = commands().map(({ body }) => JSON.parse(body)[0].value);
  assert.deepEqual(bodies, [1, 2, 2]);
  commands()[2].answer([{ ok: true, id: 'e1:1' }]);
  assert.equal(await second, 'e1:1');
});

test('a token that ends with the link: what was sent is in doubt, what waits is sent', async (context) => {
  const tokens = ['a', 'b'];
  const { t, sockets, seconds } = await linked(context, { token: () => tokens.shift() });
  const sent = assert.rejects(t.set('.x', 1), UNKNOWN);
  await seconds(0.1);
  t.set('.x', 2).catch(() => {});
  sockets[0].end(4401);
  await seconds(0);
  sockets[1].welcome();
  await seconds(0.1);
  await sent;
  assert.deepEqual(
    writesOf(sockets[1]).map(({ value }) => value),
    [2],
  );
});

test('at the end, and from a full queue, what is in doubt is told from what was never sent', async (context) => {
  const { t, sockets, seconds } = await linked(context, { queueLimit: 2 });
  const inDoubt = [1, 2].map((n) => assert.rejects(t.set('.x', n), UNKNOWN));
  await seconds(0.1);
  sockets[0].end();
  // Two have to make room, then two more.
  const waits = [3, 4, 5, 6].map((n) => assert.rejects(t.set('.x', n), UNSENT));
  await Promise.all(inDoubt);
  t.close();
  await Promise.all(waits);

  context.mock.timers.reset();
  context.mock.restoreAll();
  const other = await linked(context);
  const open = assert.rejects(other.t.set('.x', 1), UNKNOWN);
  await other.seconds(0.1);
  other.t.close();
  await open;
});

test('a server that does not know the outcome is asked again, later', async (context) => {
  const { t, sockets, seconds } = await linked(context);
  const written = [t.increment('.n'), t.increment('.n')];
  await seconds(0.1);
  const [batch] = sockets[0].sent.filter(({ type }) => type === 'batch');
  const error = { index: 1, status: 503, title: 'Outcome unknown', detail: '', retry_after: 2 };
  sockets[0].say({ type: 'ok', ref: batch.ref, positions: ['e1:1', null], errors: [error] });
  await seconds(1.9);
  assert.equal(writesOf(sockets[0]).length, 2);
  for (let step = 0; step < 20; step++) await seconds(0.016);
  const { ref, ...last } = sockets[0].sent.at(-1);
  assert.deepEqual(last, batch.ops[1]);
  sockets[0].say({ type: 'ok', ref, id: 'e1:2' });
  assert.deepEqual(await Promise.all(written), ['e1:1', 'e1:2']);
});

for (const [what, answer] of [
  ['a request that fails', (post) => post.fail(new TypeError('fetch failed'))],
  ['a proxy that had no answer', (post) => post.answer({}, { status: 504 })],
])
  test(`over HTTP, ${what}: sent again with the same key`, async (context) => {
    const { fetch, posts } = fakeStreams();
    const { t, seconds } = start(context, { fetch, WebSocket: null });
    t.watch('.x');
    await seconds(0);
    await settled();
    const written = t.increment('.n');
    const said = assert.rejects(t.publish({ room: 'r', event: 'e' }), UNKNOWN);
    await seconds(0.1);
    const [{ key, ...more }] = JSON.parse(posts[0].body);
    assert.deepEqual(more, { type: 'increment', path: '.n' });
    answer(posts[0]);
    await settled();
    await said;
    await seconds(1);
    await settled();
    await seconds(0.1);
    assert.equal(posts.length, 2);
    assert.deepEqual(JSON.parse(posts[1].body), [{ type: 'increment', path: '.n', key }]);
    posts[1].answer([{ ok: true, id: 'e1:1' }]);
    assert.equal(await written, 'e1:1');
  });
