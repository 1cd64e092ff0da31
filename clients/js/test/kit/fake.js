// A WebSocket and a `fetch` whose server is the test, and a clock that it turns.

import { triode } from '../../triode.js';

/** A class to give as the `WebSocket` option; `sockets` are those that were made, newest last. */
export function fakeWebSocket() {
  const sockets = [];
  class FakeWebSocket {
    bufferedAmount = 0;
    sent = [];

    constructor(url, protocols) {
      this.url = url;
      this.protocols = protocols;
      sockets.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close() {
      this.isClosed = true;
    }

    /** The server says this. */
    say(...frames) {
      for (const frame of frames) this.onmessage({ data: JSON.stringify(frame) });
    }

    /** The server lets it in, and answers the subscriptions with these items. */
    welcome(items = [], id = 'e1:1') {
      this.say({ type: 'connected', client: 'c_1', epoch: 'e1', resumed: false, heartbeat_s: 15 });
      for (const { type, ref, filter } of [...this.sent]) {
        if (type === 'subscribe')
          this.say(
            { type: 'ok', ref, filter, resumed: false },
            { type: 'snapshot', id, filter, items, more: false },
          );
      }
    }

    /** It ends. */
    end(code = 1006, reason = '') {
      this.onclose({ code, reason });
    }
  }
  return { sockets, WebSocket: FakeWebSocket };
}

/** Let promises go on. */
export const settle = () => new Promise((done) => setImmediate(done));

/** Let promises go on for long. */
export const settled = async () => {
  for (let i = 0; i < 20; i++) await settle();
};

export const REFUSED = async () => {
  throw new TypeError('fetch failed');
};

/** A client of fakes; `events` is what it told of reconnecting, `seconds` turns the clock. */
export function start(context, options = {}) {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const { sockets, WebSocket } = fakeWebSocket();
  const t = triode('http://triode.test', { WebSocket, fetch: REFUSED, jitter: false, ...options });
  const events = [];
  t.on('reconnecting', (...event) => events.push(event));
  t.on('error', () => {});
  context.after(() => t.close());
  let now = 1000;
  context.mock.method(performance, 'now', () => now);
  const seconds = async (count) => {
    await settle();
    now += count * 1000;
    context.mock.timers.tick(count * 1000);
    await settle();
  };
  return { t, sockets, events, seconds, waits: () => events.map(([, ms]) => ms / 1000) };
}

/** A `fetch` of event streams that the test speaks on; `posts` are the requests of commands. */
export function fakeStreams() {
  const streams = [];
  const posts = [];
  const fetch = (url, { signal, body }) => {
    if (!url.endsWith('/events'))
      return new Promise((done, fail) =>
        posts.push({
          url,
          body,
          answer: (value, init) => done(new Response(JSON.stringify(value), init)),
          fail,
        }),
      );
    let controller;
    const stream = {
      asked: JSON.parse(body),
      signal,
      say: (event, data, id) =>
        controller.enqueue(
          new TextEncoder().encode(
            `event: ${event}\n${id ? `id: ${id}\n` : ''}data: ${JSON.stringify(data)}\n\n`,
          ),
        ),
    };
    streams.push(stream);
    stream.beat = () => controller.enqueue(new TextEncoder().encode(':\n\n'));
    const source = new ReadableStream({ start: (given) => (controller = given) });
    signal.addEventListener('abort', () => controller.error(signal.reason));
    stream.say('connected', { client: 'c_s', resumed: false, heartbeat_s: 15 });
    return Promise.resolve(new Response(source));
  };
  return { streams, posts, fetch };
}

/** Lets the machine sleep: its clock goes on, and its timers do not. */
export function clock(context) {
  let ms = 1e12;
  context.mock.method(Date, 'now', () => ms);
  return { sleep: (seconds) => (ms += seconds * 1000) };
}
