// A WebSocket whose server is the test.

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
