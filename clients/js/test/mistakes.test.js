// What is easily done wrong is refused with what to do, and harms nothing else.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { triode } from '../triode.js';
import { fakeStreams, settle, settled, start } from './kit/fake.js';
import { startProxy } from './kit/proxy.js';
import { startServer } from './kit/server.js';
import { client, TRANSPORTS, until, untilState, untilView } from './kit/wait.js';

for (const transport of TRANSPORTS)
  describe(transport, () => {
    let server;
    before(async () => {
      server = await startServer();
    });
    after(() => server.kill());

    test('a policy that there is not fails its view alone', async (context) => {
      await server.put('.', { a: 1, b: 2 });
      const t = client(context, server.url, transport);
      const good = t.watch('.a');
      await good.ready();
      const bad = t.watch('.b', { policy: 'newest' });
      await assert.rejects(bad.ready(), { status: 400, message: /newest/ });
      await t.set('.a', 3);
      await untilView(good, () => good.value === 3);
      assert.equal(t.state, 'open');
      assert.equal(good.error, null);
    });

    test('what is aborted on its way is not sent again', async (context) => {
      await server.put('.', { n: 0, m: 0 });
      const proxy = await startProxy(context, server.port);
      const t = client(context, proxy.url, transport);
      await untilState(t, 'open');
      proxy.freeze();
      const stop = new AbortController();
      const { signal } = stop;
      const written = t.increment('.n', 1, { signal });
      const read = t.get('.n', { signal });
      const kept = t.increment('.m');
      while ((await server.ask('GET', 'store?path=.m')) !== 1);
      stop.abort();
      await assert.rejects(written, { name: 'AbortError', unknown: true, cause: signal.reason });
      await assert.rejects(read, signal.reason);
      proxy.cut();
      proxy.thaw();
      await kept;
      assert.deepEqual(await server.ask('GET', 'store?path=.'), { n: 1, m: 1 });
    });
  });

test('what cannot be reached is said with its address and the cause', async (context) => {
  const t = triode('http://127.0.0.1:9', { WebSocket: null, attempts: 0 });
  context.after(() => t.close());
  const [error] = await until(t, 'error');
  assert.equal(error.message, 'bad port: http://127.0.0.1:9/');
  assert.equal(error.url, 'http://127.0.0.1:9/');
  assert.equal(error.cause.message, 'fetch failed');
});

test('a refusal has the address, too', async (context) => {
  const server = await startServer({ admin_token: 'the-admin-token-of-the-tests' }, context);
  const t = client(context, server.url, 'sse', { token: 'wrong' });
  const [error] = await until(t, 'error');
  assert.deepEqual([error.status, error.url], [401, server.url]);
});

test('a page of another origin is told of --cors-origins', async (context) => {
  globalThis.location = new URL('http://localhost:5173/shop');
  context.after(() => delete globalThis.location);
  const errors = [];
  const { t, seconds } = start(context, { WebSocket: null });
  t.on('error', ({ message }) => errors.push(message));
  await seconds(0);
  assert.match(
    errors[0],
    /^fetch failed: http:\/\/triode\.test\/ .*--cors-origins http:\/\/localhost:5173\)/,
  );
  const own = triode('/', { WebSocket: null, fetch: async () => Promise.reject(new Error('x')) });
  context.after(() => own.close());
  assert.equal((await until(own, 'error'))[0].message, 'x: http://localhost:5173/');
});

test('who does not listen is told once that there is no connection', async (context) => {
  const warned = context.mock.method(console, 'warn', () => {});
  const { t, sockets, seconds } = start(context);
  const quiet = triode('http://a.test', {
    WebSocket: null,
    fetch: async () => Promise.reject('no'),
  });
  context.after(() => quiet.close());
  await settled();
  for (let i = 0; i < 4; i++) await seconds(30);
  assert.deepEqual(
    warned.mock.calls.map(({ arguments: [message] }) => message),
    ['Triode: no: http://a.test/'],
  );
  assert.ok(sockets.length > 1);
});

test('an option that is none is refused, with the one that was meant', async (context) => {
  for (const [name, meant] of [
    ['tokne', 'token'],
    ['Websocket', 'WebSocket'],
    ['timeout', 'timeoutMs'],
    ['tag', 'tags'],
  ])
    assert.throws(() => triode('http://a.test', { [name]: 'x' }), {
      name: 'TypeError',
      message: `unknown option ${name}; did you mean ${meant}?`,
    });
  const longest = 'an option that has nothing to do with any of those that there are'.repeat(9);
  assert.throws(() => triode('http://a.test', { [longest]: 1 }), {
    message: `unknown option ${longest}`,
  });
  const { t } = start(context);
  assert.throws(() => t.watch('.a', { polciy: 'latest' }), /did you mean policy\?/);
});

test('on a server, without an address, it rests', async (context) => {
  const t = triode();
  const view = t.watch('.a');
  assert.deepEqual([t.state, view.value, view.stale], ['idle', undefined, true]);
  const help = /write http:\/\/HOST:PORT/;
  assert.equal(t.connect(), t);
  await assert.rejects(t.ready(), help);
  await assert.rejects(view.ready(), help);
  await assert.rejects(t.set('.a', 1), help);
  assert.deepEqual([t.state, t.transport], ['idle', null]);
  t.close();
  const live = triode('./live');
  context.after(() => live.close());
  assert.equal(live.state, 'idle');
});

test('in a bundle it connects to where the page is from', async (context) => {
  globalThis.location = new URL('https://page.test/users/7');
  context.after(() => delete globalThis.location);
  const { fetch } = fakeStreams();
  const urls = [];
  const t = triode(undefined, {
    WebSocket: null,
    fetch: (url, init) => (urls.push(url), fetch(url, init)),
  });
  context.after(() => t.close());
  t.watch('.a');
  await settle();
  assert.equal(urls[0], 'https://page.test/events');
});

test('a value that JSON would change is refused', async (context) => {
  const { t, sockets, seconds } = start(context);
  const class_ = new (class Point {
    x = 1;
  })();
  for (const [value, said] of [
    [NaN, /NaN at "value" is no JSON value/],
    [{ a: [1, -Infinity] }, /-Infinity at "1"/],
    [new Map([['a', 1]]), /a Map at "value" .*Object\.fromEntries\(map\)/],
    [{ at: new Date(0) }, /a Date at "at" .*toISOString/],
    [new Set(), /a Set at "value"/],
    [10n, /a BigInt at "value"/],
    [[1, undefined], /undefined at "1"/],
    [() => 1, /a Function/],
    [new Uint8Array(2), /a Uint8Array/],
    [undefined, /undefined at "value" is no JSON value; write null/],
  ])
    await assert.rejects(t.set('.a', value), { name: 'TypeError', message: said });
  await assert.rejects(t.append('.a', undefined), /undefined at "value"/);
  await assert.rejects(t.increment('.a', NaN), /NaN at "by"/);
  await assert.rejects(t.batch([{ type: 'set', path: '.a', value: NaN }]), /NaN/);
  await assert.rejects(t.publish({ room: 'r', event: 'e', data: NaN }), /NaN/);
  const fine = { a: [null, true, 'x', -1.5], b: undefined, c: class_, d: Object.create(null) };
  t.set('.a', fine).catch(() => {});
  t.increment('.n').catch(() => {});
  await seconds(0);
  sockets[0].welcome();
  await seconds(1);
  const [{ ops }] = sockets[0].sent.filter(({ type }) => type === 'batch');
  assert.deepEqual(ops[0].value, { a: [null, true, 'x', -1.5], c: { x: 1 }, d: {} });
  assert.equal('by' in ops[1], false);
});

test('what is aborted while it waits is never sent', async (context) => {
  const { t, sockets, seconds } = start(context);
  const stop = new AbortController();
  const { signal } = stop;
  const first = t.set('.a', 1, { signal });
  const second = t.set('.b', 2);
  const said = t.publish({ room: 'r', event: 'e', signal });
  stop.abort(new Error('enough'));
  for (const one of [
    first,
    said,
    t.get('.a', { signal }),
    t.ready({ signal }),
    t.watch('.c').ready({ signal }),
  ])
    await assert.rejects(one, signal.reason);
  await seconds(0);
  sockets[0].welcome();
  await seconds(1);
  const writes = sockets[0].sent.filter(({ type }) => ['set', 'publish', 'get'].includes(type));
  assert.deepEqual(
    writes.map(({ path }) => path),
    ['.b'],
  );
  assert.equal('signal' in writes[0], false);
  sockets[0].say({ type: 'ok', ref: writes[0].ref, id: 'e1:2' });
  assert.equal(await second, 'e1:2');
});

test('a time limit is a signal', async (context) => {
  const t = triode('http://127.0.0.1:9', { WebSocket: null, autoConnect: false });
  context.after(() => t.close());
  const late = { name: 'TimeoutError' };
  const alive = setTimeout(() => {}, 10_000); // a signal keeps no process waiting
  context.after(() => clearTimeout(alive));
  await assert.rejects(t.set('.a', 1, { signal: AbortSignal.timeout(1) }), late);
  await assert.rejects(t.watch('.a').ready({ signal: AbortSignal.timeout(1) }), late);
});

test('a signal that lives long keeps nothing', async (context) => {
  const { t, sockets, seconds } = start(context);
  const { signal } = new AbortController();
  let listening = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...all) => (listening++, addEventListener.apply(signal, all));
  signal.removeEventListener = (...all) => (listening--, removeEventListener.apply(signal, all));
  const written = t.set('.a', 1, { signal });
  await seconds(0);
  sockets[0].welcome();
  await seconds(1);
  assert.equal(listening, 1);
  sockets[0].say({ type: 'ok', ref: sockets[0].sent.at(-1).ref, id: 'e1:2' });
  await written;
  assert.equal(listening, 0);
});
