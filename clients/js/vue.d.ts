import type { MaybeRefOrGetter, Plugin, ShallowRef } from 'vue';

import type { Begun, Document, Place, Selected, State, StateOptions, Told } from './lib/source.js';
import type { Triode } from './triode.js';

/** A plugin that gives a client to the whole application: `app.use(triodePlugin(client))`. */
export function triodePlugin(client: Triode<any>): Plugin;

/** The client of the application; without one that of the page. */
export function useClient(): Triode<Document>;

type Filter<F> = MaybeRefOrGetter<F | null | undefined | false>;
type Refs<Value> = {
  [Name in keyof State<Value>]: Readonly<ShallowRef<State<Value>[Name]>>;
};

/** A ref of what a filter selects, as the value of a view; `initial` until there is one, and on a server.
 *  The filter may be a ref or a function; nothing is watched without one. A refusal of the filter is an
 *  error of the component. */
export function useTriode<Value = never>(
  filter: Filter<Told<Value>>,
  options: Begun<NoInfer<Value>>,
): Readonly<ShallowRef<Value | undefined>>;
export function useTriode<const F extends string>(
  filter: Filter<Place<Document, F>>,
  options: Begun<NoInfer<Selected<Document, F>>>,
): Readonly<ShallowRef<Selected<Document, F> | undefined>>;
export function useTriode<Value = never>(
  filter: Filter<Told<Value>>,
  options?: StateOptions<NoInfer<Value>>,
): Readonly<ShallowRef<Value | undefined>>;
export function useTriode<const F extends string>(
  filter: Filter<Place<Document, F>>,
  options?: StateOptions<NoInfer<Selected<Document, F>>>,
): Readonly<ShallowRef<Selected<Document, F> | undefined>>;

/** Refs `{ value, stale, error }` of a filter. */
export function useTriodeState<Value = never>(
  filter: Filter<Told<Value>>,
  options?: StateOptions<NoInfer<Value>>,
): Refs<Value>;
export function useTriodeState<const F extends string>(
  filter: Filter<Place<Document, F>>,
  options?: StateOptions<NoInfer<Selected<Document, F>>>,
): Refs<Selected<Document, F>>;
