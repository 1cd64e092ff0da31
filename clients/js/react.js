// React: `const cart = useTriode('.cart')`.

import { createContext, createElement, useContext, useMemo, useSyncExternalStore } from 'react';

import { sharedClient, sourceOf } from './lib/source.js';

const Client = createContext(null);

/** Gives a client to all below it. */
export const TriodeProvider = ({ client, children }) =>
  createElement(Client.Provider, { value: client }, children);

/** The client of the nearest `TriodeProvider`; without one that of the page. */
export const useClient = () => useContext(Client) ?? sharedClient();

/** What a filter selects, as the value of a view; `initial` until there is one, and on a server. Throws
 *  the refusal of a filter, for the nearest error boundary. */
export function useTriode(filter, options) {
  // It is rendered for these two only, and not when it goes stale. No value is an error.
  const shown = useSource(filter, options, ({ value, error }) => error ?? value);
  if (shown instanceof Error) throw shown;
  return shown;
}

/** `{ value, stale, error }` of a filter. Throws nothing. */
export const useTriodeState = (filter, options) => useSource(filter, options, (state) => state);

function useSource(filter, { client, policy, initial } = {}, pick) {
  const nearest = useClient();
  const from = client ?? nearest;
  // `initial` counts at the beginning: one that is written in place is another object each time.
  const [source, first] = useMemo(() => {
    const made = sourceOf(from, filter, { policy, initial });
    return [made, made.read()];
  }, [from, filter, policy]);
  return useSyncExternalStore(
    source.subscribe,
    () => pick(source.read()),
    () => pick(first), // on a server, and while its page is taken over
  );
}
