import type { FunctionComponent, ReactNode } from 'react';

import type { Begun, Document, Place, Selected, State, StateOptions, Told } from './lib/source.js';
import type { Triode } from './triode.js';

/** Gives a client to all below it. */
export const TriodeProvider: FunctionComponent<{ client: Triode<any>; children?: ReactNode }>;

/** The client of the nearest `TriodeProvider`; without one that of the page. */
export function useClient(): Triode<Document>;

/** What a filter selects, as the value of a view; `initial` until there is one, and on a server. Nothing
 *  is watched without a filter. Throws the refusal of a filter, for the nearest error boundary. */
export function useTriode<Value = never>(
  filter: Told<Value> | null | undefined | false,
  options: Begun<NoInfer<Value>>,
): Value;
export function useTriode<const F extends string>(
  filter: Place<Document, F> | null | undefined | false,
  options: Begun<NoInfer<Selected<Document, F>>>,
): Selected<Document, F>;
export function useTriode<Value = never>(
  filter: Told<Value> | null | undefined | false,
  options?: StateOptions<NoInfer<Value>>,
): Value | undefined;
export function useTriode<const F extends string>(
  filter: Place<Document, F> | null | undefined | false,
  options?: StateOptions<NoInfer<Selected<Document, F>>>,
): Selected<Document, F> | undefined;

/** `{ value, stale, error }` of a filter. Throws nothing. */
export function useTriodeState<Value = never>(
  filter: Told<Value> | null | undefined | false,
  options?: StateOptions<NoInfer<Value>>,
): State<Value>;
export function useTriodeState<const F extends string>(
  filter: Place<Document, F> | null | undefined | false,
  options?: StateOptions<NoInfer<Selected<Document, F>>>,
): State<Selected<Document, F>>;
