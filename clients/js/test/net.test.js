// Lost networks, restarts, slow readers, tokens: a real server, and a proxy in between that misbehaves.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';

import { startProxy } from './kit/proxy.js';
import { startServer } from './kit/server.js';
import { client, TRANSPORTS, until, untilState, untilTrue, untilView } from './kit/wait.js';

const ADMIN = 'the-admin-token-of-the-tests';

for (const transport of TRANSPORTS) {
  describe(transport, () => {
    let server;
    before(async () => {
      server = await startServer();
    });
    after(() => server.kill());
    beforeEach(async () => {
      await server.put('.', {});
    });

    test('what was said in a room during a cut arrives, once', async (context) => {
      if (transport !== 'websocket') return; // a stream knows positions of the document only
      const proxy = await startProxy(context, server.port);
      const t = client(context, proxy.url, transport, { delayMs: 1000, maxDelayMs: 1000 });
      const other = client(context, server.url, transport);
      const room = t.room('chat');
      await room.join();
      const heard = [];
      room.on('say', (data) => heard.push(data));
      await other.room('chat').join();
      await other.publish({ room: 'chat', event: 'say', data: 1 });
      await room.publish('say', 'mine');
      const away = untilState(t, 'waiting');
      proxy.cut();
      await away;
      for (const data of [2, 3]) await other.publish({ room: 'chat', event: 'say', data });
      assert.equal(t.state, 'waiting');
      await untilState(t, 'open');
      await other.publish({ room: 'chat', event: 'say', data: 4 });
      await untilTrue(() => heard.length >= 4);
      assert.deepEqual(heard, [1, 2, 3, 4]);
    });

    test('after a cut exactly what was missed arrives', async (context) => {
      await server.put('.n', 0);
      const proxy = await startProxy(context, server.port);
      const t = client(context, proxy.url, transport);
      const view = t.watch('.n');
      await view.ready();
      const seen = [];
      view.on('change', ({ type }) => seen.push([type, view.value]));
      const stale = until(view, 'stale', (is) => is);
      proxy.refuses = () => true;
      proxy.cut();
      await stale;
      assert.equal(view.value, 0);
      for (const n of [1, 2]) await server.put('.n', n);
      proxy.refuses = () => false;
      await untilView(view, () => !view.stale && view.value === 2);
      await t.set('.n', 3);
      await untilView(view, () => view.value === 3);
      assert.deepEqual(seen, [
        ['update', 1],
        ['update', 2],
        ['update', 3],
      ]);
    });

    test('what is written while offline is sent in order', async (context) => {
      await server.put('.list', []);
      const proxy = await startProxy(context, server.port);
      const t = client(context, proxy.url, transport);
      await t.watch('.list').ready();
      proxy.refuses = () => true;
      proxy.cut();
      await untilState(t, 'waiting');
      const written = Array.from({ length: 600 }, (_, n) => t.append('.list', n));
      proxy.refuses = () => false;
      await Promise.all(written);
      assert.deepEqual(
        await t.get('.list'),
        Array.from({ length: 600 }, (_, n) => n),
      );
    });

    test('a crash of the server: the view holds its last value, then has the new one', async (context) => {
      const own = await startServer({}, context);
      await own.put('.v', 'old');
      const t = client(context, own.url, transport);
      const view = t.watch('.v');
      const room = t.room('r');
      await Promise.all([view.ready(), room.join()]);
      await own.kill();
      await untilState(t, 'waiting');
      assert.deepEqual([view.value, view.stale], ['old', true]);
      await own.start();
      await own.put('.v', 'new');
      await untilView(view, () => !view.stale && view.value === 'new');
      const heard = until(room, 'say');
      await own.ask('POST', 'publish', { room: 'r', event: 'say', data: 1 });
      assert.equal((await heard)[0], 1);
    });

    test('a drain says when to come back', async (context) => {
      const own = await startServer({}, context);
      const t = client(context, own.url, transport, { delayMs: 60_000, maxDelayMs: 60_000 });
      const view = t.watch('.');
      await view.ready();
      const waiting = until(t, 'reconnecting');
      await own.stop();
      const [attempt, delayMs, error] = await waiting;
      assert.equal(attempt, 1);
      assert.equal(delayMs, error.delayMs);
      assert.ok(delayMs < 30_000, `${delayMs} ms is not the server's`);
    });

    test('a slow reader loses events, is told, and healed without a reconnect', async (context) => {
      const own = await startServer({ queue_items: 20, send_buffer_bytes: 4096 }, context);
      await own.put('.', { n: 0, text: '' });
      const proxy = await startProxy(context, own.port);
      const t = client(context, proxy.url, transport);
      const view = t.watch('.');
      await view.ready();
      const { client: id } = t;
      const gap = until(view, 'gap');
      proxy.freeze();
      // More than the system holds for the sockets in between.
      for (let n = 1; n <= 80; n++) await own.put('.', { n, text: `${n} `.repeat(100_000) });
      proxy.thaw();
      const [{ missed, reason }] = await gap;
      assert.ok(missed > 0 && reason);
      await untilView(view, () => !view.stale && view.value.n === 80);
      assert.deepEqual(view.items, await own.select('.'));
      assert.equal(t.client, id);
    });

    test('a server that swallows what it is sent is given up after the timeout', async (context) => {
      const proxy = await startProxy(context, server.port);
      proxy.swallows = true;
      const t = client(context, proxy.url, transport, { timeoutMs: 200 });
      const [error] = await until(t, 'error');
      assert.equal(error.message, `Connection timeout: ${proxy.url}`);
      proxy.swallows = false;
      await t.watch('.').ready();
    });

    test('a connection that is frozen is noticed', async (context) => {
      const own = await startServer({ heartbeat: '200ms' }, context);
      const proxy = await startProxy(context, own.port);
      const t = client(context, proxy.url, transport);
      await t.watch('.').ready();
      const waiting = until(t, 'reconnecting');
      proxy.freeze();
      const [, , error] = await waiting;
      assert.match(error.message, /heartbeat/);
      proxy.thaw();
      await untilState(t, 'open');
    });

    test('many commands after a reconnect stay within the rates', async (context) => {
      const own = await startServer({ ws_rate: '100/200', http_rate: '100/20' }, context);
      const t = client(context, own.url, transport);
      const views = Array.from({ length: 90 }, (_, n) => t.watch(`.views["${n}"]`));
      const said = Array.from({ length: 300 }, (_, n) =>
        t.publish({ room: 'r', event: 'e', data: n }),
      );
      await Promise.all([...views.map((view) => view.ready()), ...said]);
      assert.equal(t.state, 'open');
    });

    describe('with tokens', () => {
      let guarded;
      before(async () => {
        guarded = await startServer({ admin_token: ADMIN });
        await guarded.put('.', { open: 1, secret: 2 }, ADMIN);
      });
      after(() => guarded.kill());
      const issue = async (members) => guarded.ask('POST', 'tokens', members, ADMIN);

      test('no token or a wrong one ends it, with the reason', async (context) => {
        for (const token of [undefined, 'wrong']) {
          const t = client(context, guarded.url, transport, { token });
          const view = t.watch('.open');
          await assert.rejects(view.ready(), { status: 401 });
          assert.equal(t.state, 'closed');
          assert.equal(t.error.status, 401);
        }
      });

      test('a filter that is not granted fails alone, and works after auth', async (context) => {
        const { token } = await issue({ read: ['.open'], write: ['.open'] });
        const t = client(context, guarded.url, transport, { token });
        const [secret, open] = [t.watch('.secret'), t.watch('.open')];
        await assert.rejects(secret.ready(), { status: 403 });
        assert.equal((await open.ready()).value, 1);
        await assert.rejects(t.set('.secret', 1), { status: 403 });
        await t.auth(ADMIN);
        await untilView(secret, () => !secret.error && !secret.stale);
        assert.equal((await secret.ready()).value, 2);
        await t.set('.secret', 2);
      });

      test('a token that is about to end is renewed on the living connection', async (context) => {
        let asked = 0;
        const token = async () =>
          (await issue({ read: '*', write: '*', ttl_s: asked++ ? 3600 : 3 })).token;
        const t = client(context, guarded.url, transport, { token });
        const view = t.watch('.open');
        await view.ready();
        const { client: id } = t;
        const ended = until(t, 'state', (state) => state !== 'open', 5000).then(
          () => assert.fail('it was cut'),
          () => 'still open',
        );
        await until(t, 'expiring');
        assert.equal(await ended, 'still open');
        assert.deepEqual([asked, t.client, view.stale], [2, id, false]);
        await t.set('.open', 1);
      });

      test('after a revoked token a new one is asked for', async (context) => {
        const tokens = [];
        const token = async () => {
          tokens.push(await issue({ read: '*' }));
          return tokens.at(-1).token;
        };
        const t = client(context, guarded.url, transport, { token });
        const view = t.watch('.open');
        await view.ready();
        const stale = until(view, 'stale', (is) => is);
        await guarded.ask('DELETE', `tokens/${tokens[0].id}`, undefined, ADMIN);
        await stale;
        await untilView(view, () => !view.stale);
        assert.equal(tokens.length, 2);
      });

      test('a revoked token without another is the end', async (context) => {
        const { token, id } = await issue({ read: '*' });
        const t = client(context, guarded.url, transport, { token });
        await t.watch('.open').ready();
        await guarded.ask('DELETE', `tokens/${id}`, undefined, ADMIN);
        await untilState(t, 'closed');
        assert.equal(t.error.status, 401);
      });
    });
  });
}

test(
  'where WebSockets are blocked it is an event stream, and a WebSocket again where they are not',
  { skip: !globalThis.WebSocket },
  async (context) => {
    const server = await startServer({}, context);
    const proxy = await startProxy(context, server.port);
    proxy.refuses = (head) => /upgrade: websocket/i.test(head);
    const t = client(context, proxy.url, null);
    const view = t.watch('.x');
    await view.ready();
    assert.equal(t.transport, 'sse');
    await t.set('.x', 1);
    await untilView(view, () => view.value === 1);
    // One refusal may be a restart's; after two it does not try each time.
    proxy.refuses = () => false;
    proxy.cut();
    await until(t, 'state', (state) => state === 'open');
    assert.equal(t.transport, 'websocket');
    assert.equal(view.value, 1);
  },
);
