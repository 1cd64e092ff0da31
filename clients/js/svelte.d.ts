import type { Begun, Document, Place, Selected, State, StateOptions, Told } from './lib/source.js';

/** What `svelte/store` calls a Readable. */
export interface Store<Value> {
  subscribe(run: (value: Value) => void): () => void;
}

/** A store of what a filter selects, as the value of a view; `initial` until there is one, and on a server.
 *  It watches while somebody listens. A refusal of the filter is reported as an error that nobody caught. */
export function triodeStore<Value = never>(
  filter: Told<Value>,
  options: Begun<NoInfer<Value>>,
): Store<Value>;
export function triodeStore<const F extends string>(
  filter: Place<Document, F>,
  options: Begun<NoInfer<Selected<Document, F>>>,
): Store<Selected<Document, F>>;
export function triodeStore<Value = never>(
  filter: Told<Value>,
  options?: StateOptions<NoInfer<Value>>,
): Store<Value | undefined>;
export function triodeStore<const F extends string>(
  filter: Place<Document, F>,
  options?: StateOptions<NoInfer<Selected<Document, F>>>,
): Store<Selected<Document, F> | undefined>;

/** A store of `{ value, stale, error }` of a filter. */
export function triodeStateStore<Value = never>(
  filter: Told<Value>,
  options?: StateOptions<NoInfer<Value>>,
): Store<State<Value>>;
export function triodeStateStore<const F extends string>(
  filter: Place<Document, F>,
  options?: StateOptions<NoInfer<Selected<Document, F>>>,
): Store<State<Selected<Document, F>>>;
