// Waiting for what has to happen; nothing here waits for time to pass.

import { triode } from '../../triode.js';

export const TRANSPORTS = globalThis.WebSocket ? ['websocket', 'sse'] : ['sse'];

/** A client of the transport, closed with the test `context`. */
export function client(context, url, transport, options = {}) {
  const only = transport === 'sse' ? { WebSocket: null } : {};
  const t = triode(url, { delayMs: 20, maxDelayMs: 200, timeoutMs: 5000, ...only, ...options });
  t.on('error', () => {}); // what matters is asserted
  context.after(() => t.close());
  return t;
}

/** Wait until `event` has happened and `isTrue()` of what it said. */
export function until(emitter, event, isTrue = () => true, deadlineMs = 10_000) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(new Error(`no such ${event} in ${deadlineMs} ms`)),
      deadlineMs,
    );
    const listener = (...values) => {
      if (!isTrue(...values)) return;
      clearTimeout(late);
      emitter.off(event, listener);
      resolve(values);
    };
    emitter.on(event, listener);
  });
}

/** Wait until `isTrue()`, looked at again after each event of the view. */
export async function untilView(view, isTrue) {
  if (isTrue()) return;
  await Promise.race(['change', 'stale', 'error'].map((event) => until(view, event, isTrue)));
}

export async function untilState(t, state) {
  if (t.state !== state) await until(t, 'state', (now) => now === state, 20_000);
}

/** Wait for what no event tells of. */
export async function untilTrue(isTrue, deadlineMs = 10_000) {
  for (const start = Date.now(); !isTrue(); await new Promise((done) => setTimeout(done, 5)))
    if (Date.now() - start > deadlineMs) throw new Error(`not in ${deadlineMs} ms`);
}
