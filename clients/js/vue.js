// Vue: `const cart = useTriode('.cart')`, a ref.

import { hasInjectionContext, inject, shallowRef, toValue, watch } from 'vue';

import { isBrowser, sharedClient, sourceOf } from './lib/source.js';

const CLIENT = Symbol('triode');

/** A plugin that gives a client to the whole application: `app.use(triodePlugin(client))`. */
export const triodePlugin = (client) => ({ install: (app) => app.provide(CLIENT, client) });

/** The client of the application; without one that of the page. */
export const useClient = () => (hasInjectionContext() && inject(CLIENT, null)) || sharedClient();

/** Refs `{ value, stale, error }` of a filter, which may be a ref or a function. They end with the
 *  component, or the scope. */
export function useTriodeState(filter, { client = useClient(), policy, initial } = {}) {
  const refs = { value: shallowRef(initial), stale: shallowRef(true), error: shallowRef(null) };
  if (isBrowser)
    watch(
      () => toValue(filter),
      (now, _, onCleanup) => {
        const source = sourceOf(client, now, { policy, initial });
        const show = () => {
          for (const [name, value] of Object.entries(source.read())) refs[name].value = value;
        };
        onCleanup(source.subscribe(show));
        show();
      },
      { immediate: true },
    );
  return refs;
}

/** A ref of what a filter selects, as the value of a view; `initial` until there is one, and on a server. A
 *  refusal of the filter is an error of the component. */
export function useTriode(filter, options) {
  const { value, error } = useTriodeState(filter, options);
  watch(
    error,
    (refusal) => {
      if (refusal) throw refusal;
    },
    { flush: 'sync' },
  );
  return value;
}
