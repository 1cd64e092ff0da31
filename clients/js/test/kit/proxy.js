// A TCP proxy between client and server that cuts, freezes and refuses connections.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Start a proxy to a local port; closed with the test (or suite) `context`. */
export async function startProxy(context, port) {
  const proxy = new Proxy_(port);
  await proxy.open();
  context.after(() => proxy.close());
  return proxy;
}

class Proxy_ {
  #target;
  #server;
  #pairs = new Set();
  #isFrozen = false;
  accepted = 0;
  /** What a connection is cut after, in bytes of the server's; null: never. */
  cutAfter = null;
  /** Answer nothing to new connections, as a firewall that drops packets. */
  swallows = false;
  /** Called with the first bytes of a connection; true ends it. */
  refuses = () => false;

  constructor(port) {
    this.#target = port;
  }

  async open() {
    this.#server = createServer((client) => this.#serve(client)).listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    this.port = this.#server.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
  }

  get connections() {
    return this.#pairs.size;
  }

  #serve(client) {
    this.accepted++;
    const server = connect(this.#target, '127.0.0.1');
    const pair = { client, server };
    this.#pairs.add(pair);
    let left = this.cutAfter;
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    let isFirst = true;
    client.on('data', (data) => {
      if (this.swallows) return;
      if (isFirst && this.refuses(data.toString('latin1'))) return end();
      isFirst = false;
      server.write(data);
    });
    server.on('data', (data) => {
      if (left !== null && data.length >= left) {
        client.write(data.subarray(0, left), end);
        left = 0;
        return;
      }
      if (left !== null) left -= data.length;
      if (!client.write(data)) {
        server.pause();
        client.once('drain', () => this.#isFrozen || server.resume());
      }
    });
    if (this.#isFrozen) server.pause();
  }

  /** Break all connections, as a network that is lost. */
  cut() {
    for (const { client, server } of [...this.#pairs]) {
      // Not resetAndDestroy: Node 20 can then hang at its exit, closing handles for ever.
      client.destroy();
      server.destroy();
    }
    this.#pairs.clear();
  }

  /** Take nothing more from the server: to it, all clients have stopped reading. */
  freeze() {
    this.#isFrozen = true;
    for (const { server } of this.#pairs) server.pause();
  }

  thaw() {
    this.#isFrozen = false;
    for (const { server } of this.#pairs) server.resume();
  }

  close() {
    this.cut();
    this.#server.close();
  }
}
