// Svelte: `const cart = triodeStore('.cart')`, a store, and `{$cart}` in the component.

import { isBrowser, sharedClient, sourceOf } from './lib/source.js';

/** A readable store of `{ value, stale, error }` of a filter. It watches while somebody listens. */
export function triodeStateStore(filter, { client = sharedClient(), policy, initial } = {}) {
  const source = sourceOf(client, isBrowser && filter, { policy, initial });
  return {
    subscribe(run) {
      const stop = source.subscribe(() => run(source.read()));
      run(source.read()); // at once, as stores have to
      return stop;
    },
  };
}

/** A readable store of what a filter selects, as the value of a view; `initial` until there is one, and on
 *  a server. A refusal of the filter is reported as an error that nobody caught. */
export function triodeStore(filter, options) {
  const { subscribe } = triodeStateStore(filter, options);
  return {
    subscribe(run) {
      let last;
      return subscribe((state) => {
        const { value, error } = state;
        if (error && error !== last?.error) Promise.reject(error);
        const isNew = !last || last.value !== value;
        last = state;
        if (isNew) run(value);
      });
    },
  };
}
