// Views, writes and rooms against a real server, over both transports.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { client, TRANSPORTS, until, untilState, untilView } from './kit/wait.js';
import { startServer } from './kit/server.js';

for (const transport of TRANSPORTS) {
  describe(transport, () => {
    let server;
    before(async () => {
      server = await startServer();
    });
    after(() => server.kill());

    test('one line gives a live value', async (context) => {
      await server.put('.prices', { 'BTC-USD': 1, 'ETH-USD': 2 });
      const t = client(context, server.url, transport);
      const view = t.watch('.prices["BTC-USD"]', { policy: 'latest' });
      assert.equal(view.value, undefined);
      assert.equal(view.stale, true);
      assert.equal(await view.ready(), view);
      assert.equal(view.value, 1);
      assert.equal(view.stale, false);
      assert.equal(t.transport, transport);
      const changed = until(view, 'change');
      await server.put('.prices["BTC-USD"]', 3);
      const [{ type, path, value, time, id }, same] = await changed;
      assert.deepEqual([type, path, value, same], ['update', '.prices["BTC-USD"]', 3, view]);
      assert.ok(Math.abs(time - Date.now()) < 60_000);
      assert.equal(view.position, id);
      assert.equal(view.value, 3);
      await server.ask('DELETE', 'store?path=.prices');
      await untilView(view, () => view.value === undefined);
    });

    test('views of one filter share its subscription, and end alone', async (context) => {
      await server.put('.shared', 1);
      const t = client(context, server.url, transport);
      const [one, two] = [t.watch('.shared'), t.watch('.shared')];
      await Promise.all([one.ready(), two.ready()]);
      one.close();
      one.close();
      assert.equal(one.stale, true);
      const late = t.watch('.shared');
      assert.equal((await late.ready()).value, 1);
      one.on('change', () => assert.fail('it was closed'));
      await Promise.all([until(two, 'change'), until(late, 'change'), t.set('.shared', 2)]);
      assert.equal(two.value, 2);
      two.close();
      late.close();
      // A new one is subscribed anew.
      await t.set('.shared', 3);
      assert.equal((await t.watch('.shared').ready()).value, 3);
    });

    test('views that are added and closed later carry on exactly', async (context) => {
      await server.put('.added', { a: 1, b: 1, c: 1 });
      const t = client(context, server.url, transport);
      const a = t.watch('.added.a');
      await a.ready();
      const b = t.watch('.added.b');
      const many = t.watch('.added.*');
      await Promise.all([b.ready(), many.ready()]);
      b.close();
      await Promise.all(['a', 'b', 'c'].map((name) => server.put(`.added.${name}`, 2)));
      await untilView(a, () => a.value === 2);
      await untilView(many, () => [...many.value.values()].every((value) => value === 2));
      assert.equal(b.value, 1);
      assert.deepEqual(many.value, await server.select('.added.*'));
    });

    test('a loop gets the value now and after changes, the newest if it is slow', async (context) => {
      await server.put('.loop', 0);
      const t = client(context, server.url, transport);
      const view = t.watch('.loop');
      const seen = [];
      for await (const value of view) {
        seen.push(value);
        if (value === 3) break;
        if (value === 0) {
          await t.batch([1, 2].map((n) => ({ type: 'set', path: '.loop', value: n })));
          await untilView(view, () => view.value === 2);
        } else await t.set('.loop', 3);
      }
      assert.deepEqual(seen, [0, 2, 3]);
      assert.equal(view.closed, false);
      const waiting = (async () => {
        for await (const _ of view);
        return 'ended';
      })();
      view.close();
      assert.equal(await waiting, 'ended');
    });

    test('subscribe calls now and after changes, until it is ended', async (context) => {
      await server.put('.called', 1);
      const t = client(context, server.url, transport);
      const view = t.watch('.called');
      const early = [];
      const late = [];
      view.subscribe((value) => early.push(value));
      await view.ready();
      const end = view.subscribe((value) => late.push(value));
      await t.set('.called', 2);
      await untilView(view, () => view.value === 2);
      end();
      await t.set('.called', 3);
      await untilView(view, () => view.value === 3);
      assert.deepEqual(
        [early, late],
        [
          [1, 2, 3],
          [1, 2],
        ],
      );
    });

    test('on, once and off: a listener runs once for an event, or not at all', async (context) => {
      await server.put('.heard', 0);
      const t = client(context, server.url, transport);
      const view = t.watch('.heard');
      await view.ready();
      const calls = [];
      const twice = () => calls.push('on');
      const never = () => calls.push('off');
      view
        .on('change', twice)
        .on('change', twice)
        .once('change', () => calls.push('once'));
      view.once('change', never).off('change', never);
      for (const value of [1, 2]) {
        await t.set('.heard', value);
        await untilView(view, () => view.value === value);
      }
      assert.deepEqual(calls, ['on', 'once', 'on']);
    });

    test('every write does what it says, and resolves with its position', async (context) => {
      const t = client(context, server.url, transport);
      const view = t.watch('.w');
      const first = await t.set('.w', { n: 1 });
      assert.match(first, /^\w+:\d+$/);
      await t.merge('.w', { m: { x: 1 }, n: 2 });
      await t.patch('.w', [{ op: 'add', path: '/list', value: [] }]);
      await t.append('.w.list', 'a');
      await t.increment('.w.n');
      await t.increment('.w.n', 2.5);
      await t.set('.w.deep.er', 1, { create: true });
      await t.delete('.w.m');
      const value = { n: 5.5, list: ['a'], deep: { er: 1 } };
      assert.deepEqual(await t.get('.w'), value);
      assert.deepEqual(
        await t.get('.w.*'),
        new Map([
          ['.w.n', 5.5],
          ['.w.list', ['a']],
          ['.w.deep', { er: 1 }],
        ]),
      );
      assert.equal(await t.get('.w.nothing'), undefined);
      await untilView(view, () => view.value?.deep && !view.value.m);
      assert.deepEqual(view.value, value);
      await assert.rejects(t.set('.w.n', 1, { if: first }), { status: 412 });
    });

    test('a refused write rejects with the problem, alone or among others', async (context) => {
      const t = client(context, server.url, transport);
      await t.set('.r', {});
      await assert.rejects(t.set('.no.such.parent', 1), {
        name: 'TriodeError',
        status: 404,
        detail: /\.no/,
      });
      const results = await Promise.allSettled([
        t.set('.r.a', 1),
        t.set('.no.such', 1),
        t.set('.r..x', 1),
        t.set('.r.b', 2),
      ]);
      assert.deepEqual(
        results.map(({ reason }) => reason?.status),
        [undefined, 404, 400, undefined],
      );
      assert.equal(results[2].reason.column, 3);
      assert.deepEqual(await t.get('.r'), { a: 1, b: 2 });
      await assert.rejects(t.get('.a['), { status: 400 });
      await assert.rejects(t.command({ type: 'nonsense' }), { status: 400 });
    });

    test('a batch is one answer, and atomic all or nothing', async (context) => {
      const t = client(context, server.url, transport);
      await t.set('.b', {});
      const set = (path) => ({ type: 'set', path, value: 1 });
      const { positions, errors } = await t.batch([set('.b.x'), set('.no.such'), set('.b.y')]);
      assert.deepEqual(
        positions.map((id) => typeof id),
        ['string', 'object', 'string'],
      );
      assert.deepEqual(
        errors.map(({ index, status }) => [index, status]),
        [[1, 404]],
      );
      await assert.rejects(t.batch([set('.b.z'), set('.no.such')], { atomic: true }), {
        status: 404,
      });
      assert.deepEqual(await t.get('.b'), { x: 1, y: 1 });
    });

    test('what is written is what it was when it was written', async (context) => {
      const t = client(context, server.url, transport);
      const value = { n: 1 };
      const written = t.set('.snapshot', value);
      value.n = 2;
      await written;
      assert.deepEqual(await t.get('.snapshot'), { n: 1 });
    });

    test('writes of one turn go together and in order', async (context) => {
      const t = client(context, server.url, transport);
      await t.set('.order', []);
      await Promise.all(Array.from({ length: 1300 }, (_, n) => t.append('.order', n)));
      assert.deepEqual(
        await t.get('.order'),
        Array.from({ length: 1300 }, (_, n) => n),
      );
    });

    test('rooms: others hear, one leaves, one comes back', async (context) => {
      const [a, b] = [
        client(context, server.url, transport),
        client(context, server.url, transport),
      ];
      const [mine, theirs] = [a.room('chat'), b.room('chat')];
      await Promise.all([mine.join(), theirs.join()]);
      assert.equal(a.room('chat'), mine);
      const heard = until(theirs, 'say');
      const any = until(b, 'message');
      assert.equal(await mine.publish('say', { hi: 1 }), transport === 'websocket' ? 1 : 2);
      const [data, message] = await heard;
      assert.deepEqual(data, { hi: 1 });
      assert.equal(message.room, 'chat');
      if (transport === 'websocket') assert.equal(message.from, a.client);
      assert.equal((await any)[0], message);
      await theirs.leave();
      const absent = () => assert.fail('it has left');
      theirs.on('say', absent);
      await mine.publish('say', 2, { echo: true });
      theirs.off('say', absent);
      await b.room('chat').join();
      const again = until(theirs, 'say', (value) => value === 3);
      await mine.publish('say', 3);
      await again;
    });

    test('a message to one client', async (context) => {
      const [a, b] = [
        client(context, server.url, transport),
        client(context, server.url, transport),
      ];
      await b.room('lobby').join();
      const heard = until(b, 'message');
      assert.equal(await a.publish({ to: b.client, event: 'psst', data: 1 }), 1);
      const [{ room, event, data }] = await heard;
      assert.deepEqual([room, event, data], [null, 'psst', 1]);
    });

    test('a malformed filter fails alone, with the column', async (context) => {
      await server.put('.fine', 1);
      const t = client(context, server.url, transport);
      const [bad, fine] = [t.watch('.a[x'), t.watch('.fine')];
      const failed = until(bad, 'error');
      await assert.rejects(bad.ready(), { status: 400 });
      const [error] = await failed;
      assert.ok(error.column > 1);
      assert.equal(bad.error, error);
      assert.equal((await fine.ready()).value, 1);
      await assert.rejects(
        async () => {
          for await (const _ of bad);
        },
        { status: 400 },
      );
      assert.equal(t.state, 'open');
    });

    test('a room that is refused says so', async (context) => {
      const t = client(context, server.url, transport);
      const room = t.room('x'.repeat(300));
      await assert.rejects(room.join(), { status: 400 });
      assert.equal(room.joined, false);
      await t.set('.after', 1);
    });

    test('tags are those of the options', async (context) => {
      const t = client(context, server.url, transport, { tags: { role: 'tester' } });
      const room = t.room('tagged');
      await room.join();
      const heard = until(t, 'message');
      await server.ask('POST', 'publish', { tags: { 'client.role': 'tester' }, event: 'hello' });
      assert.equal((await heard)[0].event, 'hello');
    });

    test('closed is closed: views, loops and writes say so', async (context) => {
      const t = client(context, server.url, transport);
      const view = t.watch('.fine');
      await view.ready();
      const closed = until(view, 'close');
      t.close();
      await closed;
      assert.equal(t.state, 'closed');
      assert.equal(view.stale, true);
      await assert.rejects(t.set('.x', 1), /closed/);
      for await (const _ of view) assert.fail('it was closed');
      await assert.rejects(view.ready(), /closed/);
      t.connect();
      assert.equal((await t.watch('.fine').ready()).value, 1);
    });

    test('a listener that throws stops nobody, and is reported', async (context) => {
      const t = client(context, server.url, transport);
      const view = t.watch('.thrown');
      await view.ready();
      // It is reported as a rejection that nobody handles, which the test runner would take for a failure.
      const reported = context.mock.method(Promise, 'reject', () => {});
      const error = new Error('of the listener');
      view.on('change', () => {
        throw error;
      });
      const also = until(view, 'change');
      await t.set('.thrown', 1);
      await also;
      assert.deepEqual(
        reported.mock.calls.map((call) => call.arguments),
        [[error]],
      );
    });

    test('connects when it is told to', async (context) => {
      const t = client(context, server.url, transport, { autoConnect: false });
      const view = t.watch('.fine');
      assert.equal(t.state, 'idle');
      const written = t.set('.idle', 1);
      t.connect();
      await Promise.all([written, view.ready(), untilState(t, 'open')]);
    });
  });
}
