// What the adapters have in common.

import { triode } from '../triode.js';

let shared;

/** The client of who gives none: one for the whole page, connected to where the page is from. */
export const sharedClient = () => (shared ??= triode());

export const isBrowser = typeof document !== 'undefined';

/** What one filter shows, for as long as somebody listens: `read()` gives `{ value, stale, error }`, another
 *  object after each change. Without a filter there is nothing to show. */
export function sourceOf(client, filter, { policy, initial } = {}) {
  const listeners = new Set();
  let view;
  let isKnown = false;
  let state = { value: initial, stale: true, error: null };

  function update() {
    const { value, stale, error } = view;
    state = { value: isKnown ? value : initial, stale, error };
    for (const listener of [...listeners]) listener();
  }

  function open() {
    if (!filter || (view && !view.closed)) return;
    // One with `autoConnect: false` is connected when it is needed: never where pages are only made.
    if (client.state === 'idle') client.connect();
    view = client.watch(filter, { policy });
    view.subscribe(() => {
      isKnown = true;
      update();
    });
    for (const name of ['stale', 'error', 'close']) view.on(name, update);
    if (view.error) update();
  }

  return {
    read: () => state,

    subscribe(listener) {
      // The same function may listen twice.
      const own = () => listener();
      open();
      listeners.add(own);
      return () => {
        listeners.delete(own);
        // Not at once: who leaves to come back in the same moment (React's StrictMode, an element that
        // is moved) loses nothing.
        setTimeout(() => listeners.size || view?.close());
      };
    },
  };
}
