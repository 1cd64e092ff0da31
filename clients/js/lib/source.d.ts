// What the types of the adapters have in common.

import type { Policy, Register, Triode, TriodeError } from '../triode.js';

export type { Place, Selected, Told } from '../triode.js';

/** The type of the document, if it was told:
 *  `declare module 'triode-client' { interface Register { document: Shop } }`. */
export type Document = Register extends { document: infer Doc } ? Doc : any;

export interface StateOptions<Value> {
  /** Another client than that of the page. */
  client?: Triode<any>;
  policy?: Policy;
  /** The value until there is one, and on a server. */
  initial?: Value;
}

/** With `initial` there is always a value. */
export type Begun<Value> = StateOptions<Value> & { initial: Value };

export interface State<Value> {
  value: Value | undefined;
  /** Whether it may be out of date. */
  stale: boolean;
  /** Why the server does not give it. */
  error: TriodeError | null;
}
