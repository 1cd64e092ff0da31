// The life of a connection, with a WebSocket whose server is the test, and a clock that it turns.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { triode } from '../triode.js';
import { clock, fakeStreams, fakeWebSocket, settle, settled, start } from './kit/fake.js';

/** The token that a WebSocket shows: in no address, as proxies log those. */
function shownBy({ url, protocols }) {
  assert.doesNotMatch(url, /token/);
  const [chosen, token] = protocols;
  assert.equal(chosen, 'triode');
  return Buffer.from(token.split('.').at(-1), 'base64url').toString();
}

test('a token is shown as a subprotocol, whatever is in it', async (context) => {
  for (const token of ['a', 'tok.en-1_', 'ÿ?ÿ>é']) {
    const { WebSocket, sockets } = fakeWebSocket();
    const t = triode('http://a.test', { WebSocket, token });
    context.after(() => t.close());
    await settle();
    assert.equal(shownBy(sockets[0]), token);
    assert.match(sockets[0].protocols[1], /^base64url\.bearer\.authorization\.triode\.[\w-]+$/);
  }
  const { sockets, seconds } = start(context);
  await seconds(0);
  assert.deepEqual(sockets[0].protocols, []);
});

test('it connects by itself, to the address of a page, a prefix, or a WebSocket', async (context) => {
  const { sockets, WebSocket } = fakeWebSocket();
  const address = async (url, options) => {
    const t = triode(url, { WebSocket, ...options });
    context.after(() => t.close());
    await settle();
    return sockets.at(-1).url;
  };
  assert.equal(await address('http://a.test'), 'ws://a.test/ws');
  assert.equal(await address('https://a.test/live?x=1'), 'wss://a.test/live/ws');
  assert.equal(await address('wss://a.test:8443/'), 'wss://a.test:8443/ws');
  assert.equal(await address('wss://a.test/ws'), 'wss://a.test/ws');
  assert.equal(await address('https://a.test/live/ws/'), 'wss://a.test/live/ws');
  assert.equal(await address('https://a.test/news'), 'wss://a.test/news/ws');
  assert.equal(
    await address('http://a.test', { token: 'a b', tags: { x: '1' } }),
    'ws://a.test/ws?tag.x=1',
  );
  globalThis.location = { href: 'https://page.test/app/index.html' };
  context.after(() => delete globalThis.location);
  assert.equal(await address(), 'wss://page.test/ws');
  assert.equal(await address('/'), 'wss://page.test/ws');
  assert.equal(await address('live'), 'wss://page.test/app/live/ws');
});

test('ready waits for the connection, makes one, and rejects when there is none', async (context) => {
  const { t, sockets } = start(context, { autoConnect: false });
  const ready = t.ready();
  await settle();
  sockets[0].welcome();
  assert.equal(await ready, t);
  assert.equal(t.state, 'open');
  assert.equal(await t.ready(), t);
  t.close();
  await assert.rejects(t.ready(), /closed/);
});

test('what is no address, or no option, is said at once', () => {
  for (const url of ['127.0.0.1:8080', 'localhost:8080', 'ftp://a.test'])
    assert.throws(() => triode(url), /not the address of a server: ".*"; write http/);
  assert.throws(
    () => triode('http://a.test', { tokn: 'x' }),
    /unknown option tokn; did you mean token\?$/,
  );
});

test('it waits twice as long after each failure, up to a limit', async (context) => {
  const { sockets, waits, seconds } = start(context, { maxDelayMs: 10_000 });
  for (const wait of [0, 1, 2, 4, 8, 10]) {
    await seconds(wait);
    sockets.at(-1).end();
    await seconds(0);
  }
  assert.deepEqual(waits(), [1, 2, 4, 8, 10, 10]);
});

test('with jitter it waits between half of that and all', async (context) => {
  const { sockets, waits, seconds } = start(context, { jitter: true });
  context.mock.method(Math, 'random', () => 0.5);
  for (const wait of [0, 1, 2]) {
    await seconds(wait);
    sockets.at(-1).end();
    await seconds(0);
  }
  assert.deepEqual(waits(), [0.75, 1.5, 3]);
});

test('a success resets the counter', async (context) => {
  const { sockets, events, seconds } = start(context);
  await seconds(0);
  sockets[0].end();
  await seconds(1);
  sockets[1].welcome();
  sockets[1].end();
  await seconds(0);
  assert.deepEqual(
    events.map(([attempt]) => attempt),
    [1, 1],
  );
});

test('it gives up after as many attempts as it is told', async (context) => {
  const { t, sockets, seconds } = start(context, { attempts: 2 });
  const written = assert.rejects(t.set('.x', 1), /fetch failed/);
  for (const wait of [0, 1, 2]) {
    await seconds(wait);
    sockets.at(-1).end();
    await seconds(0);
  }
  assert.equal(t.state, 'closed');
  assert.equal(sockets.length, 3);
  await written;
  t.connect();
  await seconds(0);
  assert.equal(sockets.length, 4);
});

test('a server that accepts and says nothing is a connection timeout', async (context) => {
  const { t, sockets, seconds, events } = start(context, { timeoutMs: 1000 });
  const errors = [];
  t.on('error', (error) => errors.push(error.message));
  await seconds(0.999);
  assert.deepEqual(errors, []);
  await seconds(0.001);
  assert.deepEqual(errors, [
    'Connection timeout: http://triode.test/',
    'fetch failed: http://triode.test/',
  ]);
  assert.equal(sockets[0].isClosed, true);
  assert.equal(events.length, 1);
  // What comes from it later is nobody's.
  sockets[0].welcome();
  assert.equal(t.state, 'waiting');
});

test('by default an attempt may take 20 s', async (context) => {
  const { t, seconds } = start(context);
  await seconds(19.9);
  assert.equal(t.state, 'connecting');
  await seconds(0.1);
  assert.equal(t.state, 'waiting');
});

test('an abnormal end reconnects', async (context) => {
  const { sockets, seconds } = start(context);
  await seconds(0);
  sockets[0].welcome();
  sockets[0].end(1006);
  await seconds(1);
  assert.equal(sockets.length, 2);
});

test('a restart is answered by the delay that the server gives', async (context) => {
  const { t, sockets, seconds, waits } = start(context);
  await seconds(0);
  sockets[0].welcome();
  sockets[0].end(1012, '{"retry_ms":4321}');
  assert.deepEqual(waits(), [4.321]);
  await seconds(4.32);
  assert.equal(sockets.length, 1);
  await seconds(0.001);
  assert.equal(sockets.length, 2);
  assert.equal(t.state, 'connecting');
});

for (const code of [4401, 4403, 4429]) {
  test(`after ${code} it does not come back by itself`, async (context) => {
    const { t, sockets, seconds } = start(context, { token: 'fixed' });
    const view = t.watch('.a');
    await seconds(0);
    sockets[0].welcome();
    const failed = [];
    t.on('error', (error) => failed.push(error));
    view.on('error', (error) => failed.push(error));
    sockets[0].end(code, 'enough');
    await seconds(3600);
    assert.equal(t.state, 'closed');
    assert.equal(sockets.length, 1);
    assert.equal(t.error.status, code - 4000);
    assert.equal(t.error.final, true);
    assert.deepEqual(failed, [t.error, t.error]);
    assert.equal(view.stale, true);
    await assert.rejects(view.ready(), t.error);
    await assert.rejects(t.set('.x', 1), t.error);
  });
}

test('a token that ended is asked for once again', async (context) => {
  let tokens = 0;
  const { t, sockets, seconds } = start(context, { token: async () => `token${++tokens}` });
  await seconds(0);
  assert.equal(shownBy(sockets[0]), 'token1');
  sockets[0].welcome();
  sockets[0].end(4401, 'token_ended');
  await seconds(0);
  assert.equal(shownBy(sockets[1]), 'token2');
  sockets[1].welcome();
  sockets[1].end(4401, 'token_ended');
  await seconds(0);
  assert.equal(t.state, 'closed');
  assert.equal(tokens, 2);
});

test('after a heartbeat in peace a token may end again', async (context) => {
  let tokens = 0;
  const { t, sockets, seconds } = start(context, { token: () => `token${++tokens}` });
  for (let round = 0; round < 3; round++) {
    await seconds(0);
    sockets.at(-1).welcome();
    await seconds(15);
    sockets.at(-1).end(4401, 'token_ended');
  }
  await seconds(0);
  assert.equal(tokens, 4);
  assert.equal(t.state, 'connecting');
});

test('a token that cannot be had is a failure like any other', async (context) => {
  let isThere = false;
  const token = async () => {
    if (!isThere) throw new Error('no token today');
    return 'T';
  };
  const { t, sockets, seconds, events } = start(context, { token });
  await seconds(0);
  assert.equal(t.state, 'waiting');
  assert.match(events[0][2].message, /no token today/);
  isThere = true;
  await seconds(1);
  assert.equal(shownBy(sockets[0]), 'T');
});

test('a silent server is asked, and left if it does not answer', async (context) => {
  const { t, sockets, seconds } = start(context);
  await seconds(0);
  const [socket] = sockets;
  socket.welcome();
  const pings = () => socket.sent.filter(({ type }) => type === 'ping').length;
  const [{ ref }] = socket.sent;
  socket.say({ type: 'pong', ref, time: 1 });
  assert.equal(pings(), 1);
  await seconds(15);
  assert.equal(pings(), 1);
  await seconds(15);
  assert.equal(pings(), 2);
  socket.say({ type: 'pong', ref: socket.sent.at(-1).ref, time: 1 });
  await seconds(15);
  assert.equal(pings(), 2);
  await seconds(15);
  assert.equal(pings(), 3);
  assert.equal(t.state, 'open');
  await seconds(15);
  assert.equal(t.state, 'waiting');
});

test('a page that is online again does not wait', async (context) => {
  const page = new EventTarget();
  globalThis.addEventListener = (...given) => page.addEventListener(...given);
  globalThis.removeEventListener = (...given) => page.removeEventListener(...given);
  context.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  const { t, sockets, seconds } = start(context);
  await seconds(0);
  sockets.at(-1).end();
  await seconds(0);
  assert.equal(t.state, 'waiting');
  page.dispatchEvent(new Event('online'));
  assert.equal(t.state, 'connecting');
  t.close();
  page.dispatchEvent(new Event('online'));
  assert.equal(t.state, 'closed');
});

test('what waits offline is sent in order, before what listeners add', async (context) => {
  const { t, sockets, seconds } = start(context);
  t.on(
    'state',
    (state) => state === 'open' && t.publish({ room: 'r', event: 'later' }).catch(() => {}),
  );
  for (const event of ['a', 'b', 'c']) t.publish({ room: 'r', event }).catch(() => {});
  await seconds(0);
  sockets[0].welcome();
  await seconds(1);
  const events = sockets[0].sent.filter(({ type }) => type === 'publish').map(({ event }) => event);
  assert.deepEqual(events, ['a', 'b', 'c', 'later']);
});

test('of more than 1000 that wait the oldest is dropped, and told so', async (context) => {
  const { t, sockets, seconds } = start(context);
  const results = Array.from({ length: 1003 }, (_, n) =>
    t.set('.x', n).then(null, (error) => ({ n, error })),
  );
  for (const n of [0, 1, 2]) {
    const { error } = await results[n];
    assert.equal(error.dropped, true);
  }
  await seconds(0);
  sockets[0].welcome();
  await seconds(1);
  const ops = sockets[0].sent.flatMap(({ ops = [] }) => ops).map(({ value }) => value);
  assert.deepEqual(
    ops,
    Array.from({ length: 1000 }, (_, n) => n + 3),
  );
});

test('writes go together at most once in 16 ms', async (context) => {
  const { t, sockets, seconds } = start(context);
  await seconds(0);
  sockets[0].welcome();
  const messages = () => sockets[0].sent.filter(({ type }) => type === 'set' || type === 'batch');
  const write = () => t.set('.x', 1).catch(() => {});
  await seconds(1);
  write();
  await seconds(0);
  assert.equal(messages().length, 1);
  write();
  write();
  await seconds(0.015);
  write();
  assert.equal(messages().length, 1);
  await seconds(0.001);
  assert.deepEqual(
    messages().map(({ ops }) => ops?.length),
    [undefined, 3],
  );
});

test('what is refused for its rate is sent again, in order', async (context) => {
  const { t, sockets, seconds } = start(context);
  await seconds(0);
  const [socket] = sockets;
  socket.welcome();
  const done = ['a', 'b', 'c'].map((event) => t.publish({ room: 'r', event }));
  await seconds(0.016);
  const sent = () => socket.sent.filter(({ type }) => type === 'publish');
  const refused = (command) => ({
    type: 'error',
    ref: command.ref,
    status: 429,
    title: 'Too Many Requests',
    detail: '',
    retry_after: 0.5,
  });
  const [a, b, c] = sent();
  socket.say({ type: 'ok', ref: a.ref, reached: 1 }, refused(b), refused(c));
  for (let step = 0; step < 50; step++) {
    await seconds(0.016);
    if (step < 30) assert.equal(sent().length, 3);
    for (const { ref } of sent().slice(3)) socket.say({ type: 'ok', ref, reached: 1 });
  }
  assert.deepEqual(
    sent().map(({ event }) => event),
    ['a', 'b', 'c', 'b', 'c'],
  );
  assert.deepEqual(await Promise.all(done), [1, 1, 1]);
});

test('it does not send more than the server takes', async (context) => {
  const { t, sockets, seconds } = start(context);
  await seconds(0);
  const [socket] = sockets;
  socket.welcome();
  for (let n = 0; n < 900; n++) t.publish({ room: 'r', event: `${n}` }).catch(() => {});
  const sent = () => socket.sent.length;
  await seconds(0);
  assert.ok(sent() <= 200, `${sent()} at once`);
  for (let step = 0; step < 62; step++) {
    await seconds(0.016);
  }
  assert.ok(sent() <= 300, `${sent()} in the first second`);
  socket.bufferedAmount = 2e6;
  const before = sent();
  await seconds(0.016);
  assert.equal(sent(), before);
});

test('one message that is too long is refused here', async (context) => {
  const { t, sockets, seconds } = start(context);
  await seconds(0);
  sockets[0].welcome();
  await seconds(1);
  const refused = assert.rejects(t.set('.x', 'x'.repeat(2e6)), { status: 413 });
  await seconds(0.001);
  await refused;
  assert.equal(t.state, 'open');
});

test('after a cut a view asks for what it missed, once it had all', async (context) => {
  const { t, sockets, seconds } = start(context);
  const [whole, cut] = [t.watch('.a'), t.watch('.b')];
  await seconds(0);
  const [first] = sockets;
  first.say({ type: 'connected', client: 'c_1', heartbeat_s: 15 });
  const [a, b] = first.sent.filter(({ type }) => type === 'subscribe');
  first.say(
    { type: 'ok', ref: a.ref, resumed: false },
    { type: 'snapshot', id: 'e1:5', filter: '.a', items: [{ path: '.a', value: 1 }], more: false },
  );
  first.say(
    { type: 'ok', ref: b.ref, resumed: false },
    { type: 'snapshot', filter: '.b', items: [{ path: '.b', value: 1 }], more: true },
  );
  first.say({ type: 'update', filter: '.a', path: '.a', value: 2, time: 1 });
  assert.equal(whole.value, 2);
  assert.equal(cut.value, undefined);
  first.end();
  assert.deepEqual([whole.stale, whole.value], [true, 2]);
  await seconds(1);
  const [, second] = sockets;
  second.say({ type: 'connected', client: 'c_2', heartbeat_s: 15 });
  const subscribed = second.sent.filter(({ type }) => type === 'subscribe');
  assert.deepEqual(
    subscribed.map(({ filter, since }) => [filter, since]),
    [
      ['.a', 'e1:5'],
      ['.b', undefined],
    ],
  );
  second.say({ type: 'ok', ref: subscribed[0].ref, resumed: true });
  second.say({ type: 'update', id: 'e1:6', filter: '.a', path: '.a', value: 3, time: 1 });
  assert.deepEqual([whole.stale, whole.value, whole.position], [true, 3, 'e1:6']);
  second.say(
    { type: 'ok', ref: subscribed[1].ref, resumed: false },
    { type: 'snapshot', id: 'e1:7', filter: '.b', items: [], more: false },
  );
  assert.deepEqual([whole.position, cut.position, cut.stale], ['e1:7', 'e1:7', false]);
  second.say({ type: 'pong', ref: second.sent.find(({ type }) => type === 'ping').ref, time: 1 });
  assert.equal(whole.stale, false);
});

test('a view that cannot be resumed keeps what it has, marked stale, until the snapshot', async (context) => {
  const { t, sockets, seconds } = start(context);
  const view = t.watch('.a');
  await seconds(0);
  sockets[0].welcome([{ path: '.a', value: 1 }]);
  sockets[0].end();
  await seconds(1);
  const [, second] = sockets;
  second.say({ type: 'connected', client: 'c_2', heartbeat_s: 15 });
  const [{ ref }, ping] = second.sent;
  second.say({ type: 'ok', ref, resumed: false }, { type: 'pong', ref: ping.ref, time: 1 });
  assert.deepEqual([view.value, view.stale], [1, true]);
  second.say({ type: 'snapshot', id: 'e2:1', filter: '.a', items: [], more: false });
  assert.deepEqual([view.value, view.stale], [undefined, false]);
});

test('a gap is announced, and healed by a snapshot', async (context) => {
  const { t, sockets, seconds } = start(context);
  const view = t.watch('.a');
  await seconds(0);
  const [socket] = sockets;
  socket.welcome([{ path: '.a', value: 1 }]);
  const told = [];
  for (const event of ['gap', 'stale', 'change'])
    view.on(event, (value) => told.push([event, value.missed ?? value.type ?? value]));
  socket.say({
    type: 'gap',
    filter: '.a',
    missed: 3,
    after: 'e1:1',
    to: 'e1:4',
    reason: 'queue_full',
  });
  assert.equal(view.stale, true);
  socket.say({ type: 'pong', time: 1 });
  assert.equal(view.stale, true);
  socket.say({
    type: 'snapshot',
    id: 'e1:4',
    filter: '.a',
    items: [{ path: '.a', value: 2 }],
    more: false,
  });
  assert.deepEqual([view.value, view.stale, view.position], [2, false, 'e1:4']);
  assert.deepEqual(told, [
    ['stale', true],
    ['gap', 3],
    ['change', 'snapshot'],
    ['stale', false],
  ]);
});

test('rooms are entered again after a reconnect, those that were left are not', async (context) => {
  const { t, sockets, seconds } = start(context);
  t.room('stay');
  const left = t.room('left');
  await seconds(0);
  sockets[0].welcome();
  const leaving = left.leave();
  sockets[0].end();
  await seconds(1);
  sockets[1].welcome();
  await leaving;
  assert.deepEqual(
    sockets[1].sent.filter(({ type }) => type === 'join').map(({ room }) => room),
    ['stay'],
  );
});

test('what was said in rooms during a cut is asked for, with one join', async (context) => {
  const { t, sockets, seconds } = start(context);
  const joins = (socket) => socket.sent.filter(({ type }) => type === 'join');
  const [a, b, c] = ['a', 'b', 'c'].map((name) => t.room(name));
  await seconds(0);
  sockets[0].welcome();
  await seconds(1);
  for (const { ref, room } of joins(sockets[0]))
    sockets[0].say({ type: 'ok', ref, members: [], positions: { [room]: `${room}:1` } });
  sockets[0].say({ type: 'message', room: 'a', event: 'say', data: 1, id: 'a:2' });
  c.leave().catch(() => {});
  sockets[0].end();
  c.join().catch(() => {});
  await seconds(1);
  sockets[1].welcome();
  await seconds(1);
  const [anew, again] = joins(sockets[1]);
  assert.deepEqual([anew.room, anew.since], ['c', undefined], 'it was left meanwhile');
  assert.deepEqual(again.room, ['a', 'b']);
  assert.deepEqual(again.since, { a: 'a:2', b: 'b:1' });
  assert.equal(again.was, 'c_1');
  assert.equal(joins(sockets[1]).length, 2);
  // Refused as a whole, each is tried by itself.
  sockets[1].say({ type: 'error', ref: again.ref, status: 403, detail: 'not b' });
  await seconds(1);
  assert.deepEqual(
    joins(sockets[1])
      .slice(2)
      .map(({ room }) => room),
    ['a', 'b'],
  );
  assert.equal(a.joined && b.joined, true);
});

test('who closes it while it tells of a loss has closed it', async (context) => {
  for (const event of ['error', 'stale', 'state']) {
    const { t, sockets, seconds } = start(context);
    const view = t.watch('.a');
    await seconds(0);
    if (event !== 'error') sockets[0].welcome();
    (event === 'stale' ? view : t).on(event, (value) => value !== 'connecting' && t.close());
    sockets[0].end();
    await seconds(60);
    assert.equal(t.state, 'closed', event);
    assert.equal(sockets.length, 1, event);
    context.mock.timers.reset();
    context.mock.restoreAll();
  }
});

test('who connects while it tells of a loss is connected once', async (context) => {
  const { t, sockets, seconds } = start(context);
  const view = t.watch('.a');
  await seconds(0);
  sockets[0].welcome();
  assert.equal(view.stale, false);
  view.on('stale', () => t.connect());
  sockets[0].end();
  await seconds(5);
  assert.equal(sockets.length, 2);
});

test('an address is changed in its scheme only', async (context) => {
  const { sockets, WebSocket } = fakeWebSocket();
  for (const url of ['ws://http-gw:8080', 'wss://a.test/http/live']) {
    const t = triode(url, { WebSocket });
    context.after(() => t.close());
    await settle();
    assert.equal(sockets.at(-1).url, url + '/ws');
  }
});

for (const [ours, state] of [
  [false, 'waiting'],
  [true, 'closed'],
])
  test(`a 404 of ${ours ? 'Triode' : 'a proxy'} at a reconnect: ${state}`, async (context) => {
    const headers = ours ? { triode: 'refused' } : {};
    const fetch = async () => new Response('{}', { status: 404, headers });
    const { t, sockets, seconds } = start(context, { fetch });
    await settle();
    sockets[0].welcome();
    assert.equal(t.state, 'open');
    sockets[0].end();
    await seconds(1);
    sockets[1].onerror();
    await settle();
    await settle();
    assert.equal(t.state, state);
  });

/** A client whose WebSocket was refused once, and that watches `.x` on a stream. */
async function onStream(context) {
  const fake = fakeStreams();
  const started = start(context, { fetch: fake.fetch });
  const view = started.t.watch('.x');
  await started.seconds(0.001);
  started.sockets[0].onerror();
  await settled();
  const [stream] = fake.streams;
  const items = [{ path: '.x', value: 1 }];
  stream.say('snapshot', { filter: '.x', items, more: false }, 'e1:1');
  await settled();
  assert.equal(started.t.transport, 'sse');
  assert.equal(view.value, 1);
  /** Time that the stream lives through. */
  const lives = async (count) => {
    for (let s = 0; s < count; s++) {
      stream.beat();
      await started.seconds(1);
    }
  };
  return { ...started, ...fake, stream, view, lives };
}

test('beside a stream a WebSocket is tried, and takes over where the stream was', async (context) => {
  const { t, sockets, seconds, stream, view, events, lives } = await onStream(context);
  await lives(59);
  assert.equal(sockets.length, 1);
  stream.say('update', { filter: '.x', path: '.x', value: 2 }, 'e1:2');
  await settled();
  await seconds(1);
  assert.equal(sockets.length, 2);
  assert.equal(t.transport, 'sse');
  assert.equal(stream.signal.aborted, false);
  const room = t.room('r');
  sockets[1].say({ type: 'connected', client: 'c_w', resumed: false, heartbeat_s: 15 });
  await seconds(0.016);
  assert.equal(t.transport, 'websocket');
  assert.equal(t.client, 'c_w');
  assert.equal(stream.signal.aborted, true);
  const { ref, since } = sockets[1].sent.find(({ type }) => type === 'subscribe');
  assert.equal(since, 'e1:2');
  assert.ok(sockets[1].sent.some(({ type, room }) => type === 'join' && room === 'r'));
  sockets[1].say({ type: 'ok', ref, filter: '.x', resumed: true });
  sockets[1].say({ type: 'update', filter: '.x', path: '.x', value: 3, id: 'e1:3' });
  assert.equal(view.value, 3);
  assert.equal(room.joined, true);
  assert.deepEqual(events, []);
});

test('a WebSocket that cannot be had is tried again after twice the time', async (context) => {
  const { t, sockets, stream, lives } = await onStream(context);
  const tried = async (after) => {
    const { length } = sockets;
    await lives(after - 1);
    assert.equal(sockets.length, length);
    await lives(1);
    assert.equal(sockets.length, length + 1);
    return sockets.at(-1);
  };
  const failed = await tried(60);
  failed.onerror();
  failed.end();
  await settled();
  const silent = await tried(120);
  await lives(20);
  assert.equal(silent.isClosed, true);
  await tried(240);
  assert.equal(t.transport, 'sse');
  assert.equal(stream.signal.aborted, false);
  t.close();
  assert.equal(sockets.at(-1).isClosed, true);
});

test('a WebSocket takes over after the commands that are on their way', async (context) => {
  const { t, sockets, seconds, posts, lives } = await onStream(context);
  await lives(60);
  const first = t.set('.x', 2);
  await seconds(0.016);
  assert.equal(posts.length, 1);
  sockets[1].say({ type: 'connected', client: 'c_w', resumed: false, heartbeat_s: 15 });
  t.set('.x', 3).catch(() => {});
  await seconds(0.016);
  assert.equal(t.transport, 'sse');
  posts[0].answer([{ ok: true, id: 'e1:2' }]);
  await settled();
  assert.equal(await first, 'e1:2');
  assert.equal(t.transport, 'websocket');
  await seconds(0.016);
  assert.equal(posts.length, 1);
  assert.ok(sockets[1].sent.some(({ type, value }) => type === 'set' && value === 3));
});

test('after a sleep a link is asked at once, and left if it does not answer', async (context) => {
  const { sleep } = clock(context);
  const { t, sockets, seconds } = start(context);
  await seconds(0);
  const [socket] = sockets;
  socket.welcome();
  const pings = () => socket.sent.filter(({ type }) => type === 'ping');
  for (const { ref } of pings()) socket.say({ type: 'pong', ref, time: 1 });
  sleep(600);
  await seconds(5);
  await seconds(0.016);
  assert.equal(pings().length, 2);
  socket.say({ type: 'pong', ref: pings().at(-1).ref, time: 1 });
  sleep(600);
  await seconds(5);
  await seconds(4.999);
  assert.equal(t.state, 'open');
  await seconds(0.001);
  assert.equal(t.state, 'waiting');
});

test('after a sleep a stream is opened anew, from where it was', async (context) => {
  const { sleep } = clock(context);
  const { t, seconds, streams, stream } = await onStream(context);
  sleep(5);
  await seconds(5);
  assert.equal(streams.length, 1);
  sleep(600);
  await seconds(5);
  await settled();
  assert.equal(streams.length, 2);
  assert.equal(stream.signal.aborted, true);
  assert.equal(streams[1].asked.since, 'e1:1');
  assert.equal(t.state, 'open');
});

test('a page that is looked at again asks whether the server is there', async (context) => {
  const document = new EventTarget();
  document.hidden = true;
  globalThis.document = document;
  context.after(() => delete globalThis.document);
  const { t, sockets } = start(context);
  await settle();
  sockets[0].welcome();
  await settle();
  const pings = () => sockets[0].sent.filter(({ type }) => type === 'ping').length;
  sockets[0].sent.length = 0;
  document.dispatchEvent(new Event('visibilitychange'));
  await settle();
  assert.equal(pings(), 0);
  document.hidden = false;
  document.dispatchEvent(new Event('visibilitychange'));
  context.mock.timers.tick(20);
  await settle();
  assert.equal(pings(), 1);
  context.mock.timers.tick(5000);
  await settle();
  assert.equal(t.state, 'waiting');
});
